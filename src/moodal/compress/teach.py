"""A network and its lesson through the one training loop, to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from moodal import bundle
from moodal.bundle import Info
from moodal.compress import ground, lesson
from moodal.compress.ground import Ground
from moodal.compress.plan import Plan
from moodal.config import Run
from moodal.errors import ConfigError
from moodal.model.model import Network
from moodal.training import checkpoint, loop
from moodal.training import read as reading
from moodal.training.examples import Parts
from moodal.training.finish import Origin, finish
from moodal.training.objectives import DISTILLED
from moodal.training.run import Workplace, job_of


@dataclass(frozen=True, slots=True)
class Student:
    """A network that is to learn. run: the settings it is built and trained with. identity: what a
    training that was broken off must share to be gone on with."""

    network: Network
    run: Run
    identity: dict[str, Any]


def parts_for(found: Ground, network: Network) -> Parts:
    """The rows that the network can learn from. Raises: DataError."""
    return reading.that_fit(ground.seen_by(found.parts, network.modalities), network)


def teach(plan: Plan, found: Ground, student: Student, out: Path) -> Info:
    """Train the student by the teachers' answers and the labels, and save it as a bundle.

    Raises: ConfigError, ModelError, CapacityError.
    """
    network, run = student.network, student.run
    torch.set_num_threads(run.train.threads)
    wide = parts_for(found, network)
    narrow = ground.narrowed(wide, network.modalities)
    seen = replace(wide, valid=narrow.valid)
    teachers = [teacher.network for teacher in found.teachers]
    names = {f"{one.info.name} {one.info.seal[:12]}" for one in (found.start, *found.teachers)}
    soft = DISTILLED[run.task]

    def train(place: Workplace, *, resume: bool) -> None:
        with place, lesson.given_by(teachers, network, plan.ways.distil, soft) as given:
            job = job_of(seen, network, run, place, given)
            history = loop.fit(job, resume=resume)
            origin = Origin(run, found.hashes, history, tuple(sorted(names)))
            finish(job, narrow, origin, out=out, scratch=place.folder / "bundle")

    return _begun_or_anew(out, student.identity, train)


def _begun_or_anew(out: Path, identity: dict[str, Any], train: Callable[..., None]) -> Info:
    if (checkpoint.folder_of(out) / checkpoint.STATE).is_file():
        with suppress(ConfigError):  # what stands there is of another run
            train(Workplace(out, identity, resume=True), resume=True)
            return bundle.load(out)
    train(Workplace(out, identity, resume=False), resume=False)
    return bundle.load(out)
