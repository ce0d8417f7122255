"""What a search is asked to do, and the places in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moodal.bundle import writing
from moodal.config import Run
from moodal.errors import ConfigError
from moodal.runtime import output

SPACE, TRIALS, BEST, MODEL, RETRAINED = (
    "space.yaml",
    "trials.db",
    "best.yaml",
    "model",
    "retrained",
)
"""In the folder: the space as it was searched, the trials, the best settings for `moodal train
--config`, the model that is kept, and all that were trained to choose it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """file, valid: manifests. run: the settings that trials vary. start: models to begin with.

    trials: how many, those of other processes on the same storage among them. seconds: after these
    no trial begins; None = no limit. seeds: how often the best settings and the defaults are
    trained to be compared. space: a YAML file; None = the default one. storage: a database's
    address; None = a file in `out`. whole: tune and compare on the same rows.
    """

    file: Path
    valid: Path
    out: Path
    run: Run
    start: tuple[Path, ...] = ()
    trials: int = 50
    seconds: float | None = None
    seeds: int = 3
    space: Path | None = None
    storage: str | None = None
    whole: bool = False

    @property
    def url(self) -> str:
        return self.storage or f"sqlite:///{self.out / TRIALS}"


def check(plan: Plan) -> None:
    """Refuse, before any work is done. Raises: ConfigError, CapacityError."""
    for name, given in (("trials", plan.trials), ("seeds", plan.seeds)):
        if given < 1:
            raise ConfigError(f"{name}={given}: give 1 or more")
    if plan.file.exists() and plan.valid.exists() and plan.file.samefile(plan.valid):
        raise ConfigError(
            f"{plan.valid}: is the file that is trained on; choosing settings by rows that a model "
            "has learned would choose the one that learns by heart: name other rows with --valid"
        )
    out = plan.out
    with writing(out):
        if out.exists() and not out.is_dir():
            raise ConfigError(f"{out}: is a file; name a folder with --out")
        names = {path.name for path in out.iterdir()} if out.is_dir() else set()
        if names and not names & {SPACE, TRIALS}:
            raise ConfigError(
                f"{out}: exists and holds no search ({SPACE}); name a new folder with --out"
            )


def put(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it. Raises: CapacityError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with output.whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
