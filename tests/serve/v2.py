"""Requests of protocol v2, and what is in their answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import tritonclient.http as triton
from numpy.typing import NDArray

from tests.serve.conftest import Reply, Running


def tensor(name: str, values: list[Any], *, binary: bool = True) -> Any:
    array = np.array(values, object)
    given = triton.InferInput(name, list(array.shape), "BYTES")
    return given.set_data_from_numpy(array, binary_data=binary)


def texts(array: NDArray[np.object_]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in array]


def answers(result: Any) -> list[dict[str, Any]]:
    return [json.loads(text) for text in texts(result.as_numpy("answer"))]


def post(server: Running, name: str, request: dict[str, Any], **more: Any) -> Reply:
    return server.post(f"/v2/models/{name}/infer", request, **more)


def bytes_input(name: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": "BYTES", "data": data}
