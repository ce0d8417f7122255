"""How much one caller may ask in a minute: token buckets, in memory that workers share."""

from __future__ import annotations

import fcntl
import hashlib
import math
import mmap
import struct
import time
from pathlib import Path

from moodal.serve.errors import RefusalError

SLOTS = 4096
PROBES = 8
"""Slots that a caller may lie in; where all are taken, the one longest unused is given away."""
_SLOT = struct.Struct("=Qdd")
"""Who, as 64 bits of a hash (0 = nobody); what is left; when that was so."""


class Rate:
    """per_minute: records; 0 = no limit. file: shared by workers; None = of one process alone.

    A bucket holds a minute's records and fills evenly.
    """

    def __init__(self, per_minute: int, file: Path | None = None) -> None:
        self._per_minute = per_minute
        size = SLOTS * _SLOT.size
        self._file = None if file is None else file.open("a+b")
        if self._file is None:
            self._slots = mmap.mmap(-1, size)
        else:
            self._file.truncate(size)
            self._slots = mmap.mmap(self._file.fileno(), size)

    def take(self, who: str, records: int = 1) -> None:
        """Count some records. Raises: RefusalError (429), with the seconds until there is room."""
        if self._per_minute == 0 or records == 0:
            return
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            # What a bucket can never hold is asked for once it is full.
            lacking = self._take(who, min(records, self._per_minute), time.time())
        finally:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        if lacking > 0:
            seconds = max(1, math.ceil(lacking * 60 / self._per_minute))
            raise RefusalError(
                "rate",
                f"more than {self._per_minute:,} records a minute were asked for; "
                f"come again in {seconds} s",
                headers={"retry-after": str(seconds)},
            )

    def close(self) -> None:
        self._slots.close()
        if self._file is not None:
            self._file.close()

    def _take(self, who: str, records: int, now: float) -> float:
        """How many records are lacking."""
        name = int.from_bytes(hashlib.blake2b(who.encode(), digest_size=8).digest()) | 1
        place, left, at = self._find(name, now)
        left = min(self._per_minute, left + (now - at) * self._per_minute / 60)
        enough = left >= records
        _SLOT.pack_into(self._slots, place, name, left - records if enough else left, now)
        return 0.0 if enough else records - left

    def _find(self, name: int, now: float) -> tuple[int, float, float]:
        """The caller's slot, or the one to take for it."""
        oldest = (math.inf, 0)
        for probe in range(PROBES):
            place = (name + probe) % SLOTS * _SLOT.size
            found, left, at = _SLOT.unpack_from(self._slots, place)
            if found == name:
                return place, left, min(at, now)
            oldest = min(oldest, (at if found else -1.0, place))
        return oldest[1], self._per_minute, now
