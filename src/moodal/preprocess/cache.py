"""Decoded arrays on disk, memory mapped, found by what a file holds: a second run decodes nothing.

Also what a cell's file is, before anything decodes it: its size, its kind, its key.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moodal.errors import CapacityError, RecordError
from moodal.types import Media

FORMAT = 1
"""Part of the folder's name: another layout gets another folder."""
ALIGN = 64
"""Bytes: each array starts at a multiple of this, a cache line."""

KINDS = (
    (0, b"RIFF", "a RIFF file (WAV or WebP)"),
    (0, b"fLaC", "a FLAC recording"),
    (0, b"OggS", "an Ogg file"),
    (0, b"ID3", "an MP3 recording"),
    (0, b"\x1aE\xdf\xa3", "a WebM or Matroska file"),
    (4, b"ftypheic", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIF picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyp", "an MP4 or M4A file"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
)
"""(offset, first bytes, name). Source: https://en.wikipedia.org/wiki/List_of_file_signatures."""


def size_bytes(source: Path | bytes, *, field: str, limit: int) -> int:
    """The size of a file or of a file's bytes, in bytes.

    Raises: RecordError when it is missing, a folder, empty, or larger than `limit` bytes.
    """
    name = name_of(source)
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise RecordError(f"{name}: {reason}; correct the path", field=field) from error
    if isinstance(source, Path) and not source.is_file():
        raise RecordError(f"{name}: is not a file; give the path of a file", field=field)
    if size == 0:
        raise RecordError(f"{name}: is empty (0 bytes); replace it", field=field)
    if size > limit:
        raise RecordError(
            f"{name}: {size:,} bytes, at most {limit:,} are read; make it smaller", field=field
        )
    return size


def name_of(source: Media) -> str:
    """What to call a source in a message: its path, or what it is."""
    if isinstance(source, Path):
        return str(source)
    return "the bytes given" if isinstance(source, bytes) else "the array given"


def kind_of(source: Path | bytes) -> str:
    """What a file seems to be by its first bytes, for people: "a text file", "a PDF document"."""
    try:
        head = source[:64] if isinstance(source, bytes) else _head(source)
    except OSError as error:
        return f"a file that cannot be read ({error.strerror})"
    for offset, signature, kind in KINDS:
        if head[offset:].startswith(signature):
            return kind
    # The last 3 bytes may be the beginning of a longer character.
    if not set(head) & set(range(9)) and _is_utf8(head[:-3] or head):
        return "a text file"
    return f"of an unknown kind (first bytes {head[:8].hex(' ')})"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > 0 and error.reason == "unexpected end of data"
    return True


def content_key(source: Media, *, field: str = "") -> bytes:
    """16 bytes that stand for what a file, bytes or an array hold; a path and its bytes agree.

    Raises: RecordError when the file is missing or cannot be read.
    Source: BLAKE2b, RFC 7693.
    """
    if isinstance(source, bytes):
        return hashlib.blake2b(source, digest_size=16).digest()
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return hashlib.file_digest(file, _blake2b).digest()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise RecordError(f"{source}: {reason}; correct the path", field=field) from error
    digest = _blake2b(f"array {source.dtype.str} {source.shape} ".encode())
    digest.update(_bytes_of(np.ascontiguousarray(source)))
    return digest.digest()


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8).data)


