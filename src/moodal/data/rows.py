"""First stage: a file (CSV, TSV, JSONL, Parquet, standard input) to plain rows, streamed.

Measured on 1,000,000 rows of text: the standard library's csv and json are as fast as DuckDB and
pyarrow once rows become Python values, in a tenth of the memory; Parquet is DuckDB's.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

from moodal.errors import CapacityError, DataError

STDIN = Path("-")
MAX_CHARS = 10_000_000
"""Longest cell and longest line read, in characters: a book is a tenth of this."""
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_HEAD_BYTES = 65_536
_PARQUET_MEMORY = "2GB"
"""Limit, not use: DuckDB reads 2,048 rows of a row group at a time; of text that is little."""
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_TOO_LONG = f"longer than {MAX_CHARS:,} characters; shorten or remove it"
_NOT_UTF8 = "holds bytes that are not UTF-8; save the file as UTF-8"


class Row(NamedTuple):
    """One row. number counts from 1, the header and blank lines not included.

    cells: column -> value: text in CSV and TSV, any JSON value in JSONL, DuckDB's in Parquet.
    fault: "" or why the row cannot be read (cells is then empty).
    line: the row as it stands in a JSONL file, else "".
    """

    number: int
    cells: Mapping[str, Any]
    fault: str = ""
    line: str = ""


def stream_rows(path: Path, *, select: tuple[str, ...] | None = None) -> Iterator[Row]:
    """The rows of a file in order, in constant memory; a row that cannot be read has a fault.

    path: the suffix tells the format; `-` is standard input: JSONL if it begins with `{`, else CSV.
    select: Parquet: read these columns only (those that are there).
    Raises: DataError, when the first row is asked for: the file is missing, empty, not UTF-8, of
        an unknown format, or damaged.
    """
    if suffix_of(path) == ".parquet":
        yield from _parquet(path, select)
        return
    with _opened(path) as (stream, suffix):
        read = _csv if suffix in _DELIMITERS else _jsonl
        yield from read(path, stream, suffix)


def columns_of(path: Path) -> tuple[str, ...]:
    """The columns of a file; of a JSONL file, the keys of its first 100 rows.

    Raises: DataError, as `stream_rows`.
    """
    if suffix_of(path) == ".parquet":
        return tuple(name for name, _ in parquet_columns(path))
    with _opened(path) as (stream, suffix):
        if suffix in _DELIMITERS:
            return tuple(_header(path, _csv_reader(stream, suffix)))
        keys = (key for row in islice(_jsonl(path, stream, suffix), 100) for key in row.cells)
        return tuple(dict.fromkeys(keys))


def fingerprint(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal digits. Raises: DataError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def suffix_of(path: Path) -> str:
    """The format of a file, as its lower-case suffix; "" for standard input. Raises: DataError."""
    suffix = path.suffix.lower()
    if path == STDIN or suffix in SUFFIXES:
        return "" if path == STDIN else suffix
    raise DataError(
        f"{path}: cannot tell the format from the name; it must end in one of "
        f"{', '.join(SUFFIXES)}, or be - for standard input"
    )


def name_of(path: Path) -> str:
    return "standard input" if path == STDIN else path.name


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: there is no such file; check the path")
    if path.is_dir():
        return DataError(f"{path}: is a folder; name a manifest file in it")
    return DataError(f"{path}: cannot be read: {error.strerror}")


# ---- text formats ------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[tuple[TextIO, str]]:
    """The text of a file and its format, once its first bytes have been looked at."""
    suffix = suffix_of(path)
    try:
        binary: BinaryIO = (
            sys.stdin.buffer if path == STDIN else path.open("rb", buffering=_HEAD_BYTES)
        )
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        head = _peek(path, binary)
        suffix = suffix or (".jsonl" if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else ".csv")
        # surrogateescape: bytes that are not UTF-8 become lone surrogates, so that one bad row
        # can be told from the good ones.
        text = io.TextIOWrapper(
            binary,
            encoding="utf-8-sig",
            errors="surrogateescape",
            newline=None if suffix == ".jsonl" else "",
        )
        try:
            yield text, suffix
        finally:
            text.detach()
    finally:
        if path != STDIN:
            binary.close()


def _peek(path: Path, binary: BinaryIO) -> bytes:
    from moodal.data.encoding import check_encoding

    try:
        head: bytes = binary.peek(_HEAD_BYTES)  # type: ignore[attr-defined]
    except OSError as error:
        raise unreadable(path, error) from error
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        raise DataError(f"{name_of(path)}: is empty; it needs a header and at least one row")
    if head[:4] == b"PAR1":
        raise DataError(
            f"{name_of(path)}: is a Parquet file, which must be a file named *.parquet (it cannot "
            "come from standard input or under another suffix)"
        )
    check_encoding(name_of(path), head)
    return head


def _lines(stream: TextIO) -> Iterator[str]:
    while line := stream.readline(MAX_CHARS + 1):
        if len(line) > MAX_CHARS:
            # The rest is thrown away; what is left trips the reader's own limit.
            while not line.endswith("\n") and (rest := stream.readline(MAX_CHARS)):
                line = "x" * (MAX_CHARS + 1) + rest[-1]
        yield line


def _csv_reader(stream: TextIO, suffix: str) -> Any:
    csv.field_size_limit(max(MAX_CHARS, csv.field_size_limit()))
    return csv.reader(_lines(stream), delimiter=_DELIMITERS[suffix], strict=True)


def _header(path: Path, reader: Any) -> list[str]:
    try:
        header: list[str] = next((cells for cells in reader if any(map(str.strip, cells))), [])
    except csv.Error as error:
        raise DataError(f"{name_of(path)}: the header cannot be read: {error}") from error
    names = [cell.strip() for cell in header]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{name_of(path)}: two columns are named {twice[0]!r}; rename one")
    return names


def _csv(path: Path, stream: TextIO, suffix: str) -> Iterator[Row]:
    reader = _csv_reader(stream, suffix)
    header = _header(path, reader)
    number = 0
    while True:
        first_line = reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            yield Row(number, {}, _csv_fault(error, reader.line_num - first_line))
            continue
        if not cells:
            continue
        number += 1
        if len(cells) != len(header):
            fault = (
                f"has {len(cells)} cells where the header has {len(header)} columns; put cells "
                "that hold a comma, a tab or a quote in double quotes"
            )
            yield Row(number, {}, fault)
        elif _is_utf8("".join(cells)):
            yield Row(number, dict(zip(header, cells, strict=True)))
        else:
            yield Row(number, {}, _NOT_UTF8)


def _csv_fault(error: csv.Error, n_lines: int) -> str:
    if "field larger" in str(error):
        return f"is {_TOO_LONG}"
    return (
        f"has a wrong or missing double quote ({error}; {n_lines} lines of the file were read as "
        "this row); write a quote inside a cell as two"
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _jsonl(path: Path, stream: TextIO, suffix: str) -> Iterator[Row]:
    del path, suffix
    lines = (line for line in _lines(stream) if line.strip())
    for number, line in enumerate(lines, start=1):
        fault = ""
        cells: Any = {}
        if len(line) > MAX_CHARS:
            fault = f"is {_TOO_LONG}"
        elif not _is_utf8(line):
            fault = _NOT_UTF8
        else:
            cells, fault = _json_object(line)
        yield Row(number, {} if fault else cells, fault, "" if fault else line)


def _json_object(line: str) -> tuple[Any, str]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"is not JSON ({error}); each line must be one object like {{'text': '...'}}"
    if isinstance(value, dict):
        return value, ""
    return {}, f"is a JSON {type(value).__name__}; each line must be one object"


# ---- Parquet -----------------------------------------------------------------------------------


@contextmanager
def parquet_connection(path: Path) -> Iterator[Any]:
    """A DuckDB connection of one thread and bounded memory; its errors become ours.

    Raises: DataError, for a file that is missing, empty or damaged; CapacityError, when its rows
        do not fit into the memory allowed.
    """
    import duckdb

    if not path.is_file():
        error: OSError = IsADirectoryError() if path.is_dir() else FileNotFoundError()
        raise unreadable(path, error)
    if not path.stat().st_size:
        raise DataError(f"{path.name}: is empty; it needs at least one row")
    # Without a word DuckDB would spill into the working folder and draw a bar on standard output.
    spill = Path(tempfile.gettempdir()) / f"moodal-duckdb-{os.getpid()}"
    connection = duckdb.connect(
        config={"threads": 1, "memory_limit": _PARQUET_MEMORY, "temp_directory": str(spill)}
    )
    try:
        connection.execute("SET enable_progress_bar = false")
        yield connection
    except duckdb.OutOfMemoryException as problem:
        raise CapacityError(
            f"{path.name}: 2,048 of its rows take more than {_PARQUET_MEMORY}; write the file with "
            "smaller row groups (row_group_size=100), or with paths in place of bytes"
        ) from problem
    except duckdb.Error as problem:
        reason = str(problem).splitlines()[0]
        if "No space left" in reason:
            raise CapacityError(f"{path.name}: the disk is full; free some space") from problem
        raise DataError(f"{path.name}: cannot be read or copied as Parquet: {reason}") from problem
    finally:
        connection.close()


def parquet_columns(path: Path) -> list[tuple[str, str]]:
    """(name, DuckDB type) of each column. Raises: DataError."""
    with parquet_connection(path) as connection:
        found = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
    return [(str(name), str(kind)) for name, kind, *_ in found]


def quoted(name: str) -> str:
    """A column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _parquet(path: Path, select: tuple[str, ...] | None) -> Iterator[Row]:
    names = [name for name, _ in parquet_columns(path) if select is None or name in select]
    columns = ", ".join(map(quoted, names)) or "NULL"
    with parquet_connection(path) as connection:
        connection.execute(f"SELECT {columns} FROM read_parquet(?)", [str(path)])
        fetch: Callable[[int], list[tuple[Any, ...]]] = connection.fetchmany
        number = 0
        while block := fetch(64):  # small, since a cell may be a picture
            for values in block:
                number += 1
                yield Row(number, dict(zip(names, values, strict=False)))
