"""The best settings and the defaults, trained anew with several seeds; one of them is kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from moodal import bundle
from moodal.bundle import Info
from moodal.config import Run
from moodal.errors import ConfigError, ModelError
from moodal.runtime.output import say
from moodal.tasks import TASKS
from moodal.training import card, checkpoint
from moodal.training.run import train
from moodal.tuning.ground import Ground
from moodal.tuning.plan import MODEL, RETRAINED, Plan


@dataclass(frozen=True, slots=True)
class Finalist:
    """Settings, by name, and the folders of the models trained with them, one a seed."""

    name: str
    run: Run
    seeds: tuple[int, ...]
    folders: tuple[Path, ...]

    def on_tuned(self) -> tuple[float, ...]:
        """Each model's score on the rows that were tuned on."""
        return tuple(_score(bundle.load(folder)) for folder in self.folders)


def retrain(plan: Plan, ground: Ground, run: Run, *, name: str) -> Finalist:
    """Train the settings with every seed. A model that stands is not trained again, one that was
    broken off goes on. Raises: as training.run.train."""
    seeds = tuple(plan.run.train.seed + i for i in range(plan.seeds))
    folders = tuple(plan.out / RETRAINED / f"{name}-seed-{seed}" for seed in seeds)
    for seed, folder in zip(seeds, folders, strict=True):
        seeded = run.model_copy(update={"train": run.train.model_copy(update={"seed": seed})})
        if not _stands(folder, seeded, ground):
            say(f"training {name.replace('-', ' ')} with seed {seed}")
            _train(plan, ground, seeded, folder)
    return Finalist(name, run, seeds, folders)


def keep(plan: Plan, finalist: Finalist, note: str) -> Path:
    """Copy the finalist's best model, by the rows that were tuned on, to where the search's model
    stands. note: for its card. Returns: its folder. Raises: CapacityError."""
    task, scores = TASKS[finalist.run.task], finalist.on_tuned()
    best = max(scores) if task.higher_is_better else min(scores)
    folder, out = finalist.folders[scores.index(best)], plan.out / MODEL
    info = bundle.load(folder)
    files: dict[str, bytes] = {name: bundle.read(folder, info, name) for name in info.files}
    info = info.model_copy(update={"name": plan.out.name})
    files[bundle.CARD] = f"{card.write(info)}\n{note}\n".encode()
    if not _is_same(out, files):
        bundle.save(out, info, files)
    return out


def _train(plan: Plan, ground: Ground, run: Run, folder: Path) -> None:
    begin = partial(
        train, plan.file, valid=ground.halves.tuned_on, out=folder, run=run, start=plan.start
    )
    if (checkpoint.folder_of(folder) / checkpoint.STATE).is_file():
        with suppress(ConfigError):  # what stands there is of another run
            begin(resume=True)
            return
    begin()


def _stands(folder: Path, run: Run, ground: Ground) -> bool:
    """Whether a whole model of these settings and rows is there."""
    try:
        info = bundle.verify(folder)
        made_with = yaml.safe_load(bundle.read(folder, info, bundle.CONFIG))
    except ModelError:
        return False
    hashes = {part: info.data[part]["sha256"] for part in ("train", "valid")}
    wanted = {name: part.fingerprint() for name, part in ground.sources._asdict().items()}
    return hashes == wanted and made_with == run.model_dump(mode="json") | {"cache": None}


def _is_same(folder: Path, files: dict[str, bytes]) -> bool:
    try:
        info = bundle.verify(folder)
        return all(bundle.read(folder, info, name) == content for name, content in files.items())
    except ModelError:
        return False


def _score(info: Info) -> float:
    """Of the epoch that was kept."""
    scores: Sequence[float] = [row["score"] for row in info.history]
    return max(scores) if TASKS[info.task].higher_is_better else min(scores)
