"""Frames of symbol probabilities to a text: CTC's decoding, alignment and times. Pure numpy.

A path names a symbol for every frame, 0 being the blank; its text is the path with repeats
collapsed, then blanks dropped (Graves et al., Connectionist temporal classification, ICML 2006,
section 3.1: the map B).

Letters: T frames, C symbols with the blank, L symbols of a text, and 2L + 1 states: a text with
blanks around and between its symbols.
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moodal.errors import RecordError
from moodal.preprocess.text import HAN
from moodal.types import Token

Floats = NDArray[np.floating[Any]]

Language = Callable[[tuple[int, ...], int], float]
"""(the last symbols, the next one; 0 = the end) -> natural log of how probable it is.

A text of up to LOOK_BACK symbols is given from its beginning, of a longer one the last LOOK_BACK.
"""

BLANK = 0
LOOK_BACK = 16
LEAST = math.log(1e-3)
"""A symbol less probable than this in a frame starts no new prefix there: a trained network leaves
a handful of symbols above it."""

_HAN = re.compile(f"[{HAN}]")


class Path(NamedTuple):
    """A text, and where in the sound it stands.

    symbols: (L,) codes, none of them BLANK.
    log_probability: natural log of the probability of the text, over all its paths.
    first, last: (L,) each, the frames of a symbol on the text's most probable path, both included.
    confidence: (L,) in [0, 1].
    """

    symbols: tuple[int, ...]
    log_probability: float
    first: tuple[int, ...]
    last: tuple[int, ...]
    confidence: tuple[float, ...]


def greedy(log_probabilities: Floats) -> Path:
    """The text of the most probable path, which need not be the most probable text.

    log_probabilities: (T, C), natural logs, rows adding up to 1.
    Source: Graves et al. 2006, section 3.2, best path decoding.
    """
    return path(log_probabilities, collapse(log_probabilities.argmax(axis=1).tolist()))


def collapse(frames: Sequence[int]) -> tuple[int, ...]:
    """The text of a path: repeats collapsed, then blanks dropped."""
    before = [BLANK, *frames]
    return tuple(s for s, last in zip(frames, before, strict=False) if s not in (BLANK, last))


def path(log_probabilities: Floats, symbols: Sequence[int]) -> Path:
    """A text with its probability, its frames and its confidence.

    A symbol is as probable as the surest of its frames says: CTC answers with one sharp frame a
    symbol, and its neighbours, where blank takes over, say when it ended and not what it was. On
    strings of digits (benchmarks/digits.py), by known and by unknown voices, words were then right
    and wrong more nearly as often as their calibrated confidences say than with the mean.

    Raises: RecordError as align.
    """
    first, last = align(log_probabilities, symbols)
    confidence = tuple(
        float(np.exp(min(0.0, log_probabilities[begin : end + 1, symbol].max())))
        for symbol, begin, end in zip(symbols, first, last, strict=True)
    )
    log_probability = likelihood(log_probabilities, symbols)
    return Path(tuple(symbols), log_probability, first, last, confidence)


def frames_needed(symbols: Sequence[int]) -> int:
    """The fewest frames that can say it: equal neighbours need a blank between them."""
    return len(symbols) + sum(a == b for a, b in itertools.pairwise(symbols))


def likelihood(log_probabilities: Floats, symbols: Sequence[int]) -> float:
    """The natural log of the probability of a text; -inf when there are too few frames for it.

    log_probabilities: (T, C). symbols: (L,).
    Source: Graves et al. 2006, section 4.1, equations 6 to 8.
    """
    reached = _start(len(symbols))
    states, skips = _states(symbols)
    for frame in _by_state(log_probabilities, states):
        reached = np.logaddexp.reduce(_arrivals(reached, skips)) + frame
    return float(np.logaddexp.reduce(reached[-2:]))


def align(
    log_probabilities: Floats, symbols: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The most probable path of a text.

    log_probabilities: (T, C). symbols: (L,).
    Returns: the first and the last frame of each symbol, (L,) both.
    Raises: RecordError when the text needs more frames than there are.
    Source: Graves et al. 2006, equation 6, with the sum made a maximum (Viterbi 1967).
    """
    n_frames, needed = len(log_probabilities), frames_needed(symbols)
    if n_frames < needed:
        raise RecordError(
            f"a text of {len(symbols)} symbols needs {needed} frames, the recording has {n_frames};"
            " shorten the text or give the whole recording",
            field="audio",
        )
    reached, (states, skips) = _start(len(symbols)), _states(symbols)
    steps = np.zeros((n_frames, len(states)), np.int8)  # from how many states before
    for t, frame in enumerate(_by_state(log_probabilities, states)):
        arrivals = _arrivals(reached, skips)
        steps[t] = arrivals.argmax(axis=0)
        reached = arrivals.max(axis=0) + frame
    return _spans(_walk(steps, reached), len(symbols))


