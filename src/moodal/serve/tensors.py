"""Tensors as the Open Inference Protocol v2 sends them: JSON, or JSON and bytes after it.

Source: kserve.github.io, Open Inference Protocol; Triton's binary tensor data extension.
Letters: B rows, C labels.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from moodal.serve.errors import RefusalError
from moodal.serve.schema import refused

DataType = Literal["BYTES", "FP32", "FP64"]
Parameters = dict[str, bool | int | float | str]
Size = Annotated[int, Field(ge=0, le=2**31 - 1)]
LENGTH = struct.Struct("<I")
"""What stands before each element of a BYTES tensor."""


class Wire(BaseModel):
    """The protocol lets both sides send what the other does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class InputTensor(Wire):
    name: str
    shape: list[Size] = Field(max_length=8)
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | None = None
    """Row-major, flat or nested; absent where the bytes come after the JSON."""


class OutputAsked(Wire):
    name: str
    parameters: Parameters = {}


class InferRequest(Wire):
    id: str | None = None
    parameters: Parameters = {}
    inputs: list[InputTensor] = Field(min_length=1)
    outputs: list[OutputAsked] | None = None


class OutputTensor(Wire):
    name: str
    datatype: DataType
    shape: list[int]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferResponse(Wire):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class Tensor(NamedTuple):
    """values: the elements of a BYTES tensor, flat, str where they came as JSON; else an array."""

    name: str
    shape: tuple[int, ...]
    values: Sequence[bytes | str] | NDArray[np.float32]


class Told(NamedTuple):
    """One output: a list of B strings, or an array (B,) or (B, C) of float64."""

    name: str
    values: Sequence[str] | NDArray[np.float64]


def parse(body: bytes, json_bytes: int | None) -> tuple[InferRequest, list[Tensor]]:
    """json_bytes: how much of the body is JSON; None = all. Raises: RefusalError."""
    if json_bytes is not None and json_bytes > len(body):
        raise RefusalError(
            "bad_request",
            f"Inference-Header-Content-Length is {json_bytes:,}, the body has {len(body):,} bytes",
        )
    try:
        request = InferRequest.model_validate_json(body[:json_bytes])
    except pydantic.ValidationError as error:
        raise refused(error) from None
    rest = memoryview(body)[len(body) if json_bytes is None else json_bytes :]
    tensors = []
    for given in request.inputs:
        size = given.parameters.get("binary_data_size")
        raw = None if size is None else rest[: _within(size, len(rest), given.name)]
        rest = rest if raw is None else rest[len(raw) :]
        tensors.append(_tensor(given, raw))
    if len(rest):
        raise RefusalError("bad_request", f"{len(rest):,} bytes follow the last tensor")
    return request, tensors


def compose(
    request: InferRequest, outputs: Iterable[Told], about: Mapping[str, str]
) -> tuple[bytes, int | None]:
    """outputs: in the order to be sent. about: model_name and model_version.

    Returns: the body, and how much of it is JSON where bytes follow, else None.
    """
    binary = bool(request.parameters.get("binary_data_output"))
    wanted = {o.name: bool(o.parameters.get("binary_data", binary)) for o in request.outputs or ()}
    tensors, raws = [], []
    for told in outputs:
        text = not isinstance(told.values, np.ndarray)
        shape = [len(told.values)] if text else list(np.shape(told.values))
        tensor: dict[str, Any] = {
            "name": told.name,
            "datatype": "BYTES" if text else "FP64",
            "shape": shape,
        }
        if wanted.get(told.name, binary):
            raws.append(_raw(told.values))
            tensor["parameters"] = {"binary_data_size": len(raws[-1])}
        else:
            tensor["data"] = list(told.values) if text else np.ravel(told.values).tolist()
        tensors.append(tensor)
    id = {} if request.id is None else {"id": request.id}
    head = to_json({**about, **id, "outputs": tensors})
    return b"".join((head, *raws)), len(head) if raws else None


def _within(size: bool | int | float | str, n_left: int, name: str) -> int:
    if not isinstance(size, int) or not 0 <= size <= n_left:
        raise RefusalError(
            "bad_request", f"binary_data_size is {size!r}, {n_left:,} bytes are left of it", name
        )
    return size


def _tensor(given: InputTensor, raw: memoryview | None) -> Tensor:
    """Raises: RefusalError, when elements and shape disagree."""
    if "shared_memory_region" in given.parameters or (raw is None) == (given.data is None):
        raise RefusalError(
            "invalid",
            "a tensor's elements come in `data`, or as bytes after the JSON with"
            " `binary_data_size`; shared memory is not read",
            given.name,
        )
    read = _READ.get(given.datatype)
    if read is None:
        raise RefusalError(
            "invalid", f"has datatype {given.datatype[:20]}; read are BYTES and FP32", given.name
        )
    try:
        values = read[0](given.data) if raw is None else read[1](raw)
    except ValueError as error:
        raise RefusalError("invalid", str(error), given.name) from None
    n_values = math.prod(given.shape)
    if len(values) != n_values:
        raise RefusalError(
            "invalid",
            f"has {len(values)} elements, its shape {given.shape} has {n_values}",
            given.name,
        )
    return Tensor(given.name, tuple(given.shape), values)


def _strings(data: Any) -> list[str]:
    values = list(_flat(data))
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"holds {repr(value)[:40]}; every element of BYTES is a string")
    return values


def _elements(raw: memoryview) -> list[bytes]:
    """Raises: ValueError."""
    values: list[bytes] = []
    place = 0
    while place < len(raw):
        if (begin := place + LENGTH.size) > len(raw):
            raise ValueError(f"ends within the length of element {len(values)}")
        place = begin + LENGTH.unpack_from(raw, place)[0]
        if place > len(raw):
            raise ValueError(
                f"element {len(values)} has {place - begin:,} bytes, {len(raw) - begin:,} are left"
            )
        values.append(bytes(raw[begin:place]))
    return values


def _numbers(data: Any) -> NDArray[np.float32]:
    values = list(_flat(data))
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"holds {repr(value)[:40]}; every element of FP32 is a number")
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused with the features
            return np.array(values, np.float64).astype(np.float32)
    except OverflowError:
        raise ValueError("holds a number that no float can hold") from None


def _floats(raw: memoryview) -> NDArray[np.float32]:
    if len(raw) % 4:
        raise ValueError(f"has {len(raw)} bytes, which is no multiple of 4")
    return np.frombuffer(raw, "<f4").astype(np.float32)


_READ: dict[str, tuple[Any, Any]] = {
    "BYTES": (_strings, _elements),
    "FP32": (_numbers, _floats),
}
"""Datatype -> (from JSON, from bytes)."""


def _flat(data: list[Any]) -> Iterable[Any]:
    """Row-major; a list may hold lists, all to the same depth or not."""
    while any(isinstance(value, list) for value in data):
        data = list(chain.from_iterable(v if isinstance(v, list) else [v] for v in data))
    return data


def _raw(values: Sequence[str] | NDArray[np.float64]) -> bytes:
    if isinstance(values, np.ndarray):
        return values.astype("<f8").tobytes()
    encoded = [value.encode("utf-8") for value in values]
    return b"".join(LENGTH.pack(len(value)) + value for value in encoded)
