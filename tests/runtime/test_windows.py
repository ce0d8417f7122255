"""Windows: what is kept of them is the whole, once, and none is longer than is read at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodal.runtime.windows import OVERLAP, Window, windows

LENGTHS, SIZES, STRIDES = st.integers(0, 3000), st.integers(1, 400), st.integers(1, 16)


@given(LENGTHS, SIZES, STRIDES)
def test_the_kept_parts_follow_one_another_without_a_gap_and_cover_everything(
    length: int, size: int, stride: int
) -> None:
    cuts = list(windows(length, size, stride))
    kept = [place for cut in cuts for place in range(cut.first, cut.last)]
    assert kept == list(range(length))


@given(LENGTHS, SIZES, STRIDES)
def test_no_more_is_read_at_once_than_is_allowed_and_all_that_is_kept_is_read(
    length: int, size: int, stride: int
) -> None:
    for start, stop, first, last in windows(length, size, stride):
        assert 0 <= start <= first < last <= stop <= length
        assert stop - start <= max(size, stride)


@given(LENGTHS, SIZES, STRIDES)
def test_all_cuts_but_the_last_are_at_multiples_of_the_stride(
    length: int, size: int, stride: int
) -> None:
    for cut in windows(length, size, stride):
        whole = [cut.start, cut.first] + [end for end in (cut.stop, cut.last) if end != length]
        assert all(place % stride == 0 for place in whole)


@given(st.integers(1, 50), st.integers(0, 40), STRIDES)
def test_what_fits_is_one_window(length: int, more: int, stride: int) -> None:
    size = -(-length // stride) * stride + more
    assert list(windows(length, size, stride)) == [Window(0, length, 0, length)]


@given(st.integers(500, 3000), st.integers(160, 400), st.integers(1, 8))
def test_what_is_near_a_cut_is_read_and_not_kept(length: int, size: int, stride: int) -> None:
    least = size // (2 * OVERLAP) - 2 * stride
    for cut in windows(length, size, stride):
        assert cut.first == 0 or cut.first - cut.start >= least
        assert cut.stop == length or cut.stop - cut.last >= least


def test_by_hand() -> None:
    # Windows of 32: a sixteenth of it, 2, is not kept at each cut.
    assert list(windows(70, 32)) == [(0, 32, 0, 30), (28, 60, 30, 58), (56, 70, 58, 70)]
    assert list(windows(70, 32, 8)) == [(0, 32, 0, 32), (32, 64, 32, 64), (64, 70, 64, 70)]


@pytest.mark.parametrize("length", [1, 33, 100])
def test_a_window_smaller_than_the_stride_reads_one_stride(length: int) -> None:
    assert all(cut.stop - cut.start <= 16 for cut in windows(length, 3, 16))


def test_nothing_has_no_windows() -> None:
    assert list(windows(0, 8)) == []
