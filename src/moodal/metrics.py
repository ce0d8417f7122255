"""Scores: answers and targets in, numbers out. Pure numpy; every score is JSON-safe.

A score that is undefined (the correlation of a constant) is None. Both kinds of score come with
bootstrap intervals: rows, or whole groups of rows, are drawn anew with replacement.

Letters: N rows, C labels, M calibration bins, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal.errors import DataError

Floats = NDArray[np.floating[Any]]
Numbers = NDArray[Any]
Scores = dict[str, Any]
Intervals = dict[str, list[float]]

CALIBRATION_BINS = 15
"""Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), table 1: M = 15."""
LEVEL = 0.95
"""The share of the resamples that an interval holds."""
LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Probabilities are clipped to this in the log loss, so that one certain error is not infinite.
Source: scikit-learn, metrics.log_loss, for float32."""


def classification(targets: Floats, probabilities: Floats, labels: Sequence[str]) -> Scores:
    """Scores of a classification.

    targets: (N,) codes, each an index into labels. probabilities: (N, C) in [0, 1].

    Macro scores are means over the classes that occur among the targets or the answers, and a
    precision or recall with nothing under the line counts as 0 (scikit-learn's conventions): an
    answer that no row of this data carries costs macro recall. In `per_class` a class that occurs
    on neither side has None. `confusion[i][j]` counts the rows of class i answered j.

    Raises: DataError when there are no rows, or not one answer for each.
    """
    check(targets, probabilities)
    codes, answers, n_labels = targets.astype(np.int64), probabilities.argmax(axis=1), len(labels)
    confusion = np.bincount(codes * n_labels + answers, minlength=n_labels**2)
    confusion = confusion.reshape(n_labels, n_labels)
    support, answered, right = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    hits, confidence = answers == codes, probabilities.max(axis=1).astype(np.float64)
    bins = calibration_bin(confidence)
    scores = {
        **_averages(support, answered, right),
        "calibration_error": calibration_error(np.bincount(bins, confidence - hits), len(codes)),
        "log_loss": _losses(codes, probabilities).mean(),
    }
    return {
        "n": len(codes),
        **{name: float(score) for name, score in scores.items()},
        "per_class": _per_class(support, answered, right, labels),
        "confusion": confusion.tolist(),
        "calibration_bins": _calibration_bins(bins, confidence, hits),
    }


def regression(targets: Floats, values: Floats, labels: Sequence[str] = ()) -> Scores:
    """Scores of a regression.

    targets: (N,) numbers. values: (N, 1) or (N,). labels: none; there so that both kinds of score
    are called alike.

    acc2: the share of the rows with a non-zero target whose sign (above zero or not) is answered.
    acc7: the share answered right once both are clipped to [-3, 3] and rounded to a whole number.
    Both mean something only on a scale of sentiment such as that of CMU-MOSI.
    Source: MMSA (Yu et al., ACL 2021), utils/metricsTop.py, `Non0_acc_2` and `Mult_acc_7`.

    Raises: DataError when there are no rows, or not one answer for each.
    """
    check(targets, values)
    sums = _regression_columns(targets, values).sum(axis=0)
    scores = _regression_scores(sums[None])
    return {
        "n": len(targets),
        **{name: number(score[0]) for name, score in scores.items()},
    }


