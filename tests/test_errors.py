"""One root, so that a caller can catch all that moodal raises on purpose."""

from __future__ import annotations

import inspect

import pytest

from moodal import errors
from moodal.errors import DataError, MoodalError, RecordError
from moodal.types import Rejection


def public() -> list[type[BaseException]]:
    found = inspect.getmembers(errors, inspect.isclass)
    return [c for _, c in found if issubclass(c, BaseException) and c.__module__ == errors.__name__]


@pytest.mark.parametrize("error", public(), ids=lambda error: error.__name__)
def test_every_error_is_a_moodal_error_and_stands_in_the_tree(error: type[BaseException]) -> None:
    assert issubclass(error, MoodalError)
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__


def test_there_are_about_six() -> None:
    assert len(public()) == 6


def test_a_row_in_trouble_is_data_in_trouble() -> None:
    assert issubclass(RecordError, DataError)


def test_a_record_error_becomes_a_rejection_that_names_all() -> None:
    error = RecordError("is 3 m tall", field="image")
    assert str(error) == "image: is 3 m tall"
    assert error.rejection("a7", "train.csv row 12") == Rejection(
        id="a7", source="train.csv row 12", field="image", reason="is 3 m tall"
    )


def test_without_a_field_the_reason_stands_alone() -> None:
    assert str(RecordError("is empty")) == "is empty"
