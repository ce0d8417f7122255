"""Every metric against a case worked by hand; the intervals against theory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from moodal import metrics
from moodal.errors import DataError

LABELS = ("bad", "fair", "good")
# bad, bad, bad, fair, fair, good; answered bad, bad, fair, fair, bad, good.
TARGETS = np.array([0, 0, 0, 1, 1, 2])
OUTPUTS = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.6, 0.3, 0.1],
        [0.3, 0.6, 0.1],
        [0.1, 0.8, 0.1],
        [0.5, 0.4, 0.1],
        [0.0, 0.1, 0.9],
    ]
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def intervals_of(resampled: Callable[..., Any], *given: Any, **to: Any) -> metrics.Intervals:
    return metrics.percentiles(resampled(*given, **to))


def test_classification_as_counted_by_hand() -> None:
    scores = metrics.classification(TARGETS, OUTPUTS, LABELS)
    assert scores["n"] == 6
    assert scores["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert scores["accuracy"] == pytest.approx(4 / 6)
    # precision: bad 2/3, fair 1/2, good 1; recall: 2/3, 1/2, 1; so F1: 2/3, 1/2, 1.
    for name in ("macro_f1", "macro_precision", "macro_recall"):
        assert scores[name] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores["weighted_f1"] == pytest.approx((3 * 2 / 3 + 2 * 1 / 2 + 1 * 1) / 6)
    assert scores["per_class"]["fair"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "n": 2}


def test_log_loss_is_the_mean_of_minus_the_logs() -> None:
    likely = [0.8, 0.6, 0.3, 0.8, 0.4, 0.9]
    by_hand = -sum(math.log(p) for p in likely) / 6
    assert metrics.classification(TARGETS, OUTPUTS, LABELS)["log_loss"] == pytest.approx(by_hand)


def test_a_certain_error_costs_a_finite_log_loss() -> None:
    scores = metrics.classification(np.array([0]), np.array([[0.0, 1.0]]), ("a", "b"))
    assert scores["log_loss"] == pytest.approx(-math.log(np.finfo(np.float32).eps))


def test_calibration_error_by_hand() -> None:
    # Bins of 1/15: 0.81 and 0.85 share (0.8, 0.8667], one of the two right; 0.62 is alone, right.
    outputs = np.array([[0.81, 0.19], [0.85, 0.15], [0.62, 0.38]])
    scores = metrics.classification(np.array([0, 1, 0]), outputs, ("a", "b"))
    assert scores["calibration_error"] == pytest.approx((2 * (0.83 - 0.5) + (1 - 0.62)) / 3)
    assert [b["n"] for b in scores["calibration_bins"]] == [1, 2]
    last = scores["calibration_bins"][1]
    assert (last["low"], last["high"]) == (pytest.approx(12 / 15), pytest.approx(13 / 15))
    assert (last["confidence"], last["accuracy"]) == (pytest.approx(0.83), 0.5)


def test_a_confidence_on_a_bound_falls_into_the_bin_below() -> None:
    outputs = np.array([[0.8, 0.2], [1.0, 0.0]])
    bins = metrics.classification(np.array([0, 0]), outputs, ("a", "b"))["calibration_bins"]
    assert [round(15 * b["high"]) for b in bins] == [12, 15]


def test_a_class_answered_but_never_true_costs_macro_and_one_that_never_occurs_does_not() -> None:
    outputs = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])  # true: a, a; answered a, b
    scores = metrics.classification(np.array([0, 0]), outputs, ("a", "b", "c", "d"))
    assert scores["macro_recall"] == pytest.approx((1 / 2 + 0) / 2)
    assert scores["macro_precision"] == pytest.approx((1 + 0) / 2)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["weighted_f1"] == pytest.approx(2 / 3)
    assert scores["per_class"]["c"] == {"precision": None, "recall": None, "f1": None, "n": 0}


def test_regression_as_counted_by_hand() -> None:
    targets, values = np.array([-2.0, 0.0, 1.0, 3.0]), np.array([[-1.0], [-1.0], [-0.4], [4.0]])
    scores = metrics.regression(targets, values)
    assert scores["n"] == 4
    assert scores["mae"] == pytest.approx((1 + 1 + 1.4 + 1) / 4)
    assert scores["rmse"] == pytest.approx(math.sqrt((1 + 1 + 1.96 + 1) / 4))
    # Means 0.5 and 0.4: sums of squares 13 and 17.52, of products 12.8.
    assert scores["pearson"] == pytest.approx(12.8 / math.sqrt(13 * 17.52))
    assert scores["acc2"] == pytest.approx(2 / 3)  # -2, 1, 3 have a sign; 1 is answered -0.4
    assert scores["acc7"] == pytest.approx(1 / 4)  # only 4 -> 3 is the right step


def test_pearson_of_a_constant_and_acc2_without_signs_are_undefined() -> None:
    scores = metrics.regression(np.zeros(3), np.array([0.1, 0.2, 0.1]))
    assert (scores["pearson"], scores["acc2"]) == (None, None)
    constant = metrics.regression(np.array([0.1, 0.7, 0.3]), np.full(3, 0.1))
    assert constant["pearson"] is None


def test_pearson_survives_a_large_offset() -> None:
    x = rng().normal(size=200)
    shifted = metrics.regression(x + 1e6, 3 * x + 1e6)["pearson"]
    assert shifted == pytest.approx(1.0)


@pytest.mark.parametrize("targets", [np.zeros(0), np.zeros(2)])
def test_no_rows_or_a_missing_answer_is_an_error(targets: np.ndarray) -> None:
    with pytest.raises(DataError, match=f"{len(targets)} targets"):
        metrics.regression(targets, np.zeros(3)[: len(targets) - 1])
    with pytest.raises(DataError, match=f"{len(targets)} targets"):
        metrics.classification(targets, np.zeros((1, 2))[: len(targets)], ("a", "b"))


def test_every_score_is_plain_json() -> None:
    outputs = OUTPUTS.astype(np.float32)
    both = [
        metrics.classification(TARGETS.astype(np.float64), outputs, LABELS),
        intervals_of(metrics.classification_resampled, TARGETS, outputs, LABELS, rng=rng(), n=20),
        metrics.regression(TARGETS, outputs[:, :1]),
        intervals_of(metrics.regression_resampled, TARGETS, outputs[:, :1], rng=rng(), n=20),
    ]
    assert json.loads(json.dumps(both, allow_nan=False)) == both


def test_the_interval_of_an_accuracy_is_the_binomial_one() -> None:
    # 400 of 500 right: standard error sqrt(0.8 * 0.2 / 500) = 0.0179.
    outputs = np.tile([0.7, 0.3], (500, 1))
    targets = np.repeat([0, 1], [400, 100])
    low, high = intervals_of(
        metrics.classification_resampled, targets, outputs, ("a", "b"), rng=rng(), n=4000
    )["accuracy"]
    assert low == pytest.approx(0.8 - 1.96 * 0.0179, abs=0.004)
    assert high == pytest.approx(0.8 + 1.96 * 0.0179, abs=0.004)


def test_groups_are_drawn_whole() -> None:
    # Ten speakers of 50 equal rows are worth ten rows: sqrt(0.8 * 0.2 / 10) = 0.126.
    outputs = np.tile([0.7, 0.3], (500, 1))
    targets, groups = np.repeat([0, 1], [400, 100]), np.repeat(list("abcdefghij"), 50)
    drawn = intervals_of(
        metrics.classification_resampled,
        targets,
        outputs,
        ("a", "b"),
        rng=rng(),
        groups=groups,
        n=1000,
    )["accuracy"]
    assert drawn == [pytest.approx(0.5), 1.0]
    one_group = intervals_of(
        metrics.classification_resampled,
        targets,
        outputs,
        ("a", "b"),
        rng=rng(),
        groups=["all"] * 500,
        n=10,
    )
    assert one_group["accuracy"] == [0.8, 0.8]


@pytest.mark.parametrize("n_rows", [40, 300])
def test_every_interval_holds_its_score_and_is_the_same_for_the_same_seed(n_rows: int) -> None:
    targets = rng().integers(3, size=n_rows)
    outputs = rng().dirichlet([1, 1, 1], size=n_rows)
    outputs[: n_rows // 2] = np.eye(3)[targets[: n_rows // 2]]
    scores = metrics.classification(targets, outputs, LABELS)
    intervals = intervals_of(metrics.classification_resampled, targets, outputs, LABELS, rng=rng())
    assert set(intervals) == {
        "accuracy", "macro_f1", "weighted_f1", "macro_precision", "macro_recall",
        "calibration_error", "log_loss",
    }  # fmt: skip
    for name in set(intervals) - {"calibration_error"}:  # biased upwards in a resample
        assert intervals[name][0] < scores[name] < intervals[name][1]
    again = intervals_of(metrics.classification_resampled, targets, outputs, LABELS, rng=rng())
    assert intervals == again


def test_an_identity_resample_gives_the_score_itself() -> None:
    # One row only: every resample is that row, so both bounds are the score.
    targets, outputs = np.array([1]), np.array([[0.3, 0.6, 0.1]])
    scores = metrics.classification(targets, outputs, LABELS)
    intervals = intervals_of(
        metrics.classification_resampled, targets, outputs, LABELS, rng=rng(), n=5
    )
    for name, bounds in intervals.items():
        assert bounds == [pytest.approx(scores[name])] * 2
    values = intervals_of(
        metrics.regression_resampled, np.array([1.0]), np.array([2.0]), rng=rng(), n=5
    )
    assert values == {"mae": [1, 1], "rmse": [1, 1], "acc2": [1, 1], "acc7": [0, 0]}


def test_regression_intervals_hold_their_scores() -> None:
    targets = rng().normal(size=300)
    values = targets + np.random.default_rng(1).normal(size=300)
    scores = metrics.regression(targets, values)
    intervals = intervals_of(metrics.regression_resampled, targets, values, rng=rng())
    assert set(intervals) == {"mae", "rmse", "pearson", "acc2", "acc7"}
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high
    # Fisher's z: 1.96 / sqrt(297) = 0.114 either side of atanh(r).
    z = math.atanh(scores["pearson"])
    assert intervals["pearson"][0] == pytest.approx(math.tanh(z - 0.114), abs=0.03)
    assert intervals["pearson"][1] == pytest.approx(math.tanh(z + 0.114), abs=0.03)