def classification_resampled(
    targets: Floats,
    probabilities: Floats,
    labels: Sequence[str],
    *,
    rng: np.random.Generator,
    groups: Sequence[Any] | Numbers | None = None,
    n: int = 1000,
) -> dict[str, Floats]:
    """Every average of `classification`, of resamples of the rows.

    targets, probabilities: as in `classification`. groups: (N,) the group of each row; whole
    groups are then drawn, since the rows of one speaker or film are not independent. n: resamples.

    Returns: score -> (R,), NaN where undefined; `percentiles` makes intervals of it. The same
    generator state draws the same rows, so that two models' scores are paired.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; groups:
    Field & Welsh, Bootstrapping clustered data (JRSS B 2007), the cluster bootstrap.
    """
    check(targets, probabilities)
    codes, answers, n_labels = targets.astype(np.int64), probabilities.argmax(axis=1), len(labels)
    hits, confidence = answers == codes, probabilities.max(axis=1).astype(np.float64)
    bins, gaps = calibration_bin(confidence), confidence - hits
    losses = _losses(codes, probabilities)

    def sums(weights: Floats) -> Floats:
        return np.concatenate(
            [
                np.bincount(codes, weights, n_labels),
                np.bincount(answers, weights, n_labels),
                np.bincount(codes, weights * hits, n_labels),
                np.bincount(bins, weights * gaps, CALIBRATION_BINS),
                [weights @ losses],
            ]
        )

    drawn = np.stack([sums(w) for w in resamples(len(codes), groups, n=n, rng=rng)])
    support, answered, right, rest = np.split(drawn, n_labels * np.arange(1, 4), axis=1)
    scores = _averages(support, answered, right)
    n_rows = support.sum(axis=1)
    scores["calibration_error"] = calibration_error(rest[:, :-1], n_rows)
    scores["log_loss"] = rest[:, -1] / n_rows
    return scores


def regression_resampled(
    targets: Floats,
    values: Floats,
    labels: Sequence[str] = (),
    *,
    rng: np.random.Generator,
    groups: Sequence[Any] | Numbers | None = None,
    n: int = 1000,
) -> dict[str, Floats]:
    """Every score of `regression`, of resamples of the rows.

    Arguments, answer and sources: as in `classification_resampled`.
    """
    check(targets, values)
    columns = _regression_columns(targets, values)
    drawn = np.stack([w @ columns for w in resamples(len(targets), groups, n=n, rng=rng)])
    return _regression_scores(drawn)


def check(targets: Numbers, answers: Numbers) -> None:
    if len(targets) == 0 or len(targets) != len(answers):
        raise DataError(
            f"{len(targets)} targets and {len(answers)} answers cannot be scored; there must be "
            "at least one row, and one answer for each target"
        )


def ratio(above: Numbers, below: Numbers, otherwise: float) -> Floats:
    """above / below where below is positive."""
    shape = np.broadcast_shapes(above.shape, below.shape)
    out = np.full(shape, otherwise, dtype=np.float64)
    return np.asarray(np.divide(above, below, out=out, where=below > 0))


def _class_scores(support: Numbers, answered: Numbers, right: Numbers) -> tuple[Floats, ...]:
    """(..., C) counts -> precision, recall, F1, each (..., C)."""
    return (
        ratio(right, answered, 0.0),
        ratio(right, support, 0.0),
        ratio(2.0 * right, support + answered, 0.0),
    )


def _averages(support: Numbers, answered: Numbers, right: Numbers) -> dict[str, Floats]:
    """(..., C) counts -> score -> (...)."""
    precision, recall, f1 = _class_scores(support, answered, right)
    n_rows = support.sum(axis=-1)
    n_classes = ((support + answered) > 0).sum(axis=-1)
    return {
        "accuracy": right.sum(axis=-1) / n_rows,
        "macro_f1": f1.sum(axis=-1) / n_classes,
        "weighted_f1": (f1 * support).sum(axis=-1) / n_rows,
        "macro_precision": precision.sum(axis=-1) / n_classes,
        "macro_recall": recall.sum(axis=-1) / n_classes,
    }


def _per_class(
    support: Numbers, answered: Numbers, right: Numbers, labels: Sequence[str]
) -> dict[str, Scores]:
    precision, recall, f1 = _class_scores(support, answered, right)
    occurs = (support + answered) > 0
    return {
        label: {
            "precision": float(precision[c]) if occurs[c] else None,
            "recall": float(recall[c]) if occurs[c] else None,
            "f1": float(f1[c]) if occurs[c] else None,
            "n": int(support[c]),
        }
        for c, label in enumerate(labels)
    }


def _losses(codes: Numbers, probabilities: Floats) -> Floats:
    """(N,) minus the log of the probability of the true class."""
    likely = probabilities[np.arange(len(codes)), codes].astype(np.float64)
    return np.asarray(-np.log(np.maximum(likely, LEAST_PROBABILITY)))


