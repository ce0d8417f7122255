"""Targets <-> codes: every label has a place, every number is finite, all else is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodal.errors import DataError, RecordError
from moodal.preprocess.codec import (
    MAX_LABELS,
    character_codes,
    fit_characters,
    fit_labels,
    fit_scale,
    fit_symbols,
    label_code,
    no_shares,
    scale_code,
)


@given(st.lists(st.text(min_size=1), min_size=2, max_size=20, unique=True))
def test_every_label_goes_to_its_place_and_back(targets: list[str]) -> None:
    labels = fit_labels(Counter(targets))
    assert sorted(labels) == list(labels)
    assert set(labels) == set(targets)
    assert [labels[label_code(t, labels)] for t in targets] == targets


def test_the_order_of_the_rows_does_not_change_the_codes() -> None:
    assert fit_labels({"b": 1, "a": 9}) == fit_labels({"a": 1, "b": 1}) == ("a", "b")


def test_one_label_or_none_is_refused() -> None:
    with pytest.raises(DataError, match="the training rows have only 'good'"):
        fit_labels({"good": 40})
    with pytest.raises(DataError, match="the training rows have none"):
        fit_labels({})


def test_labels_that_look_like_numbers_are_refused_from_the_limit_on() -> None:
    counts = {str(i): 1 for i in range(MAX_LABELS)}
    assert len(fit_labels(counts)) == MAX_LABELS
    with pytest.raises(DataError, match=f"{MAX_LABELS + 1} different labels, at most {MAX_LABELS}"):
        fit_labels(counts | {"one more": 1})


def test_an_unknown_label_is_named_beside_the_known_ones() -> None:
    with pytest.raises(RecordError, match=r"'Good' is none of the training labels \(bad, good\)"):
        label_code("Good", ("bad", "good"))
    many = tuple(f"label{i:02}" for i in range(30))
    with pytest.raises(RecordError, match=r"label11, \.\.\.\)") as caught:
        label_code("x", many)
    assert caught.value.field == "label"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_read_exactly(value: float) -> None:
    assert scale_code(repr(value), ()) == value


@pytest.mark.parametrize("target", ["good", "", "nan", "inf", "-Infinity", "1,5", "1e999", "0x10"])
def test_what_is_no_finite_number_is_refused(target: str) -> None:
    with pytest.raises(RecordError, match="is not a finite number") as caught:
        scale_code(target, ())
    assert caught.value.field == "label"


def test_a_scale_has_no_labels_and_at_least_two_numbers() -> None:
    assert fit_scale({"1": 3, "2": 1}) == ()
    with pytest.raises(DataError, match=r"at least two different numbers.*\['1'\]"):
        fit_scale({"1": 9})


# Characters


def test_the_characters_of_the_transcripts_are_sorted_behind_the_blank() -> None:
    assert fit_characters({"b a": 1, "ab": 2, "好": 1}) == ("", " ", "a", "b", "好")


def test_transcripts_that_hold_nothing_are_refused() -> None:
    for counts in ({}, {"": 3}, {" \n": 1}):
        with pytest.raises(DataError, match=r"no training row has a transcript; .*--target"):
            fit_characters(counts)


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=9))
def test_characters_are_spelled_and_read_back(targets: list[str]) -> None:
    labels = fit_characters(Counter(targets))
    for target in targets:
        codes = character_codes(target, labels)
        assert codes.dtype == np.int64
        assert (codes > 0).all(), "the blank is never said"
        assert "".join(labels[code] for code in codes) == " ".join(target.split())


def test_a_character_that_training_did_not_see_is_left_out() -> None:
    labels = fit_characters({"ab": 1})
    assert character_codes("aXb", labels).tolist() == [1, 2]
    assert character_codes("XYZ", labels).tolist() == []


def test_white_space_is_one_space_and_none_at_the_ends() -> None:
    labels = fit_characters({"  a\t\n b ": 1})
    assert labels == ("", " ", "a", "b")
    assert character_codes(" a   b\n", labels).tolist() == [2, 1, 3]


def test_a_text_is_made_of_the_pieces_that_were_found() -> None:
    assert fit_symbols({"a b": 2}, ("", "x")) == ("", "x")


@pytest.mark.parametrize(("probabilities", "labels"), [({"a": 1.0}, ("a", "b")), ({}, ())])
def test_what_is_no_label_has_no_shares(
    probabilities: dict[str, float], labels: tuple[str, ...]
) -> None:
    with pytest.raises(RecordError, match="is filled") as caught:
        no_shares(probabilities, labels)
    assert caught.value.field == "probabilities"
