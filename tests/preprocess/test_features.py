"""Features in: a sequence of finite vectors of one width, or a named rejection."""

from __future__ import annotations

import numpy as np
import pytest

from moodal.errors import RecordError
from moodal.preprocess.features import array


def test_a_vector_becomes_a_sequence_of_one() -> None:
    result = array(np.arange(3, dtype=np.float64), 3)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, [[0, 1, 2]])


def test_a_sequence_stays_as_it_is() -> None:
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(array(given, None), given)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros(74), "has 74 values, the training data has 73"),
        (np.array([[0.0] * 73, [0.0] * 72 + [np.nan]]), "value 73 of vector 2 is nan"),
        (np.full(73, np.inf), "value 1 of vector 1 is inf"),
        (np.full(73, 1e300), "value 1 of vector 1 is 1e"),
        (np.zeros(0), "hold no values"),
        (np.zeros((0, 73)), "hold no values"),
        (np.zeros((1, 2, 73)), "have 3 axes"),
        (np.float32(1.0).reshape(()), "have 0 axes"),
        (np.array(["a"] * 73), "not of numbers"),
        (np.array([None] * 73), "not of numbers"),
    ],
)
def test_what_is_wrong_is_named(value: np.ndarray, words: str) -> None:
    with pytest.raises(RecordError, match=words) as raised:
        array(value, 73, field="audio")
    assert raised.value.field == "audio"
