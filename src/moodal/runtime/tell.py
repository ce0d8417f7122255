"""From encodings to each record's answer: scores, speech written down, or a text.

Letters: B batch, S source positions, T frames, C symbols or labels, N hypotheses, Z width of a
state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal import bundle
from moodal.preprocess.audio import seconds_per_frame
from moodal.preprocess.symbols import Symbols
from moodal.runtime import sequences
from moodal.runtime.characters import CharacterModel
from moodal.runtime.session import MEMORY, Sessions
from moodal.tasks import TASKS, Answered, Head
from moodal.types import Modality, Record, Seq, Subset

Array = NDArray[Any]
Encoded = Mapping[Modality, Seq[Array]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Some records' arrays and encodings (B rows), and what is to be answered: row and subset."""

    records: Sequence[Record]
    arrays: Sequence[Mapping[Modality, Array]]
    encoded: Encoded
    pairs: Sequence[tuple[int, Subset]]


@dataclass(frozen=True, slots=True)
class Teller:
    """A model's parts. symbols: what its texts are made of; language: of its transcripts."""

    sessions: Sessions
    info: bundle.Info
    symbols: Symbols | None = None
    language: CharacterModel | None = None

    def tell(self, asked: Asked) -> list[tuple[Answered, Answered]]:
        """Of each pair: the raw answer, and the calibrated one (of a text there is no other)."""
        return TELL[TASKS[self.info.task].head](self, asked)


def shown(teller: Teller, encoded: Encoded, pairs: Sequence[tuple[int, Subset]]) -> Encoded:
    """Encodings of every modality the model knows, one row a pair, what is not asked of hidden."""
    rows = np.array([row for row, _ in pairs])
    seqs = {}
    for modality in teller.info.modalities:
        if modality not in encoded:
            seqs[modality] = teller.sessions.absent(modality, len(rows))
            continue
        there = np.array([modality in subset for _, subset in pairs])[:, None]
        seq = encoded[modality]
        seqs[modality] = Seq(seq.x[rows], seq.mask[rows] & there)
    return seqs


def score(teller: Teller, encoded: Encoded, pairs: Sequence[tuple[int, Subset]]) -> Array:
    """Raw scores (len(pairs), C) of one answer a record, one run of the head."""
    return teller.sessions.answer(shown(teller, encoded, pairs))


def _scored(teller: Teller, asked: Asked) -> list[tuple[Answered, Answered]]:
    task, heat = TASKS[teller.info.task], teller.info.temperatures
    raw = score(teller, asked.encoded, asked.pairs)
    return [
        (values, task.activate(values[None], heat.get(bundle.subset_name(subset), 1.0))[0])
        for values, (_, subset) in zip(raw, asked.pairs, strict=True)
    ]


def _heard(teller: Teller, asked: Asked) -> list[tuple[Answered, Answered]]:
    info = teller.info
    scores, mask = teller.sessions.frames(asked.encoded["audio"])
    hearing = sequences.Hearing(
        info.decode,
        seconds_per_frame(info.audio) * info.stride,
        None if teller.language is None else teller.language.over(info.labels),
        info.confidence,
    )
    told = [
        sequences.heard(_log_softmax(scores[row, : mask[row].sum()]), info.labels, hearing)
        for row, _ in asked.pairs
    ]
    return [(said, said) for said in told]


def _log_softmax(scores: Array) -> Array:
    """(T, C) -> (T, C)."""
    low = scores.astype(np.float64) - scores.max(axis=-1, keepdims=True)
    return np.asarray(low - np.log(np.exp(low).sum(axis=-1, keepdims=True)))


def _said(teller: Teller, asked: Asked) -> list[tuple[Answered, Answered]]:
    encoded = shown(teller, asked.encoded, asked.pairs)
    source, surfaces = _source(teller, asked, encoded)
    *memory, state = teller.sessions.remember(source, encoded)
    info = teller.info
    how = sequences.Writing(info.decode, info.labels, info.confidence)
    held = memory[MEMORY.index("source")]
    told = sequences.said(_step(teller.sessions, memory), state, held, surfaces, how)
    return [(said, said) for said in told]


def _source(teller: Teller, asked: Asked, encoded: Encoded) -> tuple[Array, list[list[str]]]:
    """(B, S) the symbols of what is read, and the surfaces of each row; features have none."""
    width = encoded["text"].mask.shape[1] if "text" in encoded else 1
    source = np.zeros((len(asked.pairs), width), np.int64)
    surfaces: list[list[str]] = [[] for _ in asked.pairs]
    known = teller.symbols if teller.info.kinds.get("text") == "symbols" else None
    for place, (row, subset) in enumerate(asked.pairs):
        if known is None or "text" not in subset:
            continue
        symbols, text = asked.arrays[row]["text"][:, 0], asked.records[row].text
        source[place, : len(symbols)] = symbols
        if isinstance(text, str):
            surfaces[place] = known.split(text)
    return source, surfaces


def _step(sessions: Sessions, memory: Sequence[Array]) -> Callable[..., Any]:
    """One step of N hypotheses; what each looks at is gathered anew only when they change."""
    held: dict[bytes, list[Array]] = {}

    def step(previous: Array, state: Array, rows: Array) -> list[Array]:
        key = rows.tobytes()
        if key not in held:
            held.clear()
            held[key] = [part[rows] for part in memory]
        return sessions.step(previous, state, held[key])

    return step


TELL: dict[Head, Callable[[Teller, Asked], list[tuple[Answered, Answered]]]] = {
    "summary": _scored,
    "frames": _heard,
    "decoder": _said,
}
