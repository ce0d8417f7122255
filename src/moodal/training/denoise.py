"""Texts without an answer as practice for answers in words: of each text, a clause is to be said.

The clause is one that resembles the rest of its text, as a title or a summary does. Half the time
it is taken out, so that it must be made from the rest; half the time it is left where it is, so
that it must be found and copied.

Letters: S source positions, T output positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moodal.preprocess.symbols import START

GAP = START
"""Stands where a clause was taken out: a source holds it nowhere else, and it is never said."""

SHORTEST, LONGEST = 8, 40
"""Symbols of a clause, the stop left out."""

SHOWN = 0.5
"""How often the clause stays in the source."""

SHARPNESS = 16.0
"""The logarithm of the odds of a clause that is all found again, against one that is not at all."""

PRIOR = 10
"""Pairs a clause is taken to hold more than it does, none of them found again, so that one of few
symbols is not preferred for a lucky match."""

_STOPS = frozenset(",，.。;；、:：!！?？…")

Symbols = NDArray[np.integer]


def ends(surfaces: Sequence[str]) -> NDArray[np.bool_]:
    """(S,) bool: which surfaces end a clause; a mark between two digits is part of a number."""
    digit_before = [False, *(s[-1:].isdecimal() for s in surfaces)]
    digit_after = [*(s[:1].isdecimal() for s in surfaces[1:]), False]
    parts = zip(surfaces, digit_before, digit_after, strict=False)
    return np.array([s[-1:] in _STOPS and not (a and b) for s, a, b in parts], bool)


def hide(
    symbols: Symbols, stops: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Symbols, Symbols]:
    """One text as a question and its answer.

    symbols: (S,), S >= 1. stops: (S,), what `ends` says of their surfaces. Returns the source
    (S,), or (S',) with GAP in place of the clause, and the target (T,), the clause without its
    stop. A text without a clause of SHORTEST to LONGEST symbols gives a random stretch of half its
    length instead.

    Source: the choice by resemblance is the gap sentence of Zhang et al., PEGASUS (2020), section
    3.1, of clauses and drawn at random instead of the highest; the stretch is Song et al., MASS
    (2019), section 3.1.
    """
    found = _clauses(stops)
    if found:
        scores = np.array([_resemblance(symbols, first, last) for first, last in found])
        odds = np.exp(SHARPNESS * (scores - scores.max()))
        first, last = found[rng.choice(len(found), p=odds / odds.sum())]
    else:
        size = min((len(symbols) + 1) // 2, LONGEST)
        first = int(rng.integers(0, len(symbols) - size + 1))
        last = first + size
    target = symbols[first:last]
    if rng.random() < SHOWN:
        return symbols, target
    return np.concatenate([symbols[:first], [GAP], symbols[last:]]).astype(symbols.dtype), target


def _clauses(stops: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last + 1 of each clause, its stop left out, that is neither too short nor too
    long."""
    places = np.flatnonzero(stops)
    starts = [0, *(places + 1).tolist()]
    stretches = zip(starts, [*places.tolist(), len(stops)], strict=True)
    return [(a, b) for a, b in stretches if SHORTEST <= b - a <= LONGEST]


def _resemblance(symbols: Symbols, first: int, last: int) -> float:
    """In [0, 1): of the neighbouring pairs of a clause, how many stand elsewhere in the text."""
    pairs = list(zip(symbols[:-1].tolist(), symbols[1:].tolist(), strict=True))
    inside = pairs[first : last - 1]
    outside = {*pairs[:first], *pairs[last:]}
    return sum(pair in outside for pair in inside) / (len(inside) + PRIOR)
