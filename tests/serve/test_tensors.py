"""Bytes <-> tensors: what goes out comes back, and no bytes are more than a sentence's worth."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodal.serve.errors import RefusalError
from moodal.serve.tensors import LENGTH, InferRequest, Told, compose, parse

INPUT = {"name": "text", "shape": [1], "datatype": "BYTES"}


def request(raw: bytes, **tensor: object) -> tuple[bytes, int]:
    """A body whose one tensor is in bytes, and how much of it is JSON."""
    sized = {**INPUT, **tensor, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [sized]}).encode()
    return head + raw, len(head)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_elements_come_back_as_they_were(values: list[bytes]) -> None:
    raw = b"".join(LENGTH.pack(len(value)) + value for value in values)
    _, [tensor] = parse(*request(raw, shape=[len(values)]))
    assert list(tensor.values) == values


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=10), min_size=1, max_size=5))
def test_what_is_composed_in_bytes_reads_as_what_is_composed_in_json(values: list[str]) -> None:
    told = [Told("label", values), Told("shares", np.arange(2.0 * len(values)).reshape(-1, 2))]
    asked = {"inputs": [INPUT], "id": "a"}
    plain, none = compose(InferRequest.model_validate(asked), told, {"model_name": "m"})
    wish = {**asked, "parameters": {"binary_data_output": True}}
    packed, length = compose(InferRequest.model_validate(wish), told, {"model_name": "m"})
    assert none is None
    label, shares = json.loads(plain)["outputs"]
    assert (label["data"], label["shape"]) == (values, [len(values)])
    assert shares["shape"] == [len(values), 2]
    heads = json.loads(packed[:length])["outputs"]
    sizes = [head["parameters"]["binary_data_size"] for head in heads]
    assert sum(sizes) == len(packed) - (length or 0)
    numbers = np.frombuffer(packed[-sizes[1] :], "<f8")
    assert numbers.tolist() == shares["data"]
    back, [tensor] = parse(*request(packed[length : (length or 0) + sizes[0]], shape=[len(values)]))
    assert [bytes(value).decode() for value in tensor.values] == values  # type: ignore[arg-type]
    assert back.id is None


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_bytes_come_they_are_read_or_refused(data: st.DataObject) -> None:
    raw = data.draw(st.binary(max_size=40))
    body, length = request(raw, shape=data.draw(st.lists(st.integers(-1, 5), max_size=3)))
    place = data.draw(st.integers(0, len(body) - 1))
    broken = body[:place] + data.draw(st.binary(max_size=3)) + body[place + 1 :]
    for content in (body, broken, raw):
        with suppress(RefusalError):
            parse(content, data.draw(st.sampled_from([length, None, 0, 7])))


@pytest.mark.parametrize("depth", [1, 3, 150])
def test_nested_data_is_row_major(depth: int) -> None:
    nested: object = ["a", "b"]
    for _ in range(depth):
        nested = [nested]
    body = json.dumps({"inputs": [{**INPUT, "shape": [2], "data": nested}]}).encode()
    _, [tensor] = parse(body, None)
    assert list(tensor.values) == ["a", "b"]


def test_data_nested_without_end_is_refused() -> None:
    body = b'{"inputs": [{"name": "a", "shape": [1], "datatype": "BYTES", "data": '
    with pytest.raises(RefusalError, match="not JSON"):
        parse(body + b"[" * 100_000, None)
