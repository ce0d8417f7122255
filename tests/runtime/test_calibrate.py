"""Temperatures against known ones; thresholds worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodal.runtime import calibrate
from moodal.runtime.calibrate import calibrated, fit_confidence, threshold
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


def tokens(slope: float, offset: float, *, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and tokens that are right as often as slope and offset say."""
    rng = np.random.default_rng(5)
    confidences = rng.beta(4, 1, n)
    return confidences, rng.random(n) < calibrated(confidences, slope, offset)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.5, 0.7), (1.6, -1.0)])
def test_a_known_slope_and_offset_are_found(slope: float, offset: float) -> None:
    assert fit_confidence(*tokens(slope, offset)) == pytest.approx((slope, offset), abs=0.1)


def test_confidences_mean_how_often_a_token_is_right() -> None:
    confidences, right = tokens(0.4, -0.5)
    mended = calibrated(confidences, *fit_confidence(confidences, right))
    for low in (0.3, 0.4, 0.5, 0.6):
        here = (mended >= low) & (mended < low + 0.1)
        assert right[here].mean() == pytest.approx(mended[here].mean(), abs=0.03)


def test_a_few_tokens_all_right_are_not_certain() -> None:
    few, many = (
        float(calibrated(np.array([0.9]), *fit_confidence(np.full(n, 0.9), np.ones(n, bool)))[0])
        for n in (5, 5000)
    )
    assert 0.85 < few < 0.9, "Platt's target for five of five is 6/7"
    assert 0.99 < many < 1.0


def test_it_is_the_most_probable_by_a_search() -> None:
    confidences, right = tokens(0.6, 0.5, n=60)
    n_right = int(right.sum())
    targets = np.where(right, (n_right + 1) / (n_right + 2), 1 / (60 - n_right + 2))

    def loss(slope: float, offset: float) -> float:
        chances = calibrated(confidences, slope, offset)
        likely = targets * np.log(chances) + (1 - targets) * np.log(1 - chances)
        prior = ((slope - 1) / calibrate.SLOPE_SPREAD) ** 2 + (
            offset / calibrate.OFFSET_SPREAD
        ) ** 2
        return float(prior / 2 - likely.sum())

    found = loss(*fit_confidence(confidences, right))
    steps = np.linspace(-2, 2, 81)
    assert found <= min(loss(1 + a, b) for a in steps for b in steps) + 1e-9


def test_more_confidence_is_never_taken_for_less() -> None:
    confidences, right = tokens(1.0, 0.0, n=2000)
    slope, offset = fit_confidence(1 - confidences, right)
    assert slope == 0.0
    assert calibrated(np.array([0.5]), slope, offset)[0] == pytest.approx(right.mean(), abs=0.01)


def test_no_token_leaves_confidences_alone() -> None:
    assert fit_confidence(np.zeros(0), np.zeros(0, bool)) == (1.0, 0.0)
    some = np.array([0.0, 0.2, 0.9, 1.0])
    assert calibrated(some, 1.0, 0.0) == pytest.approx(some, abs=1e-5)


def test_certain_and_impossible_confidences_are_borne() -> None:
    found = fit_confidence(np.array([0.0, 1.0, 1.0, 0.0]), np.array([True, False, True, False]))
    assert np.isfinite(found).all()
    assert 0.0 <= found[0] < 1.0
