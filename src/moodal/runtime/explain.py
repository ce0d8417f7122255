"""Whose share of the answer is whose: exact Shapley values over the modalities."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import factorial

from moodal.types import Modality, Subset


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
