"""Identifiers that sort by time.

Source: RFC 9562, section 5.7 (UUID version 7) and section 6.2, method 2 (monotonic).
"""

from __future__ import annotations

import os
import threading

_RANDOM_BITS = 74
_STEP_BITS = 32
"""Bits of the random step to the next identifier of one millisecond: it cannot be guessed."""
_VERSION = 7 << 76
_VARIANT = 0b10 << 62

_lock = threading.Lock()
_last = (0, 0)
"""Milliseconds and random bits of the newest identifier of this process."""


def new_id(at: float) -> str:
    """A UUID of version 7, 32 hexadecimal digits, greater than every one this process made before.

    at: seconds since 1970, UTC. Should the clock have gone back, the time of the newest
    identifier is kept.
    """
    global _last  # noqa: PLW0603 - monotonic within a process is state of the process
    now, random = round(at * 1000), os.urandom(10)
    with _lock:
        milliseconds, bits = _last
        if now > milliseconds:
            milliseconds, bits = now, int.from_bytes(random) >> (80 - _RANDOM_BITS)
        else:
            bits += 1 + (int.from_bytes(random) >> (80 - _STEP_BITS))
            milliseconds += bits >> _RANDOM_BITS  # 74 bits were not enough: the next millisecond
            bits &= (1 << _RANDOM_BITS) - 1
        _last = milliseconds, bits
    high, low = bits >> 62, bits & ((1 << 62) - 1)
    return f"{milliseconds << 80 | _VERSION | high << 64 | _VARIANT | low:032x}"
