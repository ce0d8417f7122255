"""What a retraining learns from: the old rows and the corrections, as one manifest that is kept."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moodal import bundle
from moodal.bundle import Info, writing
from moodal.config import Columns, Run
from moodal.data import manifest
from moodal.data.duplicates import digest
from moodal.errors import DataError, RecordError
from moodal.monitor import corrections
from moodal.store.inputs import Inputs
from moodal.tasks import TASKS
from moodal.types import MODALITIES, Media, Modality, Record, Rejection, Rejections, Subset, Text

if TYPE_CHECKING:
    from moodal.store.journal import Journal

FILE, COUNTS = "train.jsonl", "counts.json"
RETRAINED = "retrained"
"""Among a bundle's data: what a retraining learned from, as Lessons.to_dict."""


@dataclass(slots=True)
class Lessons:
    """What went in. old, corrections: rows. left_out: rows that could not be used.
    modalities: how many rows hold each."""

    file: Path
    old: int = 0
    corrections: int = 0
    left_out: Rejections = field(default_factory=Rejections)
    modalities: Counter[Modality] = field(default_factory=Counter)

    def sentence(self) -> str:
        return (
            f"{self.old:,} old rows and {self.corrections:,} corrections to learn from, "
            f"{self.left_out.n:,} left out{self.left_out.reason}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "old": self.old,
            "corrections": self.corrections,
            "left_out": {
                "n": self.left_out.n,
                "rows": [rejection.to_dict() for rejection in self.left_out.first],
            },
        }


def folder_of(model: Path) -> Path:
    """Where the rows that a retrained model learned from are kept."""
    return model.with_name(f"{model.name}.data")


@dataclass(frozen=True, slots=True)
class Feedback:
    """Where corrections come from. reviewed: only what a reviewer has judged."""

    journal: Journal
    inputs: Inputs | None
    reviewed: bool = True


def gather(old: Path, feedback: Feedback, *, info: Info, run: Run, out: Path) -> Lessons:
    """Write the old rows, then the corrections, to a manifest in the folder `out`.

    info: the model that learns on; a correction must be an answer it can give. run: its columns
    name those of the old file, and of the new one. Old media stay where they are, those of
    corrections are copied. What cannot be read is left out, and named.

    Raises: DataError when there is no correction, or no row for a modality that the model reads.
    """
    done = Lessons(out / FILE)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        temporary = out / f".{FILE}.{os.getpid()}"
        try:
            with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
                found = chain(_old(old, run.columns, out), _corrected(feedback, info, out))
                for name, row in found:
                    if isinstance(row, Rejection):
                        done.left_out.add(row)
                        continue
                    file.write(_line(row, run.columns))
                    setattr(done, name, getattr(done, name) + 1)
                    done.modalities.update(m for m in MODALITIES if m in row)
            _check(done, run.modalities or info.modalities, info.name)
            corrections.put(out / COUNTS, json.dumps(done.to_dict()).encode())
            temporary.replace(done.file)
        finally:
            temporary.unlink(missing_ok=True)
    return done


Found = tuple[str, Mapping[str, Any] | Rejection]


def _old(path: Path, columns: Columns, out: Path) -> Iterator[Found]:
    for record in manifest.read(path, columns):
        yield "old", record if isinstance(record, Rejection) else _cells(record, out)


def _corrected(feedback: Feedback, info: Info, out: Path) -> Iterator[Found]:
    task, media = TASKS[info.task], out / "media"
    found = corrections.rows(
        feedback.journal, feedback.inputs, media=media, reviewed=feedback.reviewed
    )
    for row in found:
        if not isinstance(row, Rejection):
            try:
                task.encode_target(str(row["label"]), info.labels)
            except RecordError as error:
                yield "", error.rejection(str(row["id"]), f"prediction {row['id']}")
                continue
        yield "corrections", row


def _line(row: Mapping[str, Any], columns: Columns) -> str:
    """Of the cells that a manifest knows; a column under a name of the user's is always there, so
    that it is found."""
    names = columns.model_dump().items()
    cells = {theirs: row.get(ours) for ours, theirs in names if ours in row or ours != theirs}
    return json.dumps(cells, ensure_ascii=False) + "\n"


def _cells(record: Record, out: Path) -> dict[str, Any]:
    """A record as cells of a manifest in the folder `out`."""
    cells: dict[str, Any] = {"id": record.id}
    for modality in record.modalities:
        cells[modality] = _cell(getattr(record, modality), out)
    given = {
        "label": record.target,
        "probabilities": record.probabilities and dict(record.probabilities),
        "lang": record.lang,
        "group": record.group,
        "split": record.split,
    }
    return cells | {name: value for name, value in given.items() if value}


def _cell(value: Text | Media, out: Path) -> Any:
    match value:
        case Path():
            return Path(os.path.relpath(value.resolve(), out.resolve())).as_posix()
        case bytes():
            path = out / "media" / hashlib.sha256(value).hexdigest()
            if not path.exists():
                corrections.put(path, value)
            return f"media/{path.name}"
        case np.ndarray():
            return value.astype(str).astype(np.float64).tolist()  # as few digits as tell it apart
    return value


def _check(done: Lessons, wanted: Subset, name: str) -> None:
    if not done.corrections:
        raise DataError(
            f"the journal holds no correction to learn from ({done.sentence()}); review some "
            "answers first, or add --unreviewed"
        )
    if missing := [m for m in wanted if not done.modalities[m]]:
        raise DataError(
            f"neither the old rows nor the corrections hold {', '.join(missing)}, which {name} "
            f"reads; add rows that do, or give up on it: --set "
            f"modalities=[{','.join(done.modalities)}] makes a model that cannot take its place"
        )


def sign(model: Path) -> Info:
    """Say in a retrained model what it learned from."""
    info = bundle.load(model)
    found = json.loads((folder_of(model) / COUNTS).read_text(encoding="utf-8"))
    info = info.model_copy(update={"data": {**info.data, RETRAINED: found}})
    return bundle.save(model, info, {name: bundle.read(model, info, name) for name in info.files})


def known(model: Path, columns: Columns) -> array[int]:
    """A hash of every row that a retrained model learned from; none where that is not known."""
    file = folder_of(model) / FILE
    hashes = array("Q")
    if file.is_file():
        for record in manifest.read(file, columns):
            if isinstance(record, Record) and (key := _key(record)) is not None:
                hashes.append(key)
    return hashes


def n_known(records: Iterable[Record | Rejection], hashes: Sequence[int]) -> int:
    """How many of these records are among the rows of `hashes`, equal in every modality."""
    if not hashes:
        return 0
    there = np.unique(np.asarray(hashes, np.uint64))
    keys = (_key(record) for record in records if isinstance(record, Record))
    asked = np.array([key for key in keys if key is not None], np.uint64)
    return int(np.isin(asked, there).sum())


def _key(record: Record) -> int | None:
    """A hash of all that a record holds, white space aside; None where a file is gone."""
    try:
        parts = [m.encode() + _content(getattr(record, m)) for m in record.modalities]
    except OSError:
        return None
    return digest(b"\0".join(parts))


def _content(value: Text | Media) -> bytes:
    match value:
        case str():
            return " ".join(value.split()).encode("utf-8", "replace")
        case Path():
            return hashlib.sha256(value.read_bytes()).digest()
        case bytes():
            return hashlib.sha256(value).digest()
    return value.tobytes()
