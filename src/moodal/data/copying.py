"""Rows of one manifest into others: unchanged, but that relative media paths still resolve."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from moodal.config import Columns
from moodal.data.manifest import DEFAULT_COLUMNS, is_list
from moodal.data.rows import (
    STDIN,
    Row,
    columns_of,
    parquet_columns,
    parquet_connection,
    quoted,
    stream_rows,
    suffix_of,
)
from moodal.errors import CapacityError, DataError

NOWHERE = 255
"""The part of a row that is copied to no file."""


def copy_rows(
    source: Path,
    outs: Sequence[Path],
    *,
    part_of: NDArray[np.uint8],
    columns: Columns = DEFAULT_COLUMNS,
) -> None:
    """Copy row i (from 0, the order of `stream_rows`) of the source to outs[part_of[i]].

    All columns are kept, also unknown ones; the format stays; a row that cannot be read is never
    copied. part_of: (rows,); NOWHERE leaves a row out. The files appear together, whole, or not
    at all; what stood there is replaced.

    Raises: DataError, for standard input, another format or the source itself as target;
        CapacityError, when the disk is full.
    """
    _check_targets(source, outs)
    copy = _copy_parquet if suffix_of(source) == ".parquet" else _copy_text
    with _replacing(outs) as temporary:
        moved = [_mover(source.parent, out.parent) for out in outs]
        copy(source, temporary, part_of, (columns, moved))


def _check_targets(source: Path, outs: Sequence[Path]) -> None:
    if source == STDIN:
        raise DataError("standard input can be read only once; save it as a file first")
    for out in outs:
        if suffix_of(out) != suffix_of(source):
            raise DataError(f"{out}: must end in {source.suffix}, like {source.name}")
        if out.exists() and source.exists() and out.samefile(source):
            raise DataError(f"{out}: is the manifest itself; name another file or folder")


@contextmanager
def _replacing(outs: Sequence[Path]) -> Iterator[list[Path]]:
    temporary = [out.with_name(f".{out.name}.{os.getpid()}.tmp") for out in outs]
    try:
        for out in outs:
            out.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        for part, out in zip(temporary, outs, strict=True):
            part.replace(out)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "the disk is full; free some space" if full else error.strerror
        raise CapacityError(f"{outs[0].parent}: cannot be written: {what}") from error
    finally:
        for part in temporary:
            part.unlink(missing_ok=True)


def _mover(old: Path, new: Path) -> str:
    """What goes before a path relative to `old` to make it relative to `new`; "" for nothing."""
    prefix = Path(os.path.relpath(old.resolve(), new.resolve())).as_posix()
    return "" if prefix == "." else prefix + "/"


Moving = tuple[Columns, list[str]]


def _copy_text(source: Path, outs: list[Path], part_of: NDArray[np.uint8], moving: Moving) -> None:
    columns, prefixes = moving
    header = columns_of(source)
    media = (columns.image, columns.audio)
    with ExitStack() as stack:
        files = [stack.enter_context(out.open("w", encoding="utf-8", newline="")) for out in outs]
        make = _json_writer if suffix_of(source) in (".jsonl", ".ndjson") else _csv_writer
        delimiter = "\t" if suffix_of(source) == ".tsv" else ","
        writers = [make(file, header, delimiter) for file in files]
        for row in stream_rows(source):
            part = int(part_of[row.number - 1])
            if part < len(outs) and not row.fault:
                writers[part](_moved(row, media, prefixes[part]))


def _csv_writer(file: TextIO, header: tuple[str, ...], delimiter: str) -> Callable[[Row], object]:
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    return lambda row: writer.writerow(row.cells.values())


def _json_writer(file: TextIO, header: tuple[str, ...], delimiter: str) -> Callable[[Row], object]:
    del header, delimiter
    return lambda row: file.write(
        (row.line.rstrip("\r\n") or json.dumps(row.cells, ensure_ascii=False)) + "\n"
    )


def _moved(row: Row, media: tuple[str, ...], prefix: str) -> Row:
    if not prefix:
        return row
    changed = {
        name: new for name in media if (new := _moved_cell(row.cells.get(name), prefix)) is not None
    }
    return row._replace(cells={**row.cells, **changed}, line="") if changed else row


def _moved_cell(cell: Any, prefix: str) -> Any:
    """The cell with its path rewritten, or None where there is nothing to rewrite."""
    if isinstance(cell, dict) and not cell.get("bytes"):
        path = _moved_cell(cell.get("path"), prefix)
        return None if path is None else {**cell, "path": path}
    if not isinstance(cell, str):
        return None
    path = cell.strip()
    return None if not path or is_list(path) or Path(path).is_absolute() else prefix + path


def _copy_parquet(
    source: Path, outs: list[Path], part_of: NDArray[np.uint8], moving: Moving
) -> None:
    columns, prefixes = moving
    kinds = parquet_columns(source)
    with parquet_connection(source) as connection:
        for part, (out, prefix) in enumerate(zip(outs, prefixes, strict=True)):
            connection.register("chosen", {"row": np.flatnonzero(part_of == part)})
            media = (columns.image, columns.audio)
            cells = ", ".join(
                _moved_sql(name, kind, prefix) if prefix and name in media else quoted(name)
                for name, kind in kinds
            )
            target = str(out).replace("'", "''")
            connection.execute(
                f"COPY (SELECT {cells} FROM read_parquet(?, file_row_number = true) "
                "WHERE file_row_number IN (SELECT row FROM chosen) ORDER BY file_row_number) "
                f"TO '{target}' (FORMAT parquet, COMPRESSION zstd)",
                [str(source)],
            )


def _moved_sql(name: str, kind: str, prefix: str) -> str:
    column = quoted(name)
    literal = "'" + prefix.replace("'", "''") + "'"

    def moved(path: str) -> str:
        kept = f"{path} IS NULL OR trim({path}) = '' OR {path} LIKE '/%' OR {path} LIKE '[%]'"
        return f"CASE WHEN {kept} THEN {path} ELSE {literal} || trim({path}) END"

    if kind == "VARCHAR":
        return f"{moved(column)} AS {column}"
    if kind.startswith("STRUCT") and "path VARCHAR" in kind and "bytes BLOB" in kind:
        inner = moved(f"{column}.path")
        path = f"CASE WHEN {column}.bytes IS NULL THEN {inner} ELSE {column}.path END"
        return (
            f"CASE WHEN {column} IS NULL THEN NULL ELSE "
            f"struct_pack(bytes := {column}.bytes, path := {path}) END AS {column}"
        )
    return column
