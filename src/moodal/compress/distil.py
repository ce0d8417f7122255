"""A smaller student that learns what its teachers answer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from moodal import config
from moodal.compress import ground, measure
from moodal.compress.ground import Ground, stand
from moodal.compress.network import Loaded
from moodal.compress.plan import Plan
from moodal.compress.teach import Student, teach
from moodal.config import Run
from moodal.data import manifest
from moodal.errors import ConfigError
from moodal.model import build
from moodal.model.build import Measured
from moodal.model.model import Network
from moodal.model.stems import Tokens
from moodal.training import run as training
from moodal.types import Subset

NARROWEST = 8
"""Width under which an encoder of sound has no channel left."""
INTEGERS = 3.5
"""How much smaller 8-bit weights make a bundle that comes after. Measured: docs/compress.md."""
HELD_BACK = 0.5
"""Dropout of a student, as a share of its teacher's. Measured: LOG.md."""
OWN = ("text", "image", "audio", "task", "columns")
"""Settings in which a student is as its teacher, or one batch could not serve both."""


def step(plan: Plan, folder: Path, out: Path) -> dict[str, Any]:
    """Write the bundle `out`, a student of the plan's teachers that is built as the model in
    `folder` is, but narrower, or as the plan's settings have it.

    Returns: facts for the report. Raises: ConfigError, ModelError, DataError, CapacityError.
    """
    found = stand(plan, folder)
    run = student_run(plan, found.start)
    modalities = run.modalities or found.start.info.modalities
    if missing := [m for m in modalities if m not in found.start.info.kinds]:
        raise ConfigError(
            f"modalities={list(modalities)}: {folder} does not read {', '.join(missing)}; a "
            "student reads what its teacher reads, or less of it"
        )
    student = network_of(found, run, modalities)
    identity: dict[str, Any] = {
        "settings": run.model_dump(mode="json"),
        "ways": plan.ways.model_dump(mode="json"),
    }
    identity |= {"data": found.hashes, "from": [one.info.seal for one in found.teachers]}
    info = teach(plan, found, Student(student, run, identity), out)
    taught = found.parts.train.taught
    return {
        "teachers": [teacher.info.name for teacher in found.teachers],
        "modalities": list(info.modalities),
        "labelled": int(taught.sum()),
        "unlabelled": int((~taught).sum()),
        "parameters": [found.start.info.parameters, info.parameters],
        "settings": changed(found.start.run, run),
    }


def student_run(plan: Plan, parent: Loaded) -> Run:
    """The settings of the student: those of the parent, its widths cut, the plan's laid over.

    Raises: ConfigError.
    """
    given = {stage: value for stage, value in (plan.settings or {}).items() if stage != "cache"}
    if own := [stage for stage in given if stage in OWN]:
        raise ConfigError(
            f"--set {own[0]}...: a student reads and answers as its teacher does; leave it out, "
            "or train another model with it"
        )
    values = parent.run.model_dump(mode="json")
    values |= {"cache": (plan.settings or {}).get("cache"), "columns": plan.columns.model_dump()}
    # A teacher's answers hold it back already, and a narrow student has less to be held back.
    values["train"] |= {"seed": plan.seed, "label_smoothing": 0.0}
    values["train"]["modality_dropout"] *= HELD_BACK
    for stage in ("text_encoder", "image_encoder", "audio_encoder", "fusion", "head", "decoder"):
        values[stage]["dropout"] *= HELD_BACK
    share = plan.ways.distil.width or _share(plan, parent)
    for stage in (*(f"{m}_encoder" for m in parent.info.modalities), "fusion"):
        part = values[stage]
        part["width"] = narrower(part["width"], share, part["heads"])
    return config.parse(config.laid(values, given))


def narrower(width: int, share: float, heads: int) -> int:
    """A width that `heads` divide, not under NARROWEST, not over the width that was."""
    least = math.ceil(NARROWEST / heads) * heads
    return min(width, max(least, round(width * share / heads) * heads))


def _share(plan: Plan, parent: Loaded) -> float:
    """By the targets, at most a half: size grows with the width of an embedding, time with the
    square of the width of a convolution."""
    shares = [0.5]
    if plan.target_mb:
        room = plan.target_mb * (INTEGERS if "quantise" in plan.steps else 1.0)
        shares.append(room / measure.size_mb(parent.folder))
    if plan.target_ms:
        records = manifest.read(plan.valid, plan.columns)
        now = measure.alone(parent.folder, records).p50_ms
        shares.append(math.sqrt(plan.target_ms / now))
    return max(1 / 16, min(shares))


def network_of(found: Ground, run: Run, modalities: Subset) -> Network:
    """As a run begins with it, its words knowing already what the teacher knows of them."""
    torch.manual_seed(run.train.seed)
    seen = ground.narrowed(ground.seen_by(found.parts, modalities), modalities)
    measured = training.measure(seen, run)
    if "text" in modalities:
        measured = _with_words(measured, found.start, run.text_encoder.width)
    return build.network(run, seen.settings, measured)


def _with_words(measured: Measured, parent: Loaded, width: int) -> Measured:
    """The teacher's vectors of words, turned so that the first `width` numbers hold most of them.

    Source: Eckart and Young, The approximation of one matrix by another of lower rank (1936).
    """
    stem = parent.network.encoders["text"][0]  # type: ignore[index]
    if not isinstance(stem, Tokens) or not isinstance(stem.resize, torch.nn.Identity):
        return measured
    vectors = stem.embedding.weight.detach()
    if vectors.shape[1] < width:
        return measured
    _, turned = torch.linalg.eigh(vectors.T @ vectors)  # the strongest last
    return replace(measured, vectors=(vectors @ turned.flip(1)[:, :width]).numpy())


def changed(old: Run, new: Run) -> dict[str, list[Any]]:
    """Setting -> what it was and is, where that differs; places and seeds left out."""
    found: dict[str, list[Any]] = {}
    before, after = (
        run.model_dump(mode="json", exclude={"cache", "columns"}) for run in (old, new)
    )
    for stage, value in after.items():
        if isinstance(value, dict):
            for name, inner in value.items():
                if inner != before[stage][name] and name != "seed":
                    found[f"{stage}.{name}"] = [before[stage][name], inner]
        elif value != before[stage]:
            found[stage] = [before[stage], value]
    return found
