"""Temperatures against known ones; thresholds worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodal.runtime import calibrate
from moodal.runtime.calibrate import threshold
from moodal.tasks import TASKS, softmax
from moodal.types import Subset

LABELLED = next(task for task in TASKS.values() if task.higher_is_better)
NUMBERED = next(task for task in TASKS.values() if not task.higher_is_better)


def drawn(temperature: float, *, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores, and labels drawn from their softmax at a temperature."""
    rng = np.random.default_rng(3)
    raw = rng.normal(0.0, 3.0, (n, 3))
    chances = softmax(raw, temperature).cumsum(axis=1)
    return raw, (rng.random((n, 1)) > chances).sum(axis=1).clip(0, 2)


@pytest.mark.parametrize("known", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(known: float) -> None:
    found = calibrate.temperatures(LABELLED, {("text",): drawn(known)})
    assert found[("text",)] == pytest.approx(known, rel=0.05)


def test_each_subset_has_its_own() -> None:
    subsets: dict[Subset, float] = {("text",): 2.0, ("image",): 0.7, ("text", "image"): 1.0}
    found = calibrate.temperatures(LABELLED, {s: drawn(t, n=5000) for s, t in subsets.items()})
    assert found == pytest.approx(subsets, rel=0.1)


def test_the_temperature_never_makes_the_likelihood_worse() -> None:
    raw, codes = drawn(3.0, n=500)
    temperature = LABELLED.fit_temperature(raw, codes)

    def loss(t: float) -> float:
        return float(-np.log(softmax(raw, t)[np.arange(500), codes]).mean())

    assert loss(temperature) < loss(1.0)
    # The prior pulls it towards 1; 500 rows let it cost next to nothing.
    assert loss(temperature) <= min(loss(t) for t in np.geomspace(0.05, 20, 200)) + 0.005


def test_too_few_rows_keep_one() -> None:
    raw, codes = drawn(3.0, n=calibrate.MIN_ROWS)
    few = raw[:-1], codes[:-1]
    assert calibrate.temperatures(LABELLED, {("text",): few}) == {("text",): 1.0}
    assert calibrate.temperatures(LABELLED, {("text",): (raw, codes)})[("text",)] > 1.2


def test_a_number_has_no_temperature() -> None:
    values = np.arange(50.0)
    assert calibrate.temperatures(NUMBERED, {("text",): (values[:, None], values)}) == {
        ("text",): 1.0
    }


def sure(*pairs: tuple[float, int], wanted: float) -> float:
    confidence, right = zip(*pairs, strict=True)
    return threshold(np.array(confidence), np.array(right, dtype=bool), wanted)


def test_threshold_by_hand() -> None:
    # Right so far, the surest first: 1/1, 2/2, 2/3, 3/4, 3/5.
    ranked = (0.9, 1), (0.8, 1), (0.7, 0), (0.6, 1), (0.5, 0)
    assert sure(*ranked, wanted=1.0) == 0.8
    assert sure(*ranked, wanted=0.75) == 0.6  # it is enough again after it was not
    assert sure(*ranked, wanted=0.6) == 0.0  # all together will do
    assert sure(*ranked[::-1], wanted=0.75) == 0.6  # whatever the order of the rows


def test_equal_confidences_stand_or_fall_together() -> None:
    # 0.8 is either all three (2/3 right) or none of them; 0.9 alone is right.
    ranked = (0.9, 1), (0.8, 1), (0.8, 1), (0.8, 0), (0.1, 0)
    assert sure(*ranked, wanted=0.9) == 0.9
    assert sure(*ranked, wanted=0.75) == 0.8


def test_a_precision_never_reached_abstains_always() -> None:
    found = sure((0.9, 0), (0.8, 1), wanted=0.9)
    assert 0.9 < found < 0.9 + 1e-9
    certain = sure((1.0, 0), wanted=0.9)
    assert certain > 1.0, "even a certain answer is under it"


def test_all_right_never_abstains() -> None:
    assert sure((0.9, 1), (0.2, 1), wanted=1.0) == 0.0


def test_no_rows_never_abstain() -> None:
    assert threshold(np.zeros(0), np.zeros(0, dtype=bool), 0.9) == 0.0


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.4, 0.6, 0.9]), st.booleans()), min_size=1),
    st.sampled_from([0.5, 0.8, 1.0]),
)
def test_it_is_the_lowest_that_keeps_the_promise(
    rows: list[tuple[float, bool]], wanted: float
) -> None:
    confidence, right = (np.array(column) for column in zip(*rows, strict=True))
    found = threshold(confidence, right, wanted)

    def kept_promise(lowest: float) -> bool:
        answered = right[confidence >= lowest]
        return len(answered) == 0 or answered.mean() >= wanted

    assert kept_promise(found)
    lower = {c for c in confidence if c < found}
    assert not any(kept_promise(c) for c in lower)
