"""Packed bodies: read as they were, and never larger than a body may be."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from moodal.serve.errors import RefusalError
from moodal.serve.unpack import expected, unpacked

MOST = 100_000


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (b"as it is", ""),
        (b"as it is", "identity"),
        (gzip.compress(b"as it is"), "gzip"),
        (zlib.compress(b"as it is"), "deflate"),
    ],
    ids=["plain", "identity", "gzip", "deflate"],
)
def test_a_body_is_read_as_it_was(packed: bytes, encoding: str) -> None:
    assert unpacked(packed, encoding, MOST) == b"as it is"


def test_no_body_becomes_larger_than_was_expected() -> None:
    for n_bytes in (0, 1, 1000, MOST):
        packed = gzip.compress(bytes(n_bytes))
        assert len(unpacked(packed, "gzip", MOST)) <= expected(packed, "gzip", MOST) <= MOST
    assert expected(b"as it is", "", MOST) == 0


def test_a_bomb_is_refused_before_it_takes_its_room() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(RefusalError, match="unpacks to more than 100,000 bytes"):
        unpacked(bomb, "gzip", MOST)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10 * MOST