def prefix_beam(
    log_probabilities: Floats,
    *,
    width: int = 16,
    language: Language | None = None,
    weight: float = 0.0,
    bonus: float = 0.0,
) -> Path:
    """The most probable text, kept track of by prefixes: all paths of one prefix count together.

    log_probabilities: (T, C). width: prefixes kept a frame, at least 1.
    language: what text is usual; its log probability counts `weight` times, and each symbol adds
        `bonus`, without which a language model prefers short texts. Both are 0 for sound alone.
    Returns: the Path, its log_probability that of the sound alone.
    Source: Hannun et al., First-pass large vocabulary continuous speech recognition using
    bi-directional recurrent DNNs (2014), algorithm 1, over characters instead of words; Graves and
    Jaitly, Towards end-to-end speech recognition (ICML 2014), algorithm 1.
    """
    tree = _Tree(language if weight else None, weight, bonus)
    beam: _Beam = {_Tree.ROOT: (0.0, -math.inf)}
    for frame in log_probabilities:
        longer = _extend(beam, tree, frame.tolist(), np.flatnonzero(frame > LEAST).tolist())
        worth = {prefix: _add(*ends) + tree.usual[prefix] for prefix, ends in longer.items()}
        kept = heapq.nlargest(width, worth, key=worth.__getitem__)
        beam = {prefix: longer[prefix] for prefix in kept}
    best = max(beam, key=lambda prefix: _add(*beam[prefix]) + tree.usual_whole(prefix))
    return path(log_probabilities, tree.text(best))


def words(labels: Sequence[str], path: Path, *, seconds_per_frame: float) -> tuple[Token, ...]:
    """The words of a path, with their times.

    labels: (C,) the character of each symbol. Words stand between spaces; a Chinese character is a
        word of its own. A word is as sure as all its characters together, which CTC takes to be
        independent (Graves et al. 2006, equation 2). It starts where its first character does and
        ends with its last.
    """
    spans: list[list[int]] = []
    follows = False
    for place, symbol in enumerate(path.symbols):
        alone = bool(_HAN.match(labels[symbol]))
        if labels[symbol].isspace():
            follows = False
        elif follows and not alone:
            spans[-1].append(place)
        else:
            spans.append([place])
            follows = not alone
    return tuple(
        Token(
            text="".join(labels[path.symbols[place]] for place in span),
            confidence=math.prod(path.confidence[place] for place in span),
            start=path.first[span[0]] * seconds_per_frame,
            end=(path.last[span[-1]] + 1) * seconds_per_frame,
        )
        for span in spans
    )


# The states of one text


