"""What is longer than an encoder reads at once: windows that overlap, and what is kept of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

OVERLAP = 8
"""A window shares one part in so many with each neighbour; half of that, near the cut, is read and
not kept."""


class Window(NamedTuple):
    """Positions [start, stop) are read, and those of [first, last) are kept."""

    start: int
    stop: int
    first: int
    last: int


def windows(length: int, size: int, stride: int = 1) -> Iterator[Window]:
    """Windows over `length` positions, whose kept parts follow one another without a gap.

    size: positions read at once. stride: positions that one of the encoding stands for; all cuts
    but the last are at multiples of it.
    """
    size = max(stride, size // stride * stride)
    margin = size // (2 * OVERLAP) // stride * stride
    first = 0
    while first < length:
        start = max(0, first - margin)
        stop = min(length, start + size)
        last = length if stop == length else stop - margin
        yield Window(start, stop, first, last)
        first = last
