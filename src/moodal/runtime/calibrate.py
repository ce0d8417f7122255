"""What is chosen on the validation set once the weights are fixed: temperatures, a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal.tasks import Task
from moodal.types import Subset

Floats = NDArray[np.floating[Any]]

MIN_ROWS = 30
"""A temperature of its own needs this many rows; a subset with fewer keeps 1."""


def temperatures(task: Task, scores: Mapping[Subset, tuple[Floats, Floats]]) -> dict[Subset, float]:
    """One temperature a subset of modalities, since each subset errs in its own way.

    scores: subset -> (raw scores (N, C), codes (N,)).
    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017).
    """
    return {
        subset: task.fit_temperature(raw, codes) if len(codes) >= MIN_ROWS else 1.0
        for subset, (raw, codes) in scores.items()
    }


def threshold(confidence: Floats, correct: NDArray[np.bool_], wanted: float) -> float:
    """The lowest confidence in [0, 1] such that answers at or above it are right often enough.

    confidence: (N,) in [0, 1]. wanted: share of right answers in (0, 1].
    Returns: 0 when all answers together are right often enough; just above the highest
        confidence when no threshold reaches `wanted`, so that the model always abstains.
    """
    if not len(confidence):
        return 0.0
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    precision = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    # Equal confidences are taken together: only the last of a run is a possible threshold.
    last_of_run = np.append(ranked[1:] != ranked[:-1], True)
    reached = np.flatnonzero((precision >= wanted) & last_of_run)
    if not len(reached):
        return float(np.nextafter(ranked[0], 2.0))
    return 0.0 if reached[-1] == len(order) - 1 else float(ranked[reached[-1]])
