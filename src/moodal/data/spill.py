"""What a check must remember of every row, kept in files so that memory does not grow."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_BUCKET_BITS = 6
_BUFFER = 4096
_BINS = 4096


class Spill:
    """Records with a 64-bit `key`, in 64 files by the key's first bits: equal keys meet in one.

    dtype: a structured dtype with a field `key` (uint64).
    """

    def __init__(self, folder: Path, name: str, dtype: DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._paths = [folder / f"{name}.{i}" for i in range(1 << _BUCKET_BITS)]
        self._rows: list[tuple[Any, ...]] = []

    def add(self, *values: Any) -> None:
        self._rows.append(values)
        if len(self._rows) == _BUFFER:
            self._flush()

    def extend(self, records: NDArray[Any]) -> None:
        bucket = (records["key"] >> np.uint64(64 - _BUCKET_BITS)).astype(np.intp)
        order = np.argsort(bucket, kind="stable")
        ends = np.cumsum(np.bincount(bucket, minlength=len(self._paths)))
        for path, part in zip(self._paths, np.split(records[order], ends[:-1]), strict=True):
            if len(part):
                with path.open("ab") as file:
                    file.write(part.tobytes())

    def buckets(self) -> Iterator[NDArray[Any]]:
        """Each file's records; all records of one key are in one of them."""
        self._flush()
        for path in self._paths:
            if path.exists():
                yield np.fromfile(path, dtype=self._dtype)

    def _flush(self) -> None:
        if self._rows:
            self.extend(np.array(self._rows, dtype=self._dtype))
            self._rows.clear()


class Values:
    """A number of each row (NaN = none), in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        self._buffer = array("f")

    def add(self, value: float) -> None:
        self._buffer.append(value)
        if len(self._buffer) == _BUFFER:
            self._flush()

    def quantiles(self, *shares: float) -> list[float]:
        """The values under which these shares of all lie, exact to 1/4096 of the range.

        [] where there are no values.
        """
        low, high = np.inf, -np.inf
        for values in self._chunks():
            if np.isfinite(values).any():
                low = min(low, float(np.nanmin(values)))
                high = max(high, float(np.nanmax(values)))
        if low > high:
            return []
        edges = np.linspace(low, high, _BINS + 1)
        counts = np.zeros(_BINS, dtype=np.int64)
        for values in self._chunks():
            counts += np.histogram(values[np.isfinite(values)], edges)[0]
        seen = np.cumsum(counts)
        return [
            float(edges[0] if share == 0 else edges[1 + np.searchsorted(seen, share * seen[-1])])
            for share in shares
        ]

    def outside(self, low: float, high: float) -> Iterator[tuple[int, float]]:
        """(row from 0, value) of each value under `low` or over `high`."""
        start = 0
        for values in self._chunks():
            for i in np.flatnonzero((values < low) | (values > high)).tolist():
                yield start + i, float(values[i])
            start += len(values)

    def _flush(self) -> None:
        with self._path.open("ab") as file:
            self._buffer.tofile(file)
        del self._buffer[:]

    def _chunks(self) -> Iterator[NDArray[np.float32]]:
        self._flush()
        with self._path.open("rb") as file:
            while data := file.read(4 * _BUFFER):
                yield np.frombuffer(data, dtype=np.float32)


class Ids:
    """The id of each row, in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self._text = folder / f"{name}.text"
        self._ends = folder / f"{name}.ends"
        self._ids: list[bytes] = []
        self._end = 0

    def add(self, id: str) -> None:
        self._ids.append(id.encode("utf-8", "replace"))
        if len(self._ids) == _BUFFER:
            self._flush()

    def __getitem__(self, row: int) -> str:
        """The id of a row, counted from 0."""
        self._flush()
        with self._ends.open("rb") as ends, self._text.open("rb") as text:
            ends.seek(8 * max(row - 1, 0))
            pair = np.frombuffer(ends.read(16 if row else 8), dtype=np.int64)
            start = int(pair[0]) if row else 0
            text.seek(start)
            return text.read(int(pair[-1]) - start).decode("utf-8")

    def _flush(self) -> None:
        ends = self._end + np.cumsum([len(id) for id in self._ids], dtype=np.int64)
        with self._text.open("ab") as text, self._ends.open("ab") as file:
            text.write(b"".join(self._ids))
            file.write(ends.tobytes())
        self._end = int(ends[-1]) if len(ends) else self._end
        self._ids.clear()
