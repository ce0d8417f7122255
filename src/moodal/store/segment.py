"""A file of rows on their way, one JSON object a line, held by the process that appends to it.

The lock on it falls with the process, so who can take it knows that the owner is dead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".jsonl"
_CHUNK = 1 << 18
"""Bytes read at once: some 250 rows."""


class Segment:
    """A file that this process holds.

    written, drained: bytes, ever counted up, though a file that was drained is cut to nothing.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._base = 0
        self.written = os.fstat(descriptor).st_size
        self.drained = 0

    @property
    def waiting(self) -> int:
        """Bytes that are not drained yet."""
        return self.written - self.drained

    @property
    def place(self) -> int:
        """Where in the file draining has come to, in bytes."""
        return self.drained - self._base

    def append(self, data: bytes) -> None:
        """Write all of it or nothing, by one call. Raises: OSError when the disk is full."""
        size = os.write(self._descriptor, data)
        if size != len(data):
            os.ftruncate(self._descriptor, self.written - self._base)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.written += size

    def read(self) -> bytes:
        """The next whole lines that are not drained, about 256 KiB; b"" when none is left.

        A last line without an end was torn: whoever wrote it was killed meanwhile.
        """
        want = _CHUNK
        while True:
            length = min(want, self.waiting)
            data = os.pread(self._descriptor, length, self.place)
            end = data.rfind(b"\n") + 1
            if end or length == self.waiting:
                return data[:end]
            want *= 2

    def cut(self) -> None:
        """Give the space of a drained file back."""
        os.ftruncate(self._descriptor, 0)
        self._base = self.written

    def in_place(self) -> bool:
        """Whether the file is still where it was made."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def close(self) -> None:
        """Let go of it; another process may take it."""
        os.close(self._descriptor)

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self.close()


def create(folder: Path, name: str) -> Segment:
    """A new file, held. Raises: OSError."""
    path = folder / (name + SUFFIX)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
    # Whoever looks for the dead between these two lines may find it not held, and delete it.
    if _hold(descriptor):
        return Segment(path, descriptor)
    os.close(descriptor)
    return create(folder, name + "-")


def adopt(path: Path) -> Segment | None:
    """The file of a process that is dead, now held by this one; None while it lives."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    except OSError:  # deleted meanwhile
        return None
    if _hold(descriptor):
        return Segment(path, descriptor)
    os.close(descriptor)
    return None


def others(folder: Path, own: set[Path]) -> Iterator[Path]:
    """The files that this process does not hold, the oldest first."""
    with contextlib.suppress(OSError):
        yield from sorted(path for path in folder.glob("*" + SUFFIX) if path not in own)


def size_bytes(path: Path) -> int:
    """Of a file that may be gone by now: 0."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _hold(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(descriptor).st_nlink > 0
