"""Word vectors land in the rows of their words, and a wrong file is named with its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from moodal.config import Text
from moodal.errors import DataError
from moodal.preprocess import vectors
from moodal.preprocess.vocabulary import Vocabulary

KNOWN = Vocabulary(("good", "很好", ". . .", "bad"), Text())
BODY = "good 1 2.5 -3e-1\n很好 0 0 1\nother 9 9 9\n. . . 4 5 6\ngood 7 7 7\n"


@pytest.mark.parametrize("header", ["", "5 3\n"])
@pytest.mark.parametrize("ending", ["\n", " \n", "\r\n"])
@pytest.mark.parametrize("name", ["words.vec", "words.txt.gz"])
def test_rows_are_found_by_word(tmp_path: Path, header: str, ending: str, name: str) -> None:
    path = tmp_path / name
    content = (header + BODY.replace("\n", ending)).encode("utf-8")
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    values, found = vectors.load(path, KNOWN)
    assert values.dtype == np.float32
    assert found.tolist() == [False, False, True, True, True, False]
    expected = [[0, 0, 0], [0, 0, 0], [1, 2.5, -0.3], [0, 0, 1], [4, 5, 6], [0, 0, 0]]
    assert np.array_equal(values, np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"good 1 2\nother 1\n", "line 2: 1 columns"),
        (b"2 2\ngood 1 2\nother 1 2 3\n", "line 3: 3 columns"),
        (b"good 1 2\n\n", "line 2: 0 columns"),
        (b"other 1 2\ngood 1 x\n", "line 2: could not convert"),
        (b"other 1 2\ngood 1 nan\n", "line 2: NaN"),
        (b"good 1 inf\n", "line 1: NaN or infinity"),
        (b"other 1 2\n\xff\xfe 1 2\n", "line 2: not UTF-8"),
        (b"good\n", "line 1: 0 columns"),
        (b"", "holds no vectors"),
        (b"5 3\n", "holds no vectors"),
        (b"other 1 2\n", "none of the vocabulary's 4 pieces"),
        (b"x" * 2_000_000, "line 1: over 1000000 bytes"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "words.vec"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        vectors.load(path, KNOWN)
    assert "words.vec" in str(caught.value)


PACKED = gzip.compress(BODY.encode() * 50)
BROKEN = PACKED[:12] + b"\xff" * 20 + PACKED[32:]


@pytest.mark.parametrize(
    "content", [b"good 1 2\n", PACKED[:-20], BROKEN], ids=["plain", "short", "broken"]
)
def test_what_is_not_gzip_or_cut_short_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "words.vec.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"words\.vec\.gz line \d+: cannot be read"):
        vectors.load(path, KNOWN)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.vec"):
        vectors.load(tmp_path / "absent.vec", KNOWN)