def _blake2b(start: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(start, digest_size=16)


def default_folder() -> Path:
    """$XDG_CACHE_HOME/moodal, or ~/.cache/moodal.

    Source: XDG Base Directory Specification 0.8.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moodal"


class Cache:
    """Arrays by key, under one text of settings; a context manager.

    folder/format-1-<hash of settings>/arrays.bin holds the arrays one after another, only ever
    appended to; index.sqlite says where each lies. An index row is committed after its bytes are
    written, so a process killed at any moment leaves at most stray bytes that nothing points to.
    Threads may share one; processes open one each.

    decoded: how many arrays get_or_make had to make.
    Raises: CapacityError when the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        name = hashlib.blake2b(settings.encode(), digest_size=8).hexdigest()
        self.folder = folder / f"format-{FORMAT}-{name}"
        self.decoded = 0
        self._lock = threading.RLock()
        self._map: mmap.mmap | None = None
        with self._capacity():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open()

    def get(self, key: bytes) -> NDArray[Any] | None:
        """The array under a key, read-only and not copied; None when absent or damaged."""
        with self._lock, self._capacity():
            try:
                row = self._index.execute(
                    "SELECT offset, dtype, shape, crc FROM arrays WHERE key = ?", (key,)
                ).fetchone()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._start_again()
                return None
            return None if row is None else self._view(*row)

    def put(self, key: bytes, array: NDArray[Any]) -> None:
        """Keep an array under a key; another under the same key is replaced.

        Raises: CapacityError when the disk is full; what was there before is unharmed.
        """
        data = np.ascontiguousarray(array)
        raw = _bytes_of(data)
        shape = ",".join(map(str, array.shape))
        with self._lock, self._capacity():
            self._index.execute("BEGIN IMMEDIATE")  # one writer at a time, in all processes
            try:
                offset = self._append(raw)
                self._index.execute(
                    "INSERT OR REPLACE INTO arrays VALUES (?, ?, ?, ?, ?)",
                    (key, offset, data.dtype.str, shape, zlib.crc32(raw)),
                )
                self._index.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._index.execute("ROLLBACK")
                raise

    def get_or_make(self, key: bytes, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array under a key; when absent, made, kept and counted. Read-only either way."""
        found = self.get(key)
        if found is not None:
            return found
        made = np.ascontiguousarray(make())
        self.decoded += 1
        self.put(key, made)
        made.flags.writeable = False
        return made

    def close(self) -> None:
        """Let go of the files; arrays handed out stay valid."""
        self._index.close()
        self._arrays.close()
        self._map = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> None:
        try:
            self._index = self._connect()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._delete()
            self._index = self._connect()
        path = self.folder / "arrays.bin"
        path.touch()
        self._arrays = path.open("r+b", buffering=0)

    def _connect(self) -> sqlite3.Connection:
        index = sqlite3.connect(
            self.folder / "index.sqlite", timeout=60, isolation_level=None, check_same_thread=False
        )
        try:
            index.execute("PRAGMA journal_mode = WAL")
            # A power cut may lose the newest rows, never the file; the checksums see to the rest.
            index.execute("PRAGMA synchronous = NORMAL")
            index.execute(
                "CREATE TABLE IF NOT EXISTS arrays (key BLOB PRIMARY KEY, offset INTEGER,"
                " dtype TEXT, shape TEXT, crc INTEGER) WITHOUT ROWID"
            )
        except sqlite3.Error:
            index.close()
            raise
        return index

    def _start_again(self) -> None:
        self.close()
        self._delete()
        self._open()

    def _delete(self) -> None:
        for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "arrays.bin"):
            (self.folder / name).unlink(missing_ok=True)

    def _view(self, offset: int, dtype: str, shape: str, crc: int) -> NDArray[Any] | None:
        sides = tuple(map(int, shape.split(","))) if shape else ()
        count = int(np.prod(sides, dtype=np.int64))
        size = count * np.dtype(dtype).itemsize
        if size == 0:
            return np.frombuffer(b"", dtype).reshape(sides)
        mapped = self._mapped(offset + size)
        if mapped is None or zlib.crc32(memoryview(mapped)[offset : offset + size]) != crc:
            return None
        return np.frombuffer(mapped, dtype, count, offset).reshape(sides)

    def _mapped(self, end: int) -> mmap.mmap | None:
        """A map of the arrays that reaches to `end`; None when the file itself does not."""
        length = os.fstat(self._arrays.fileno()).st_size  # asked anew: a cut file must not be read
        if length < end:
            return None
        if self._map is None or len(self._map) < end:
            self._map = mmap.mmap(self._arrays.fileno(), length, access=mmap.ACCESS_READ)
        return self._map

    def _append(self, raw: memoryview) -> int:
        length = os.fstat(self._arrays.fileno()).st_size
        offset = -(-length // ALIGN) * ALIGN
        try:
            written = 0
            while written < len(raw):
                written += os.pwrite(self._arrays.fileno(), raw[written:], offset + written)
        except OSError:
            with contextlib.suppress(OSError):  # give back what the full disk took
                os.ftruncate(self._arrays.fileno(), length)
            raise
        return offset

    @contextlib.contextmanager
    def _capacity(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CapacityError(
                f"the cache {self.folder} cannot be used: {reason}; free space there, delete the"
                " folder, or set cache=FOLDER to one on another disk"
            ) from error
