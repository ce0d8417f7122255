"""What the steps stand on: the rows, read once as the model and its teachers read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from moodal import bundle
from moodal.bundle import Info
from moodal.compress import network
from moodal.compress.network import Loaded
from moodal.compress.plan import Plan
from moodal.errors import ConfigError, DataError
from moodal.preprocess import batch
from moodal.preprocess.batch import Settings
from moodal.preprocess.cache import default_folder
from moodal.preprocess.symbols import Symbols
from moodal.tasks import TASKS
from moodal.training import examples
from moodal.training import read as reading
from moodal.training.examples import Codec, Decoder, Parts, Survey
from moodal.types import MODALITIES, Modality, Subset


@dataclass(frozen=True, slots=True)
class Ground:
    """start: the model that a step begins with. teachers: whose answers are learned. parts: the
    rows, with every modality that one of them reads; training rows may lack a label. hashes: of
    the manifests."""

    start: Loaded
    teachers: tuple[Loaded, ...]
    parts: Parts
    hashes: dict[str, str]


def stand(plan: Plan, folder: Path) -> Ground:
    """folder: the model that the step begins with.

    Raises: ModelError, ConfigError (teachers that do not go together), DataError.
    """
    start = network.load(folder)
    teachers = tuple(map(network.load, plan.teachers or (plan.model,)))
    for teacher in teachers:
        _check_alike(start, teacher)
    for one, other in pairwise(teachers):
        _check_alike(one, other)
    sources = reading.parts_of(plan.train, plan.valid)
    hashes = {name: part.fingerprint() for name, part in sources._asdict().items()}
    return Ground(start, teachers, _read(plan, (start, *teachers)), hashes)


def seen_by(parts: Parts, modalities: Subset) -> Parts:
    """The rows that hold one of these modalities; their other columns stay, for the teachers.

    Raises: DataError when none is left.
    """

    def rows(part: examples.Examples, name: str) -> examples.Examples:
        columns = [part.arrays[m] for m in modalities if m in part.arrays]
        kept = [row for row, cells in enumerate(zip(*columns, strict=True)) if _any(cells)]
        if not kept:
            raise DataError(
                f"no {name} row has {' or '.join(modalities)}, which the student reads; fill the "
                "column, or let it read others: --set modalities=[...]"
            )
        return part if len(kept) == len(part) else part.only(kept, [])

    return replace(
        parts, train=rows(parts.train, "training"), valid=rows(parts.valid, "validation")
    )


def narrowed(parts: Parts, modalities: Subset) -> Parts:
    """As a model sees the rows that reads these modalities alone."""

    def of(named: dict[Modality, Any]) -> dict[Modality, Any]:
        return {m: value for m, value in named.items() if m in modalities}

    settings = replace(
        parts.settings,
        kinds=of(dict(parts.settings.kinds)),
        widths=of(dict(parts.settings.widths)),
        windows=of(dict(parts.settings.windows)),
    )
    train, valid = (replace(p, arrays=of(p.arrays)) for p in (parts.train, parts.valid))
    reads_text = parts.codec.symbols is not None or "text" in modalities
    return replace(
        parts,
        settings=settings,
        inputs=of(dict(parts.inputs)),
        lexicon=parts.lexicon if reads_text else None,
        train=train,
        valid=valid,
    )


def _any(cells: Sequence[Any]) -> bool:
    return any(cell is not None for cell in cells)


def _check_alike(one: Loaded, other: Loaded) -> None:
    """Raises: ConfigError, which says what differs."""
    if one.info.task != other.info.task:
        _refuse(one, other, f"answers task={one.info.task}", f"task={other.info.task}")
    if one.info.labels != other.info.labels:
        ours, theirs = (_some(loaded.info.labels) for loaded in (one, other))
        _refuse(one, other, f"has the labels {ours}", theirs)
    for modality in one.info.modalities:
        if modality in other.info.kinds:
            _check_modality(one, other, modality)


def _check_modality(one: Loaded, other: Loaded, modality: Modality) -> None:
    ours, theirs = one.info.kinds[modality], other.info.kinds[modality]
    if ours != theirs:
        _refuse(one, other, f"reads {modality} as {ours}", theirs)
    here, there = (getattr(loaded.info, modality).model_dump() for loaded in (one, other))
    for name, value in here.items():
        if value != there[name]:
            _refuse(one, other, f"has {modality}.{name}={value}", f"{there[name]}")
    words = [_words(loaded.info) for loaded in (one, other)]
    if modality == "text" and words[0] != words[1]:
        _refuse(one, other, "knows other words", "its own; train both with --from one model")


def _words(info: Info) -> str:
    return info.files.get(bundle.VOCABULARY, info.files.get(bundle.SYMBOLS, ""))


def _refuse(one: Loaded, other: Loaded, ours: str, theirs: str) -> None:
    raise ConfigError(
        f"{one.folder} {ours}, {other.folder} {theirs}; a student and its teachers must agree in "
        "this: name another with --teacher"
    )


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "") if labels else "none"


def _settings(models: Sequence[Loaded]) -> Settings:
    """How the rows are read: as any of the models reads a modality."""
    first = models[0]
    kinds = {m: kind for one in reversed(models) for m, kind in one.info.kinds.items()}
    widths = {m: width for one in models for m, width in one.info.widths.items()}
    reader = {m: next(one.info for one in models if m in one.info.kinds) for m in kinds}
    stages = first.run.model_copy(update={m: getattr(info, m) for m, info in reader.items()})
    ordered = {m: kinds[m] for m in MODALITIES if m in kinds}
    return batch.settings_of(ordered, widths, stages, windowed=TASKS[first.info.task].windowed)


def _read(plan: Plan, models: Sequence[Loaded]) -> Parts:
    """Raises: DataError."""
    info, settings = models[0].info, _settings(models)
    lexicon = next((one.lexicon for one in models if one.lexicon is not None), None)
    spelling = lexicon if isinstance(lexicon, Symbols) else None
    codec = Codec(TASKS[info.task], info.labels, spelling)
    inputs = batch.build(settings, lexicon)
    place = (plan.settings or {}).get("cache")
    decoder = Decoder(inputs, settings, Path(place) if place else default_folder())
    try:
        train, valid = (
            examples.build(
                part.records(plan.columns),
                codec=codec,
                decoder=decoder,
                name=part.name,
                training=name == "train",
                unlabelled=name == "train",
            )
            for name, part in reading.parts_of(plan.train, plan.valid)._asdict().items()
        )
    finally:
        decoder.close()
    return Parts(codec, settings, lexicon, inputs, train, valid, Survey())
