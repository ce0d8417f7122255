"""Rows to records: the manifest, whatever its format, as the stages after it want it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moodal import config
from moodal.config import Columns
from moodal.data.rows import (
    MAX_CHARS,
    STDIN,
    Row,
    columns_of,
    fingerprint,
    name_of,
    stream_rows,
    suffix_of,
)
from moodal.errors import DataError, RecordError
from moodal.types import MODALITIES, Media, Record, Rejection

__all__ = ["DEFAULT_COLUMNS", "columns_in", "columns_of", "fingerprint", "read", "record_of"]

DEFAULT_COLUMNS = Columns()
_SURROGATE = re.compile("[\ud800-\udfff]")
_ROWS_TO_JUDGE = 1000
"""JSONL has no header: a column that none of this many rows holds does not exist."""


def read(
    path: Path, columns: Columns = DEFAULT_COLUMNS, *, split: str | None = None
) -> Iterator[Record | Rejection]:
    """The records of a manifest in order, streamed; a bad row is a Rejection in its place.

    path: CSV, TSV, JSONL (.jsonl, .ndjson) or Parquet; `-` is standard input (CSV or JSONL).
    split: only rows whose split cell holds this.
    Media are not opened here: a path that does not exist is found when it is decoded. A relative
    path is relative to the manifest's folder (standard input: to the working folder).

    Raises: DataError, when the first record is asked for: the file is missing, empty, has no
        rows, is not UTF-8, or lacks a column that was asked for.
    """
    name = name_of(path)
    folder = Path() if path == STDIN else path.parent
    wanted = tuple(columns.model_dump().values())
    seen: dict[str, None] = {}
    row = Row(0, {})
    for row in stream_rows(path, select=wanted):
        if row.number <= _ROWS_TO_JUDGE and not row.fault:
            seen |= dict.fromkeys(row.cells)
            # A row of CSV or Parquet holds every column; one of JSONL only those it needs.
            if not row.line or row.number == _ROWS_TO_JUDGE:
                _check_columns(path, tuple(seen), columns, split=split)
        found = _record_or_rejection(row, columns, name, folder)
        if split is None or isinstance(found, Rejection) or found.split == split:
            yield found
    if not row.number:
        raise DataError(f"{name}: has a header and no rows; add at least one")
    if seen:
        _check_columns(path, tuple(seen), columns, split=split)


def columns_in(path: Path, known: Columns, renames: Mapping[str, str] | None = None) -> Columns:
    """The names that a model was trained with, where this file has them; always what a caller says.

    Raises: ConfigError, DataError.
    """
    there = () if path == STDIN else columns_of(path)
    plain = Columns().model_dump()
    kept = {ours: theirs for ours, theirs in known.model_dump().items() if theirs in there}
    return config.parse({"columns": {**plain, **kept, **(renames or {})}}).columns


def record_of(row: Row, columns: Columns, *, source: str, folder: Path) -> Record:
    """The record in a row.

    source: where the row stands, e.g. "train.csv row 12". folder: of relative media paths.
    Raises: RecordError, naming the field.
    """
    if row.fault:
        raise RecordError(row.fault)
    cells = row.cells
    words = {
        field: text_of(cells.get(getattr(columns, field)), field).strip()
        for field in ("id", "label", "lang", "group", "split")
    }
    record = Record(
        id=words["id"] or str(row.number),
        text=_text(cells.get(columns.text)),
        image=_media(cells.get(columns.image), "image", folder),
        audio=_media(cells.get(columns.audio), "audio", folder),
        target=words["label"] or None,
        probabilities=_probabilities(cells.get(columns.probabilities)),
        lang=words["lang"],
        group=words["group"],
        split=words["split"],
        source=source,
    )
    if not record.modalities:
        raise RecordError("holds no text, image or audio; fill at least one of these cells")
    return record


def text_of(value: Any, field: str) -> str:
    """A cell as text: "" for null and NaN, a number as JSON writes it.

    Raises: RecordError, for a list, an object or bytes that are not UTF-8.
    """
    if value is None or value == "":
        return ""
    text = value if type(value) is str else _scalar(value, field)
    if len(text) > MAX_CHARS:
        raise RecordError(f"is longer than {MAX_CHARS:,} characters; shorten it", field=field)
    if not text.isascii() and _SURROGATE.search(text):
        raise RecordError("holds characters that are not Unicode text; save as UTF-8", field=field)
    return text


def _scalar(value: Any, field: str) -> str:
    match value:
        case bytes():
            return value.decode("utf-8", "surrogateescape")
        case bool():
            return "true" if value else "false"
        case float() if math.isnan(value):  # what pandas writes for an empty cell
            return ""
        case list() | tuple() | dict():
            raise RecordError(
                f"holds {_short(value)}, a {type(value).__name__}; it must be text or a number",
                field=field,
            )
        case _:
            return str(value)


def features_of(value: Any, field: str) -> NDArray[np.float32]:
    """Precomputed features: a list of numbers (D,), or of equally long lists (S, D).

    Raises: RecordError, for text, null, NaN or infinity among them, and for ragged lists.
    """
    try:
        array = np.array(value)
    except ValueError as error:
        raise RecordError(
            "is a list of lists of different lengths; a sequence is S lists of D numbers each",
            field=field,
        ) from error
    if array.size == 0 or array.ndim > 2 or array.dtype.kind not in "iuf":
        raise RecordError(
            f"holds {_short(value)}; features are a list of numbers, or a list of equally long "
            "lists of numbers",
            field=field,
        )
    with np.errstate(over="ignore"):
        features = array.astype(np.float32)
    if not np.isfinite(features).all():
        place = np.argwhere(~np.isfinite(features))[0].tolist()
        raise RecordError(
            f"holds {array[tuple(place)]} at position {place}; features must be finite float32 "
            "numbers: leave the cell empty where the modality is absent",
            field=field,
        )
    return features


def _text(value: Any) -> str | NDArray[np.float32] | None:
    if isinstance(value, list | tuple):
        return features_of(value, "text")
    text = text_of(value, "text")
    return text if text and not text.isspace() else None


def _media(value: Any, field: Literal["image", "audio"], folder: Path) -> Media | None:
    if value is None or value == "":
        return None
    if isinstance(value, dict):  # {bytes, path}, as the Hugging Face datasets library writes
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value or None
    if isinstance(value, list | tuple):
        return features_of(value, field)
    name = text_of(value, field).strip()
    if is_list(name):
        return features_of(_json(name, field), field)
    if "\0" in name:
        raise RecordError(f"holds a NUL in the path {_short(name)}; remove it", field=field)
    return folder / name if name else None


def _probabilities(value: Any) -> dict[str, float] | None:
    """A mapping of labels to numbers, or one as JSON. Raises: RecordError."""
    if isinstance(value, str) and value.strip():
        value = _json(value, "probabilities")
    if value is None or value == "":
        return None
    if not isinstance(value, dict) or not all(isinstance(p, int | float) for p in value.values()):
        raise RecordError(
            f'holds {_short(value)}; write it as {{"negative": 0.7, "positive": 0.3}}, or leave it '
            "empty",
            field="probabilities",
        )
    return {str(label): float(p) for label, p in value.items()}


def is_list(cell: str) -> bool:
    """Is a text cell of a media column a list of features rather than a path?"""
    return cell.startswith("[") and cell.endswith("]")


def _json(cell: str, field: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"holds {_short(cell)}, which is not JSON: {error}",
            field=field,
        ) from error


def _record_or_rejection(row: Row, columns: Columns, name: str, folder: Path) -> Record | Rejection:
    source = f"{name} row {row.number}"
    try:
        return record_of(row, columns, source=source, folder=folder)
    except RecordError as error:
        id = row.cells.get(columns.id) if isinstance(row.cells.get(columns.id), str | int) else None
        return error.rejection(str(id or row.number), source)


def _check_columns(
    path: Path, there: tuple[str, ...], columns: Columns, *, split: str | None
) -> None:
    asked = {
        name
        for field, name in columns.model_dump().items()
        if name != field or (field == "split" and split is not None)
    }
    missing = sorted(asked - set(there))
    listed = ", ".join(there)
    if missing:
        if suffix_of(path) == ".parquet":  # of which only the wanted columns are read
            listed = ", ".join(columns_of(path))
        raise DataError(f"{name_of(path)}: has no column {missing[0]!r}; its columns are {listed}")
    if not any(getattr(columns, modality) in there for modality in MODALITIES):
        hint = ""
        if len(there) == 1 and any(mark in listed for mark in ";\t|"):
            hint = "; its cells seem to be parted by something else than a comma"
        raise DataError(
            f"{name_of(path)}: has no column text, image or audio; its columns are {listed}"
            f"{hint}. Rename one, or say which it is (columns.text=NAME)"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
