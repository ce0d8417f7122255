"""Who may write to a folder. POSIX alone: what predicts does not import this."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moodal import bundle
from moodal.runtime.output import say

LOCK = ".lock"


@contextmanager
def alone(folder: Path, does: str) -> Iterator[None]:
    """Only one process at a time in here; the lock goes with the process, however it ends.

    folder: made where there is none. does: what the other process does, for who must wait.
    """
    with bundle.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process {does}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