def calibration_bin(confidence: Floats) -> Numbers:
    """(N,) -> (N,): bin m of M holds the confidences in (m / M, (m + 1) / M].

    Source: Guo et al. 2017, section 2.
    """
    edges = np.linspace(0.0, 1.0, CALIBRATION_BINS + 1)[1:-1]
    return np.digitize(confidence, edges, right=True)


def calibration_error(gaps: Numbers, n_rows: Numbers | int) -> Floats:
    """(..., M) summed gaps -> (...). Source: Guo et al. 2017, equation 3, with |B_m| cancelled."""
    return np.asarray(np.abs(gaps).sum(axis=-1) / n_rows)


def _calibration_bins(bins: Numbers, confidence: Floats, hits: Numbers) -> list[Scores]:
    """The bins that hold a row, in order: bounds, rows, mean confidence and accuracy."""
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    sums, right = np.bincount(bins, confidence), np.bincount(bins, hits)
    return [
        {
            "low": float(m / CALIBRATION_BINS),
            "high": float((m + 1) / CALIBRATION_BINS),
            "n": int(counts[m]),
            "confidence": float(sums[m] / counts[m]),
            "accuracy": float(right[m] / counts[m]),
        }
        for m in np.flatnonzero(counts)
    ]


def _regression_columns(targets: Floats, values: Floats) -> Floats:
    """(N,), (N, 1) or (N,) -> (N, 11): what, summed over rows, gives every score."""
    t, v = targets.astype(np.float64), values.reshape(len(targets)).astype(np.float64)
    error, signed = v - t, t != 0
    # Centred, and a constant exactly 0, so that the sums of squares do not cancel.
    a, b = (x - (x[0] if np.ptp(x) == 0 else x.mean()) for x in (t, v))
    same_sign = signed & ((t > 0) == (v > 0))
    same_step = np.round(np.clip(t, -3, 3)) == np.round(np.clip(v, -3, 3))
    columns = [np.ones_like(t), np.abs(error), error**2, a, b, a * a, b * b, a * b]
    return np.column_stack([*columns, same_sign, signed, same_step])


def _regression_scores(sums: Floats) -> dict[str, Floats]:
    """(R, 11) sums -> score -> (R,), NaN where undefined."""
    n, absolute, squared, a, b, aa, bb, ab, same_sign, signed, same_step = sums.T
    spread = np.maximum(aa - a * a / n, 0.0) * np.maximum(bb - b * b / n, 0.0)
    tiny = 1e-12 * (aa * bb)  # what is left of a constant by rounding
    return {
        "mae": absolute / n,
        "rmse": np.sqrt(squared / n),
        "pearson": np.clip(
            ratio(ab - a * b / n, np.sqrt(np.where(spread > tiny, spread, 0.0)), np.nan), -1, 1
        ),
        "acc2": ratio(same_sign, signed, np.nan),
        "acc7": same_step / n,
    }


def resamples(
    n_rows: int,
    groups: Sequence[Any] | Numbers | None,
    *,
    n: int,
    rng: np.random.Generator,
) -> Iterator[Floats]:
    """n times (N,) float64: how often each row was drawn."""
    unit_of_row = np.arange(n_rows)
    if groups is not None:
        _, unit_of_row = np.unique(np.asarray(groups), return_inverse=True)
    n_units = int(unit_of_row.max()) + 1
    for _ in range(n):
        times = np.bincount(rng.integers(n_units, size=n_units), minlength=n_units)
        yield times[unit_of_row].astype(np.float64)


def percentiles(scores: Mapping[str, Floats]) -> Intervals:
    """Percentile bootstrap intervals: score -> [low, high], the 2.5 and 97.5 percentiles of the
    resamples. A score that is undefined in every resample has no interval."""
    tail = (1.0 - LEVEL) / 2.0
    defined = {name: values[~np.isnan(values)] for name, values in scores.items()}
    return {
        name: [float(x) for x in np.quantile(values, [tail, 1.0 - tail])]
        for name, values in defined.items()
        if len(values)
    }


def number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
