"""What a calibration error means on few rows."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.base import judge


def test_right_probabilities_show_this_error_by_chance() -> None:
    confidence, rows = np.array([0.4, 0.7, 0.95]), np.array([40, 60, 50])
    rng = np.random.default_rng(0)
    right = rng.binomial(rows, confidence, (20_000, 3)) / rows
    errors = (np.abs(right - confidence) * rows).sum(1) / rows.sum()
    bins = [{"n": n, "confidence": c} for n, c in zip(rows, confidence, strict=True)]
    assert judge.by_chance(bins) == pytest.approx(errors.mean(), rel=0.02)
