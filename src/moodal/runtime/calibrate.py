"""What is chosen on the validation set once the weights are fixed: temperatures, a threshold, and
how sure the words of a text answer are."""

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

SLOPE_SPREAD = 0.3
"""Of the slope of confidences about 1: the spread of tasks.PRIOR_SPREAD, a slope being 1 / T."""
OFFSET_SPREAD = 1.0
"""Of their offset about 0, in log odds: 73 % may well mean 50 % or 88 %."""
CERTAIN = 1e-6
"""Confidences are kept this far from 0 and 1, whose log odds are infinite."""


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


def fit_confidence(
    confidences: Floats, right: NDArray[np.bool_], *, steps: int = 50
) -> tuple[float, float]:
    """Slope and offset that make confidences mean how often a token is right; (1, 0) of none.

    confidences: (N,) in [0, 1]. right: (N,). The slope is at least 0: more confidence is never
    taken for less.

    Slope and offset are taken to be near 1 and 0 beforehand (normal priors), so that a few tokens
    that happen to be right do not make all certain.
    Source: Platt, Probabilistic outputs for support vector machines (1999), section 2.2, with his
    targets that are never quite 0 or 1; its function here is of log odds instead of a margin.
    """
    if not len(confidences):
        return 1.0, 0.0
    n_right = int(right.sum())
    n_wrong = len(right) - n_right
    targets = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    inputs = np.column_stack([_log_odds(confidences), np.ones(len(right))])
    slope, offset = _most_probable(inputs, targets, np.ones(2), steps=steps)
    if slope < 0:
        slope, offset = _most_probable(inputs, targets, np.array([0.0, 1.0]), steps=steps)
    return slope, offset


def calibrated(confidences: Floats, slope: float, offset: float) -> NDArray[np.float64]:
    """(N,) in [0, 1] -> (N,) in (0, 1): sigmoid(slope * log odds + offset)."""
    return _sigmoid(slope * _log_odds(confidences) + offset)


def _most_probable(
    inputs: Floats, targets: Floats, free: Floats, *, steps: int
) -> tuple[float, float]:
    """Newton's method on minus the log posterior, which is convex, halving a step that overshoots.

    inputs: (N, 2). targets: (N,). free: (2,) 1, or 0 for a weight that is held at 0.
    """
    centre = np.array([1.0, 0.0]) * free
    precision = np.diag(np.array([SLOPE_SPREAD, OFFSET_SPREAD]) ** -2.0)

    def loss(weights: Floats) -> float:
        scores, away = inputs @ weights, weights - centre
        likely = np.logaddexp(0.0, scores) - targets * scores
        return float(likely.sum() + 0.5 * away @ precision @ away)

    weights = centre
    for _ in range(steps):
        chances = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (chances - targets) + precision @ (weights - centre)
        curvature = (inputs.T * (chances * (1 - chances))) @ inputs + precision
        # A held weight must not move the free one through the curvature between them.
        curvature = curvature * np.outer(free, free) + np.diag(1 - free)
        step = np.linalg.solve(curvature, gradient * free)
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-9:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def _log_odds(confidences: Floats) -> NDArray[np.float64]:
    inside = np.clip(confidences.astype(np.float64), CERTAIN, 1 - CERTAIN)
    return np.asarray(np.log(inside / (1 - inside)))


def _sigmoid(scores: Floats) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0.0, -scores)))
