"""Feedback as manifest rows: the answer that people gave, beside what was asked, where kept."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodal.bundle import writing
from moodal.data.rows import parquet_connection, suffix_of
from moodal.errors import ConfigError, DataError
from moodal.store.inputs import Inputs
from moodal.store.rows import Judgement, Served
from moodal.types import Rejection, Rejections

if TYPE_CHECKING:
    from moodal.store.journal import Journal

Row = dict[str, str | float | bool]
Write = Callable[[Row], object]

KINDS: dict[str, str] = {
    "id": "VARCHAR",
    "text": "VARCHAR",
    "image": "VARCHAR",
    "audio": "VARCHAR",
    "label": "VARCHAR",
    "lang": "VARCHAR",
    "prediction": "VARCHAR",
    "confidence": "DOUBLE",
    "model": "VARCHAR",
    "reviewed": "BOOLEAN",
    "comment": "VARCHAR",
}
"""Columns, and what they are in a Parquet file. prediction: what the model said; model: its
version; reviewed: whether a reviewer gave the label, and not the user alone."""
_LARGEST_ROW = 1 << 28


@dataclass(slots=True)
class Exported:
    """What became of the judged answers. corrected: rows whose label is not what the model said.
    left_out: rows that could not be exported."""

    file: str
    written: int = 0
    corrected: int = 0
    left_out: Rejections = field(default_factory=Rejections)

    def sentence(self) -> str:
        return (
            f"{self.file}: {self.written:,} rows, of {self.corrected:,} the answer was another; "
            f"{self.left_out.n:,} left out{self.left_out.reason}"
        )

    def to_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {
            "n_left_out": self.left_out.n,
            "left_out": [rejection.to_dict() for rejection in self.left_out.first],
        }


def export(
    journal: Journal, out: Path, *, inputs: Inputs | None, reviewed: bool = False
) -> Exported:
    """Write every judged answer as a row of a manifest, in the order of the judgements.

    out: CSV, TSV, JSONL or Parquet; pictures and recordings are copied into a folder beside it.
    inputs: what the service kept; None = nothing, and every row is left out. reviewed: only what a
    reviewer has judged.

    Raises: DataError for another format; CapacityError when the journal cannot be reached or the
        disk is full. Then no file is left there.
    """
    done = Exported(out.name)
    with _writer(out) as write:
        for found in rows(journal, inputs, media=media_folder(out), reviewed=reviewed):
            if isinstance(found, Rejection):
                done.left_out.add(found)
                continue
            write(found)
            done.written += 1
            done.corrected += found["label"] != found["prediction"]
    return done


def kept_in(folder: Path | str | None) -> Inputs | None:
    """What a service kept there, to be read. Raises: ConfigError when there is no such folder."""
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise ConfigError(f"{folder}: there is no such folder; name that of serve --keep-inputs")
    return Inputs(Path(folder), math.inf)


def media_folder(manifest: Path) -> Path:
    return manifest.with_name(f"{manifest.stem}.media")


def rows(
    journal: Journal, inputs: Inputs | None, *, media: Path, reviewed: bool
) -> Iterator[Row | Rejection]:
    """A row for each judged answer, or why there is none; what is nothing has no cell.

    media: the folder to copy pictures and recordings into; cells are relative to the one it is in.
    """
    for served, judgement in journal.judged(reviewed=reviewed):
        try:
            yield _row(served, judgement, _inputs(served, inputs, media))
        except DataError as error:
            yield Rejection(served.id, f"prediction {served.id}", "", str(error))


def _row(served: Served, judgement: Judgement, cells: Mapping[str, str]) -> Row:
    said = served.said if served.label is None else served.label
    row: Row = {
        "id": served.id,
        **cells,
        "label": judgement.label,
        "lang": served.language,
        "prediction": said or ("" if served.value is None else str(served.value)),
        "confidence": served.confidence,
        "model": served.model,
        "reviewed": judgement.by == "reviewer",
        "comment": judgement.comment,
    }
    return {name: row[name] for name in KINDS if row.get(name, "") != ""}


def _inputs(served: Served, inputs: Inputs | None, media: Path) -> dict[str, str]:
    """A cell for each modality that was sent. Raises: DataError when one is not kept."""
    # The words of a recording were heard, not sent, where a transcriber was at work.
    sent = [m for m in served.modalities.split("+") if m != "text" or "audio" not in served.inputs]
    if not served.modalities:
        raise DataError("nothing was said that the model reads")
    if gone := [m for m in sent if m not in served.inputs]:
        raise DataError(f"its {', '.join(gone)} was not kept; serve with --keep-inputs DIR")
    if inputs is None:
        raise DataError("its input is in the folder of --keep-inputs; name it with --inputs DIR")
    return {m: _kept(inputs, sha256, m, media) for m, sha256 in served.inputs.items()}


def _kept(inputs: Inputs, sha256: str, modality: str, media: Path) -> str:
    """The text itself, or where a copy of the media lies. Raises: DataError."""
    path, found = inputs.path(sha256), inputs.read(sha256)
    if path is None or found is None:
        raise DataError(
            f"its {modality} is not in {inputs.folder}: it was forgotten after some days, or kept "
            "elsewhere"
        )
    content, _ = found
    if modality == "text":
        return content.decode("utf-8", "replace")
    if not (media / path.name).exists():  # the name is the content's
        put(media / path.name, content)
    return f"{media.name}/{path.name}"


def put(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


@contextmanager
def _writer(out: Path) -> Iterator[Write]:
    """Write rows; the file stands only once it is whole."""
    suffix = suffix_of(out)
    if not suffix:
        raise DataError("media are copied beside the rows; name a file, not standard output")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8", errors="replace", newline="") as file:
                yield _LINES[suffix](file)
            if suffix == ".parquet":
                _to_parquet(temporary)
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)


def _csv_lines(file: Any, delimiter: str) -> Write:
    writer = csv.DictWriter(file, KINDS, restval="", delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    plain = {True: "true", False: "false"}
    return lambda row: writer.writerow({**row, "reviewed": plain[bool(row["reviewed"])]})


def _json_lines(file: Any, first: str = "") -> Write:
    file.write(first)
    return lambda row: file.write(json.dumps(row, ensure_ascii=False) + "\n")


_LINES: dict[str, Callable[[Any], Write]] = {
    ".csv": lambda file: _csv_lines(file, ","),
    ".tsv": lambda file: _csv_lines(file, "\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": lambda file: _json_lines(file, "\n"),  # a file of no bytes cannot be read
}


def _to_parquet(lines: Path) -> None:
    """JSON lines to Parquet, in place."""
    kinds = ", ".join(f"{name}: '{kind}'" for name, kind in KINDS.items())
    whole = lines.with_name(f"{lines.name}.parquet")
    target = str(whole).replace("'", "''")
    try:
        with parquet_connection(lines) as connection:
            connection.execute(
                f"COPY (SELECT * FROM read_json(?, format = 'newline_delimited', "
                f"columns = {{{kinds}}}, maximum_object_size = {_LARGEST_ROW})) "
                f"TO '{target}' (FORMAT parquet, COMPRESSION zstd)",
                [str(lines)],
            )
        whole.replace(lines)
    finally:
        whole.unlink(missing_ok=True)
