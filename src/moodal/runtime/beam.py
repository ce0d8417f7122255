"""The likeliest answer in words, several tried at once, from a model that names one symbol after
the other.

Letters: B batch (records), N hypotheses that go on, of all records, n of one record, S source
positions, C output width (symbols), Z width of a model's state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal.preprocess.symbols import END, PADDING, START, UNKNOWN

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]

Step = Callable[[Integers, Floats, Integers], tuple[Floats, Floats, Floats]]
"""(the symbols said last (N,), states (N, Z), the record of each (N,)) -> log-probabilities (N, C),
the next states (N, Z), attention (N, S)."""


@dataclass(frozen=True, slots=True)
class Beam:
    """How an answer is looked for.

    width: hypotheses of a record that go on; 1 = greedy.
    min_length, max_length: symbols of an answer, END not counted; what is longest ends as it is.
    length_penalty: alpha of Wu et al. 2016, equation 14, 0 or more; 0 = none, short answers win.
    no_repeat: no run of so many symbols stands twice in an answer; 0 = any may.
    """

    width: int = 4
    min_length: int = 1
    max_length: int = 64
    length_penalty: float = 0.6
    no_repeat: int = 3


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One answer, END left out.

    log_probabilities: of each symbol after those before it.
    attended: the source position looked at most for each symbol; for UNKNOWN the one among those
    that hold UNKNOWN, if there are any, whose surface is what was meant.
    score: the sum of the logarithms, END's with them, over the length penalty.
    """

    symbols: tuple[int, ...] = ()
    log_probabilities: tuple[float, ...] = ()
    attended: tuple[int, ...] = ()
    score: float = 0.0


@dataclass(slots=True)
class _Record:
    """One record's search. The scores of its hypotheses are sums; those that ended hold END's."""

    source: NDArray[np.integer[Any]]
    going: list[Hypothesis] = field(default_factory=lambda: [Hypothesis()])
    ended: list[Hypothesis] = field(default_factory=list)


def search(
    step: Step, state: Floats, source: NDArray[np.integer[Any]], *, settings: Beam
) -> list[Hypothesis]:
    """The best answer of each record. A record that is done takes no further part.

    state: (B, Z), before the first symbol. source: (B, S), the symbol at each position; PADDING
    where it has none.
    """
    records = [_Record(symbols) for symbols in source]
    active, rows = records, np.arange(len(records))
    for _ in range(settings.max_length):
        said = [h.symbols[-1] if h.symbols else START for r in active for h in r.going]
        logs, state, attention = step(np.array(said, np.int64), state, rows)
        kept: list[int] = []
        first = 0
        for record in active:
            own = slice(first, first + len(record.going))
            kept += [first + n for n in _advance(record, logs[own], attention[own], settings)]
            first = own.stop
        state, rows = state[kept], rows[kept]
        active = [record for record in active if record.going]
        if not active:
            break
    return [_best(record, settings.length_penalty) for record in records]


def _advance(record: _Record, logs: Floats, attention: Floats, settings: Beam) -> list[int]:
    """One symbol more; the places in `going` of those that go on. logs: (n, C), attention: (n, S).

    Of the best 2 * width continuations, END counts among the first `width`, and the others go on;
    with `width` answers the record is done. Source: Wu et al. 2016, section 7.
    """
    before, record.going = record.going, []
    logs = np.stack([_allowed(h, row, settings) for h, row in zip(before, logs, strict=True)])
    totals = np.array([h.score for h in before])[:, None] + logs
    kept: list[int] = []
    for rank, place in enumerate(_highest(totals, 2 * settings.width)):
        parent, symbol = divmod(place, logs.shape[1])
        if symbol == END and rank < settings.width:
            record.ended.append(replace(before[parent], score=float(totals[parent, END])))
        elif symbol != END and len(kept) < settings.width:
            where = _attended(symbol, attention[parent], record.source)
            record.going.append(_continued(before[parent], symbol, logs[parent, symbol], where))
            kept.append(parent)
    if len(record.ended) >= settings.width:
        record.going, kept = [], []
    if not kept and not record.ended:  # nothing may follow: they end as they are
        record.ended = before
    return kept


def _allowed(hypothesis: Hypothesis, logs: Floats, settings: Beam) -> Floats:
    """(C,) with -inf for what may not follow."""
    logs = logs.astype(np.float64)
    logs[[PADDING, START]] = -np.inf
    logs[_repeating(hypothesis.symbols, settings.no_repeat)] = -np.inf
    if len(hypothesis.symbols) < settings.min_length:
        logs[END] = -np.inf
    return logs


def _repeating(symbols: tuple[int, ...], size: int) -> list[int]:
    """The symbols that would end a run of `size` that stands in `symbols` already."""
    if not 0 < size <= len(symbols):
        return []
    last = symbols[len(symbols) - size + 1 :]
    starts = range(len(symbols) - size + 1)
    return [symbols[i + size - 1] for i in starts if symbols[i : i + size - 1] == last]


def _highest(totals: Floats, n: int) -> list[int]:
    """Places in the flat array of the n highest finite values, the highest first."""
    flat = totals.ravel()
    places = np.argpartition(-flat, n)[:n] if n < flat.size else np.arange(flat.size)
    places = places[np.lexsort((places, -flat[places]))]
    found: list[int] = places[np.isfinite(flat[places])].tolist()
    return found


def _continued(before: Hypothesis, symbol: int, log: float, where: int) -> Hypothesis:
    return Hypothesis(
        (*before.symbols, symbol),
        (*before.log_probabilities, float(log)),
        (*before.attended, where),
        before.score + float(log),
    )


def _attended(symbol: int, attention: Floats, source: NDArray[np.integer[Any]]) -> int:
    """Where it was looked at most. attention: (S,), source: (S,)."""
    unknown = source == UNKNOWN
    if symbol == UNKNOWN and unknown.any():
        attention = np.where(unknown, attention, -1.0)
    return int(attention.argmax())


def _best(record: _Record, alpha: float) -> Hypothesis:
    """The highest score / ((5 + length) / 6)^alpha. Source: Wu et al. 2016, equation 14."""
    scored = [
        replace(h, score=h.score / ((5 + len(h.symbols)) / 6) ** alpha)
        for h in (*record.ended, *record.going)
    ]
    return max(scored, key=lambda h: h.score)
