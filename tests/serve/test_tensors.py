"""Bytes <-> tensors: what goes out comes back, and no bytes are more than a sentence's worth."""

from __future__ import annotations

import base64
import gzip
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodal.serve.documents_v2 import LENGTH as HEADER
from moodal.serve.errors import RefusalError
from moodal.serve.tensors import LENGTH, InferRequest, Told, compose, parse
from tests.serve.conftest import Running
from tests.serve.v2 import bytes_input, post

INPUT = {"name": "text", "shape": [1], "datatype": "BYTES"}
BOMB = gzip.compress(bytes(30_000_000), mtime=0)


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


# Bad bytes


def binary(size: Any, raw: bytes, *, shape: tuple[int, ...] = (1,), length: Any = None) -> Any:
    """(body, headers) of a request whose text is in bytes."""
    given = {"name": "text", "shape": shape, "datatype": "BYTES"}
    head = json.dumps({"inputs": [{**given, "parameters": {"binary_data_size": size}}]}).encode()
    return head + raw, {HEADER: str(len(head) if length is None else length)}


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"{", {}, "not JSON"),
        (b"[]", {}, "holds"),
        (b"{}", {}, "inputs"),
        (b'{"inputs": []}', {}, "inputs"),
        (b'{"inputs": [{"name": "text", "shape": [1.5], "datatype": "BYTES"}]}', {}, "shape"),
        (b'{"inputs": [{"name": "text", "shape": [-1], "datatype": "BYTES"}]}', {}, "shape"),
        (b"\xff", {}, "not JSON"),
        (b"{}", {HEADER: "9"}, "the body has 2 bytes"),
        (b"{}", {HEADER: "-1"}, "not a number"),
        (b"{}", {HEADER: "x"}, "not a number"),
        (*binary(5, b"\x00" * 5), "ends within the length"),
        (*binary(8, b"\x09\x00\x00\x00abcd"), "has 9 bytes, 4 are left"),
        (*binary(8, b"\xff\xff\xff\xffabcd"), "bytes, 4 are left"),
        (*binary(9, b"\x01\x00\x00\x00a"), "binary_data_size is 9"),
        (*binary(-1, b""), "binary_data_size is -1"),
        (*binary("x", b""), "binary_data_size"),
        (*binary(4, b"\x01\x00\x00\x00a"), "has 1 bytes, 0 are left"),
        (*binary(5, b"\x01\x00\x00\x00a tail"), "5 bytes follow"),
        (*binary(10, b"\x01\x00\x00\x00a" * 2), "has 2 elements, its shape"),
        (*binary(0, b"", shape=(0,)), "B at least 1"),
        (b"x", {"content-encoding": "br"}, "content encoding"),
        (b"not packed", {"content-encoding": "gzip"}, "no gzip"),
        (gzip.compress(b"{}", mtime=0)[:-9], {"content-encoding": "gzip"}, "in the middle"),
        (BOMB, {"content-encoding": "gzip"}, "unpacks to more"),
    ],
)
def test_bad_bytes_are_a_sentence(
    server: Running, body: bytes, headers: dict[str, str], says: str
) -> None:
    name = server.service.model.info.name
    reply = server.request("POST", f"/v2/models/{name}/infer", body, headers)
    assert reply.status in (400, 413, 415)
    assert list(reply.json()) == ["error"]
    assert says in reply.json()["error"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (bytes_input("text", [1], [1]), "every element of BYTES is a string"),
        (bytes_input("text", [1], [None]), "every element of BYTES is a string"),
        (bytes_input("text", [2], ["a"]), "has 1 elements"),
        (bytes_input("text", [2**31 - 1] * 8, ["a"]), "has 1 elements"),
        (bytes_input("text", [1] * 9, ["a"]), "at most 8"),
        (bytes_input("image", [1], ["no base64!"]), "is not base64"),
        (bytes_input("audio", [1], [base64.b64encode(b"no sound").decode()]), "audio"),
        ({"name": "text", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}, "reads BYTES"),
        ({"name": "text", "shape": [1], "datatype": "FP32", "data": [10**400]}, "no float"),
        ({"name": "text", "shape": [1], "datatype": "X" * 999, "data": ["a"]}, "datatype X"),
    ],
)
def test_bad_json_tensors_are_a_sentence(server: Running, given: dict[str, Any], says: str) -> None:
    reply = post(server, server.service.model.info.name, {"inputs": [given]})
    assert reply.status == 400
    assert says in reply.json()["error"]
    assert len(reply.body) < 1000
