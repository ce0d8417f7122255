"""What a step has cost and gained: size, speed, and the score beside that of the parent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodal.compress import measure
from moodal.compress.plan import Plan
from moodal.data import manifest
from moodal.monitor.paired import RESAMPLES, gather, verdicts
from moodal.runtime.predict import Model


@dataclass(frozen=True, slots=True)
class Measured:
    """A bundle beside the model that was to be compressed, on the same n validation rows.

    milliseconds: p50 of the model alone, one record, one thread; faster: the ratio of the parent's
    time to it, both measured in turn. megabytes: 10^6 bytes of the folder. score, parent: in units
    of the task's goal. drop: how much worse it is than the parent, below 0 = better. interval: 95 %
    of the resamples of the drop lie in it; None of few rows.
    """

    milliseconds: float
    faster: float
    megabytes: float
    parameters: int
    n: int
    score: float
    parent: float
    drop: float
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Measured:
        interval = values["interval"]
        return cls(**{**values, "interval": tuple(interval) if interval else None})


def judge(plan: Plan, folder: Path) -> Measured:
    """Raises: DataError when the models answer no labelled row."""
    records = manifest.read(plan.valid, plan.columns)
    pairs = gather(Model(plan.model), Model(folder), records)
    whole = next(verdicts(pairs, resamples=RESAMPLES, seed=plan.seed))
    assert whole.old is not None and whole.new is not None, "a score of some rows"  # noqa: PT018
    gain = whole.gain or 0.0
    interval = (0.0 - whole.interval[1], 0.0 - whole.interval[0]) if whole.interval else None
    speed = _speed(plan, folder)
    return Measured(
        milliseconds=speed.p50_ms,
        faster=speed.faster,
        megabytes=measure.size_mb(folder),
        parameters=measure.parameters(folder),
        n=whole.n,
        score=whole.new,
        parent=whole.old,
        drop=0.0 - gain,
        interval=interval,
    )


def _speed(plan: Plan, folder: Path) -> measure.Speed:
    """On the first rows that both can read. Raises: DataError."""
    records = manifest.read(plan.valid, plan.columns)
    return measure.side_by_side([plan.model, folder], records, work=measure.GRAPHS)[1]


def stands(plan: Plan, found: Measured) -> bool:
    """Whether no more is lost than may be."""
    return found.drop <= plan.max_drop


def misses(plan: Plan, found: Measured) -> dict[str, tuple[float, float]]:
    """Budget -> (what was asked for, what it is), of those that are missed."""
    budgets = {
        "max-drop": (plan.max_drop, found.drop),
        "target-ms": (plan.target_ms, found.milliseconds),
        "target-mb": (plan.target_mb, found.megabytes),
    }
    return {
        name: (limit, value)
        for name, (limit, value) in budgets.items()
        if limit is not None and value > limit
    }
