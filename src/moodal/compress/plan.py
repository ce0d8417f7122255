"""What a compression is asked to do, and the places in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from moodal import config
from moodal.bundle import writing
from moodal.config import Columns, Positive, Stage
from moodal.errors import ConfigError

STEPS, MODEL = "steps", "model"
"""In the folder: every step's bundle with its facts, and the bundle that is handed on."""
ORDER = ("distil", "prune", "quantise")
"""The steps where none are named."""


class Distil(Stage):
    """How a student learns from its teachers."""

    temperature: Positive = 1.0
    """Divides the scores of both before they are compared: the higher, the more what a teacher
    holds for unlikely counts."""
    soft: Annotated[float, Field(ge=0.0, le=1.0)] = 0.9
    """Weight of the teachers' answers; the label has the rest."""
    hidden: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the likeness of what teacher and student see, row beside row."""
    width: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Widths of the student, as a share of its teacher's; None = by the targets, at most a half."""


class Prune(Stage):
    """How much is taken away at a time, and how it heals."""

    share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.25
    """Of the channels and heads of each layer, in one round."""
    layers: Annotated[float, Field(ge=0.0)] = 0.02
    """A layer goes where the loss without it rises by no more than this share; 0 = none goes."""
    rounds: Annotated[int, Field(ge=1)] = 3
    epochs: Annotated[int, Field(ge=1)] = 2
    """Of training after each round."""
    learning_rate: Positive = 0.3
    """Of that training, as a share of the model's own."""
    rows: Annotated[int, Field(ge=1)] = 512
    """Training rows that importance is measured on."""
    sparsity: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
    """prune-weights: the share of single weights that become 0."""


class Ways(Stage):
    """Settings of the steps; `--set distil.temperature=4` and the like."""

    distil: Distil = Distil()
    prune: Prune = Prune()


@dataclass(frozen=True, slots=True)
class Plan:
    """model: the bundle to compress. train, valid: manifests; columns: their names in these. out:
    the folder to write.

    steps: names, in order. max_drop: by how much the score on `valid` may fall, in its own units.
    target_ms, target_mb: p50 of the model alone on one thread, and size of the folder in 10^6
    bytes; None = no target. teachers: bundles; () = the model itself. settings: what the student of
    `distil` has instead of the model's, plain values by stage. ways: of the steps. seed: of what is
    drawn.
    """

    model: Path
    train: Path
    valid: Path
    out: Path
    columns: Columns = field(default_factory=Columns)
    steps: tuple[str, ...] = ORDER
    max_drop: float = 0.01
    target_ms: float | None = None
    target_mb: float | None = None
    teachers: tuple[Path, ...] = ()
    settings: dict[str, Any] | None = None
    ways: Ways = field(default_factory=Ways)
    seed: int = 0

    def folder(self, number: int) -> Path:
        """Where the bundle of a step stands; steps count from 1."""
        return self.out / STEPS / f"{number}-{self.steps[number - 1]}"


def settings_of(given: Sequence[str]) -> tuple[Ways, dict[str, Any]]:
    """`key=value` to the settings of the steps and those of the student. Raises: ConfigError."""
    values = config.plain(None, given)
    own = {name: values.pop(name) for name in Ways.model_fields if name in values}
    return config.checked(Ways, own), values


def check(plan: Plan, known: Sequence[str]) -> None:
    """Refuse, before any work is done. known: names of steps. Raises: ConfigError."""
    if unknown := [step for step in plan.steps if step not in known]:
        raise ConfigError(f"--steps {','.join(unknown)}: there are {', '.join(known)}")
    if not plan.steps:
        raise ConfigError(f"--steps is empty: name some of {', '.join(known)}")
    if twice := {step for step in plan.steps if plan.steps.count(step) > 1}:
        raise ConfigError(f"--steps names {', '.join(sorted(twice))} twice; once is enough")
    limits = {"max-drop": plan.max_drop, "target-ms": plan.target_ms, "target-mb": plan.target_mb}
    for name, limit in limits.items():
        if limit is not None and not (limit > 0 or (name == "max-drop" and limit == 0)):
            raise ConfigError(f"--{name} {limit:g}: give a number above 0")
    if plan.train.exists() and plan.valid.exists() and plan.train.samefile(plan.valid):
        raise ConfigError(
            f"{plan.valid}: is the file that is trained on; what is lost would not be seen: name "
            "other rows with --valid"
        )
    _check_place(plan.out)


def _check_place(out: Path) -> None:
    with writing(out):
        if out.exists() and not out.is_dir():
            raise ConfigError(f"{out}: is a file; name a folder with --out")
        if out.is_dir() and any(out.iterdir()) and not (out / STEPS).is_dir():
            raise ConfigError(
                f"{out}: exists and holds no compression ({STEPS}/); name a new folder with --out"
            )
