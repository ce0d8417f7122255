"""Whether the best settings beat the defaults: models of several seeds on the same resamples.

Letters: N rows, K numbers of an answer, R resamples, S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal import metrics
from moodal.evaluation.score import MIN_GROUPS, Model
from moodal.monitor.paired import LEAST_ROWS, RESAMPLES, Pairs, gather
from moodal.tasks import Task
from moodal.types import Record, Rejection

Array = NDArray[Any]
Side = tuple[Array, Array, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both settings on the same n rows.

    defaults, best: the score of each seed's model. gain: how much better the best settings are, the
    mean over the seeds, in units of the score; below 0 = worse. interval: 95 % of the resamples of
    the gain lie in it; None of fewer than LEAST_ROWS rows. resampled: what was drawn, rows or
    groups. n_rejected: rows that a model could not answer; n_unlabelled: rows without a label.
    """

    metric: str
    higher_is_better: bool
    n: int
    seeds: tuple[int, ...]
    defaults: tuple[float, ...]
    best: tuple[float, ...]
    gain: float
    interval: tuple[float, float] | None
    resampled: str
    n_rejected: int
    n_unlabelled: int

    @property
    def is_better(self) -> bool:
        """Beyond the interval."""
        return self.interval is not None and self.interval[0] > 0


@dataclass(frozen=True, slots=True)
class _Seed:
    """One seed's two models, the defaults' and the best settings', on the same rows. sides: of each
    (N,) codes, (N, K) as Task.judge has it, and labels. units: (N,) the group of each row, below 0
    = the row alone."""

    pairs: Pairs
    sides: tuple[Side, Side]
    units: Array

    def scores(self) -> tuple[float, float]:
        """Of the default model and the best; NaN where undefined."""
        task = self.pairs.task
        found = (task.score(*side)[task.goal] for side in self.sides)
        default, best = (float("nan") if score is None else float(score) for score in found)
        return default, best

    def gains(self, groups: Array | None, seed: int) -> Array:
        """(R,): how much better the best one is on each resample."""
        task = self.pairs.task
        default, best = (  # each with a generator of the same seed: the same rows are drawn
            task.resampled(*side, groups=groups, rng=np.random.default_rng(seed), n=RESAMPLES)[
                task.goal
            ]
            for side in self.sides
        )
        return np.asarray(_sign(task) * (best - default))


def _sign(task: Task) -> float:
    return 1.0 if task.higher_is_better else -1.0


def compare(
    defaults: Sequence[Model],
    best: Sequence[Model],
    records: Callable[[], Iterable[Record | Rejection]],
    *,
    seeds: Sequence[int],
    seed: int,
) -> Comparison:
    """Score the models of every seed on labelled records, both settings on the same resamples.

    defaults, best: (S,) models. records: gives the rows anew for each seed. seeds: (S,) of the
    models. seed: of the resamples. The gain of a resample is the mean over the seeds, so its
    interval is that of settings, not of one lucky model; groups are drawn whole.

    Raises: DataError when no row can be compared.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; Koehn,
    Statistical significance tests for machine translation evaluation (EMNLP 2004), section 4.
    """
    found = [_seed(gather(*models, records())) for models in zip(defaults, best, strict=True)]
    first, units = found[0].pairs, found[0].units
    assert all(np.array_equal(one.units, units) for one in found), "settings read alike"
    whole = np.array([one.scores() for one in found])  # (S, 2)
    clustered = units.max() >= 0 and len(np.unique(units)) >= MIN_GROUPS
    interval = None
    if len(units) >= LEAST_ROWS:
        groups = units if clustered else None
        gains = np.mean([one.gains(groups, seed) for one in found], axis=0)  # (R,)
        if bounds := metrics.percentiles({"gain": gains}).get("gain"):
            interval = (bounds[0], bounds[1])
    return Comparison(
        metric=first.task.goal,
        higher_is_better=first.task.higher_is_better,
        n=len(units),
        seeds=tuple(seeds),
        defaults=tuple(whole[:, 0].tolist()),
        best=tuple(whole[:, 1].tolist()),
        gain=float(_sign(first.task) * (whole[:, 1] - whole[:, 0]).mean()),
        interval=interval,
        resampled="groups" if clustered else "rows",
        n_rejected=first.rejected.n,
        n_unlabelled=first.unlabelled,
    )


def _seed(pairs: Pairs) -> _Seed:
    kept = pairs.slices["all", "all rows"]
    one, other = (np.asarray(codes) for codes in kept.codes)
    left, right = (np.asarray(judged).reshape(len(one), -1) for judged in kept.judged)
    sides = (one, left, pairs.labels[0]), (other, right, pairs.labels[1])
    return _Seed(pairs, sides, np.asarray(kept.units))
