"""What a compression has done: for programs, for a page, for a terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moodal.compress.judge import Measured
from moodal.evaluation.report import Words


@dataclass(frozen=True, slots=True)
class Step:
    """name: of the step; its bundle is `folder`. begun: the folder that it began with. stands:
    whether no more is lost than may be. facts: what the step says it did."""

    name: str
    folder: Path
    begun: Path
    measured: Measured
    stands: bool
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Compressed:
    """parent: the model that was compressed, measured as the steps are. kept: the step whose bundle
    is handed on, or "" for the parent itself. model: the folder of what is handed on. missed:
    budget -> (what was asked for, what was reached)."""

    name: str
    task: str
    metric: str
    higher_is_better: bool
    parent: Measured
    source: Path
    steps: tuple[Step, ...]
    kept: str
    model: Path
    budgets: dict[str, float | None]
    missed: dict[str, tuple[float, float]]

    @property
    def measured(self) -> Measured:
        """Of what is handed on."""
        return next((s.measured for s in self.steps if s.name == self.kept), self.parent)

    @property
    def met(self) -> bool:
        """Whether every budget is kept."""
        return bool(self.kept) and not self.missed

    @property
    def smaller(self) -> float:
        return self.parent.megabytes / self.measured.megabytes

    @property
    def faster(self) -> float:
        return self.measured.faster

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        for step in values["steps"]:
            step |= {"folder": str(step["folder"]), "begun": str(step["begun"])}
        places = {"source": str(self.source), "model": str(self.model)}
        return values | places | {"smaller": self.smaller, "faster": self.faster}


BUDGETS: dict[str, tuple[str, Words]] = {
    "max-drop": ("{:.3f}", ("the loss of score", "得分下降")),
    "target-ms": ("{:.2f} ms", ("the time of an answer", "单次推理时间")),
    "target-mb": ("{:.2f} MB", ("the size", "体积")),
}
"""Budget -> how its values are written, and what it limits."""


def verdict(found: Compressed) -> Words:
    """One sentence in both languages."""
    here, times = found.measured, f"{found.smaller:.1f}"
    english = (
        f"{times} times smaller, {found.faster:.1f} times faster alone, {found.metric} "
        f"{here.score:.3f} (it was {found.parent.score:.3f})."
    )
    chinese = (
        f"体积缩小到 1/{times}，模型本身快 {found.faster:.1f} 倍，{found.metric} "
        f"{here.score:.3f}（原为 {found.parent.score:.3f}）。"
    )
    if not found.kept:
        english = "No step stayed within the loss that is allowed: the model is as it was."
        chinese = "没有任何步骤满足允许的损失：模型保持原样。"
    for name, (limit, value) in found.missed.items():
        form, (en, zh) = BUDGETS[name]
        asked, got = form.format(limit), form.format(value)
        english += f" {en.capitalize()} is {got}, {asked} was asked for: this is the closest."
        chinese += f" {zh}为 {got}，要求为 {asked}：这是最接近的结果。"
    return english, chinese