def _states(symbols: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(2L + 1,) the symbol of each state, and (2L + 1,) 0 where it may be reached from two before,
    past a blank, else -inf: a symbol unlike the one before it."""
    states = np.full(2 * len(symbols) + 1, BLANK, np.int64)
    states[1::2] = symbols
    skips = np.full(len(states), -np.inf)
    skips[3::2][states[3::2] != states[1:-2:2]] = 0.0
    return states, skips


def _start(n_symbols: int) -> NDArray[np.float64]:
    """Before the first frame: as if in the first blank, from which the first symbol is one step."""
    reached = np.full(2 * n_symbols + 1, -np.inf)
    reached[0] = 0.0
    return reached


def _by_state(
    log_probabilities: Floats, states: NDArray[np.int64]
) -> Iterator[NDArray[np.float64]]:
    """T times (2L + 1,). A frame's, since all of a long recording's need not fit."""
    for frame in log_probabilities:
        yield frame[states].astype(np.float64)


def _arrivals(reached: NDArray[np.float64], skips: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 2L + 1): what comes from the state itself, from the one before, from two before."""
    arrivals = np.full((3, len(reached)), -np.inf)
    arrivals[0] = reached
    arrivals[1, 1:] = reached[:-1]
    arrivals[2, 2:] = reached[:-2] + skips[2:]
    return arrivals


def _walk(steps: NDArray[np.int8], reached: NDArray[np.float64]) -> NDArray[np.int64]:
    """(T,) the states of the most probable path, found from its end."""
    n_frames, n_states = steps.shape
    state = n_states - 1
    if n_states > 1 and reached[-2] > reached[-1]:
        state -= 1
    states = np.empty(n_frames, np.int64)
    for t in range(n_frames - 1, -1, -1):
        states[t] = state
        state -= int(steps[t, state])
    return states


def _spans(states: NDArray[np.int64], n_symbols: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(T,) states, never falling -> the first and last frame of each symbol."""
    wanted = 2 * np.arange(n_symbols) + 1
    first = np.searchsorted(states, wanted, "left")
    last = np.searchsorted(states, wanted, "right") - 1
    return tuple(first.tolist()), tuple(last.tolist())


# The prefixes of many


_Ends = tuple[float, float]
"""Log probability of all paths of a prefix that end in a blank, and of those that do not."""
_Beam = dict[int, _Ends]
"""Prefix, as its place in the tree -> how probable."""


class _Tree:
    """The prefixes met, each one symbol longer than its parent: a long one costs as little as a
    short one, and what is usual is asked once each.

    usual: prefix -> what the language model and the bonus say of it.
    """

    ROOT = 0

    def __init__(self, language: Language | None, weight: float, bonus: float) -> None:
        self.language, self.weight, self.bonus = language, weight, bonus
        self.parents, self.symbols, self.usual = [self.ROOT], [BLANK], [0.0]
        self.known: dict[tuple[int, int], int] = {}

    def longer(self, prefix: int, symbol: int) -> int:
        found = self.known.get((prefix, symbol))
        if found is None:
            found = self.known[prefix, symbol] = len(self.parents)
            self.parents.append(prefix)
            self.symbols.append(symbol)
            self.usual.append(self.usual[prefix] + self.bonus + self._say(prefix, symbol))
        return found

    def usual_whole(self, prefix: int) -> float:
        """With the end of the text after it."""
        return self.usual[prefix] + self._say(prefix, BLANK)

    def text(self, prefix: int, *, most: int | None = None) -> tuple[int, ...]:
        """At most the last `most` symbols."""
        backwards: list[int] = []
        while prefix != self.ROOT and len(backwards) != most:
            backwards.append(self.symbols[prefix])
            prefix = self.parents[prefix]
        return tuple(reversed(backwards))

    def _say(self, prefix: int, symbol: int) -> float:
        if self.language is None:
            return 0.0
        return self.weight * self.language(self.text(prefix, most=LOOK_BACK), symbol)


def _extend(beam: _Beam, tree: _Tree, frame: Sequence[float], likely: Sequence[int]) -> _Beam:
    """One frame further. likely: the symbols that may start a new prefix."""
    longer: _Beam = {}
    for prefix, (blank, symbol) in beam.items():
        total, last = _add(blank, symbol), tree.symbols[prefix]
        stays = symbol + frame[last]  # never of the root, which no symbol ends
        _join(longer, prefix, total + frame[BLANK], stays)
        for next_symbol in likely:
            if next_symbol != BLANK:
                before = blank if next_symbol == last else total  # a repeat needs a blank between
                place = tree.longer(prefix, next_symbol)
                _join(longer, place, -math.inf, before + frame[next_symbol])
    return longer


def _join(beam: _Beam, prefix: int, blank: float, symbol: float) -> None:
    old = beam.get(prefix)
    if old is not None:
        blank, symbol = _add(old[0], blank), _add(old[1], symbol)
    beam[prefix] = blank, symbol


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b)); numpy's is ten times slower on single numbers."""
    low, high = (a, b) if a < b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
