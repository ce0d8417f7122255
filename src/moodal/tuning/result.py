"""What a search found: every trial, what mattered, and whether the best beats the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from moodal import metrics
from moodal.evaluation.report import Words
from moodal.monitor.paired import RESAMPLES
from moodal.tuning.compare import Comparison
from moodal.tuning.space import Values

FORMAT = 1
State = Literal["finished", "ended early", "impossible"]


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial. score: its best epoch's, on the rows that are tuned on; None of one that could not
    be trained. settings: what it tried of the space; why: it could not be trained."""

    number: int
    state: State
    score: float | None
    epochs: int
    seconds: float
    settings: Values
    is_default: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows did what. tuned_on, compared_on: how many, those without a label left out; rule:
    how they were parted; "" = they are the same. sha256: of either file and its rows."""

    train: str
    valid: str
    tuned_on: int
    rule: str
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class Tuned:
    """trials: by number. best: the number of the best one. settings: its own; defaults: the same
    ones of a run without tuning. importance: setting -> share, the highest first; {} where too few
    trials are finished.

    comparison: None where the defaults are the best trial, or `failure` says why there is none.
    tuned: what each seed's model scores on the rows that were tuned on, by "defaults" and "best".
    kept: whose model stands in `model`. space: as YAML holds it; idle: setting -> why it was left
    out.
    """

    name: str
    task: str
    metric: str
    higher_is_better: bool
    trials: tuple[Tried, ...]
    best: int
    settings: Values
    defaults: Values
    importance: dict[str, float]
    comparison: Comparison | None
    failure: str
    tuned: dict[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    kept: Literal["best", "defaults"]
    model: Path
    rows: Rows
    space: dict[str, Any]
    idle: dict[str, str]

    @property
    def count(self) -> dict[State, int]:
        states: tuple[State, ...] = ("finished", "ended early", "impossible")
        return {s: sum(trial.state == s for trial in self.trials) for s in states}

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        names = (name for name in self.__slots__ if name not in ("trials", "comparison", "rows"))
        values = {name: getattr(self, name) for name in names}
        en, zh = verdict(self)
        return {
            "format": FORMAT,
            **values,
            "model": str(self.model),
            "verdict": {"en": en, "zh": zh},
            "trials": [asdict(trial) for trial in self.trials],
            "comparison": _compared(self.comparison) if self.comparison else None,
            "rows": asdict(self.rows),
        }


def _compared(found: Comparison) -> dict[str, Any]:
    spread = {name: asdict(spread_of(getattr(found, name))) for name in ("defaults", "best")}
    return {
        **asdict(found),
        "is_better": found.is_better,
        "level": metrics.LEVEL,
        "resamples": RESAMPLES,
        "over_seeds": spread,
    }


@dataclass(frozen=True, slots=True)
class Spread:
    """Over the seeds. deviation: of the sample; None of one seed."""

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.deviation is None else f" ± {self.deviation:.3f}")


def spread_of(scores: Sequence[float]) -> Spread:
    deviation = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return Spread(float(np.mean(scores)), deviation)


def verdict(tuned: Tuned) -> Words:
    """Whether the best settings beat the defaults, and what is kept."""
    found, number = tuned.comparison, tuned.best
    kept = _KEPT[tuned.kept]
    if tuned.failure:
        return (
            f"The settings of trial {number} could not be trained with every seed "
            f"({tuned.failure}). {kept[0]}",
            f"试验 {number} 的设置无法在每个随机种子下完成训练（{tuned.failure}）。{kept[1]}",
        )
    if found is None:
        return (
            f"No trial scored better than the defaults. {kept[0]}",
            f"没有试验优于默认设置。{kept[1]}",
        )
    en, zh = _measured(found, flatters=not tuned.rows.rule)
    if found.is_better:
        told = "beat the defaults", "优于默认设置"
    elif found.interval is None:
        told = (
            "cannot be told from the defaults by so few rows",
            "与默认设置的差别因样本太少而无法判断",
        )
    else:
        told = "do not surely beat the defaults", "并不确定优于默认设置"
    return (
        f"The settings of trial {number} {told[0]}: {en}. {kept[0]}",
        f"试验 {number} 的设置{told[1]}：{zh}。{kept[1]}",
    )


_KEPT: dict[str, Words] = {
    "best": ("The model has them.", "保留的模型使用该设置。"),
    "defaults": ("The model has the defaults.", "保留的模型使用默认设置。"),
}


def _measured(found: Comparison, *, flatters: bool) -> Words:
    """Both scores, the gain, and on which rows."""
    best, default, n_seeds = spread_of(found.best), spread_of(found.defaults), len(found.seeds)
    gain = f"{found.gain:+.3f}"
    if found.interval is not None:
        gain += " [{:+.3f}, {:+.3f}]".format(*found.interval)
    rows = ("that no trial was scored on", "未参与任何试验的评分")
    if flatters:
        rows = (
            "that the trials were scored on as well, which flatters the winner",
            "也用于试验评分，因此结果偏乐观",
        )
    return (
        f"{found.metric} {best} against {default} (mean of {n_seeds} seeds), gain {gain} on "
        f"{found.n:,} rows {rows[0]}",
        f"{found.metric} {best} 对 {default}（{n_seeds} 个随机种子的均值），增益 {gain}，"
        f"{found.n:,} 个样本{rows[1]}",
    )
