"""Answers that are texts: frames of sound to words, and one symbol after the other to a summary.

Letters: B batch, S source positions, T frames, C symbols, N hypotheses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal.config import Decode
from moodal.preprocess.symbols import UNKNOWN
from moodal.preprocess.text import HAN
from moodal.runtime import beam, ctc
from moodal.runtime.calibrate import calibrated
from moodal.types import Said, Token

Array = NDArray[Any]

_HAN = re.compile(f"[{HAN}]")

MOST_FRAMES = 1000
"""Frames that are searched for a text at once, 40 s at the usual stride; a longer recording is cut
where it is quietest. The alignment of n frames takes memory in proportion to n squared."""
PAUSE = 13
"""Frames around a cut that are to be blank, the nearer the more: half a second at the usual stride.
A single frame between two letters of a word may be as blank as any."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """How frames become words. confidence: slope and offset, see calibrate.fit_confidence."""

    settings: Decode
    seconds_per_frame: float = 1.0
    language: ctc.Language | None = None
    confidence: tuple[float, float] = (1.0, 0.0)


def heard(logs: Array, labels: Sequence[str], hearing: Hearing) -> Said:
    """logs: (T, C) natural logs of probabilities; code 0 is the blank."""
    text, words = "", list[Token]()
    for first, part in _parts(logs):
        path = _search(part, hearing)
        text = _joined(text, "".join(labels[code] for code in path.symbols).strip())
        for token in ctc.words(labels, path, seconds_per_frame=hearing.seconds_per_frame):
            words.append(_later(token, first * hearing.seconds_per_frame))
    return _told(text, words, hearing.confidence)


def _joined(before: str, after: str) -> str:
    """A space between them, but for Chinese."""
    if not before or not after:
        return before + after
    return before + ("" if _HAN.match(before[-1]) or _HAN.match(after[0]) else " ") + after


def _search(logs: Array, hearing: Hearing) -> ctc.Path:
    settings = hearing.settings
    if settings.beam == 1:
        return ctc.greedy(logs)
    return ctc.prefix_beam(
        logs,
        width=settings.beam,
        language=hearing.language,
        weight=settings.language_weight,
        bonus=settings.language_bonus,
    )


def _parts(logs: Array) -> Iterator[tuple[int, Array]]:
    """(first frame, frames) of at most MOST_FRAMES each, cut where it is blank for longest."""
    first = 0
    while len(logs) - first > MOST_FRAMES:
        half = first + MOST_FRAMES // 2
        blank = logs[half : first + MOST_FRAMES, ctc.BLANK]
        quiet = np.convolve(blank, np.bartlett(PAUSE + 2)[1:-1], "valid")
        cut = half + PAUSE // 2 + int(quiet.argmax())
        yield first, logs[first:cut]
        first = cut
    yield first, logs[first:]


def _later(token: Token, seconds: float) -> Token:
    assert token.start is not None, "what is heard has its time"
    assert token.end is not None, "and ends"
    return token._replace(start=token.start + seconds, end=token.end + seconds)


@dataclass(frozen=True, slots=True)
class Writing:
    """How a summary is searched for. labels: C, the text of each symbol. confidence: as Hearing."""

    settings: Decode
    labels: Sequence[str]
    confidence: tuple[float, float] = (1.0, 0.0)


def said(
    step: beam.Step, state: Array, source: Array, surfaces: Sequence[Sequence[str]], how: Writing
) -> list[Said]:
    """The best answer of each record.

    step: see beam.search. state: (B, Z), before the first symbol. source: (B, S), the symbol at
    each position. surfaces: what stands at the record's own positions, which says what a symbol
    that is not known means where it is copied.
    """
    wanted = how.settings
    looked = beam.Beam(
        width=wanted.beam,
        min_length=wanted.min_length,
        max_length=wanted.max_length,
        length_penalty=wanted.length_penalty,
        no_repeat=wanted.no_repeat,
    )
    found = beam.search(step, state, source, settings=looked)
    return [_written(best, own, how) for best, own in zip(found, surfaces, strict=True)]


def _written(found: beam.Hypothesis, surfaces: Sequence[str], how: Writing) -> Said:
    texts = [
        surfaces[place] if symbol == UNKNOWN and place < len(surfaces) else how.labels[symbol]
        for symbol, place in zip(found.symbols, found.attended, strict=True)
    ]
    words: list[Token] = []
    for text, log in zip(texts, found.log_probabilities, strict=True):
        chance = float(np.exp(min(0.0, log)))
        if words and not text.startswith(" ") and not _alone(words[-1].text, text):
            last = words[-1]
            words[-1] = Token(last.text + text, min(last.confidence, chance))
        else:
            words.append(Token(text.strip(), chance))
    return _told("".join(texts).strip(), [w for w in words if w.text], how.confidence)


def _alone(before: str, text: str) -> bool:
    """Chinese characters are words of their own."""
    return bool(_HAN.search(before) or _HAN.match(text))


def _told(text: str, tokens: Sequence[Token], confidence: tuple[float, float]) -> Said:
    if not tokens:
        return Said("", (), 0.0)
    chances = calibrated(np.array([t.confidence for t in tokens]), *confidence)
    sure = tuple(t._replace(confidence=float(p)) for t, p in zip(tokens, chances, strict=True))
    return Said(text, sure, float(chances.mean()))
