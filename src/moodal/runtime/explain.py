"""Whose share of the answer is whose: Shapley values of modalities, hiding words one by one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal.preprocess.vocabulary import FIRST, PADDING, UNKNOWN, Vocabulary
from moodal.types import Modality, Seq, Subset

Array = NDArray[Any]


def shapley(worth: Mapping[Subset, float], players: Subset) -> dict[Modality, float]:
    """Each player's exact share of worth[players] - worth[()].

    worth: every subset of players, the empty one included, -> the score with it alone.
    Source: Shapley, A Value for n-Person Games (1953), equation 13.
    """
    return {player: _share(worth, players, player) for player in players}


def _share(worth: Mapping[Subset, float], players: Subset, player: Modality) -> float:
    n, share = len(players), 0.0
    others = [p for p in players if p != player]
    for size in range(n):
        weight = factorial(size) * factorial(n - size - 1) / factorial(n)
        for coalition in combinations(others, size):
            joined = tuple(p for p in players if p in coalition or p == player)
            share += weight * (worth[joined] - worth[coalition])
    return share


def words_held(pieces: Array, vocabulary: Vocabulary) -> Array:
    """(S, K) numbers of pieces -> (S, K): how many words each piece is a run of."""
    held = {
        number: 1 if piece.startswith(" ") else 1 + piece.count(" ")
        for number in np.unique(pieces).tolist()
        if number >= FIRST and (piece := vocabulary.pieces[number - FIRST])
    }
    return np.array([[held.get(number, 1) for number in row] for row in pieces.tolist()])


def hide_each(pieces: Array, n_words: Array, positions: Array) -> Seq[Array]:
    """A text with one word hidden, once for each of n positions.

    pieces: (S, K). n_words: (S, K), as `words_held`. positions: (n,), below S.
    Returns: x (n, S, K), mask (n, S). The word's position is masked; the runs of words that end
        later and hold it ("not" in "not good") are gone too, or it would still be read there.
    """
    n_positions = len(pieces)
    x = np.repeat(pieces[None], len(positions), 0)
    for distance in range(1, int(n_words.max())):
        rows = np.flatnonzero(positions + distance < n_positions)
        later = positions[rows] + distance
        left = np.where(n_words[later] > distance, PADDING, x[rows, later])
        left[~left.any(axis=1), 0] = UNKNOWN
        x[rows, later] = left
    return Seq(x, np.arange(n_positions) != positions[:, None])
