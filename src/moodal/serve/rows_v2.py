"""What a model's tensors mean in protocol v2: inputs are records, a row each; outputs are answers.

Letters: B rows, S positions, D width of features, C labels.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from moodal.bundle import Info
from moodal.errors import RecordError
from moodal.serve.errors import RefusalError
from moodal.serve.service import Answer
from moodal.serve.tensors import InferRequest, Tensor, Told, Wire
from moodal.tasks import TASKS
from moodal.types import MODALITIES, Media, Record, Rejection, Text

Value = Text | Media | None


class Column(NamedTuple):
    """One tensor of a model. shape: of one row; -1 = any. read: an answer -> its value."""

    datatype: str
    shape: tuple[int, ...] = ()
    read: Callable[[Answer], str | float | list[float]] = lambda answer: ""


class TensorAbout(Wire):
    name: str
    datatype: str
    shape: list[int]


class ModelAbout(Wire):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorAbout]
    outputs: list[TensorAbout]


def inputs(info: Info, *, heard: bool) -> dict[str, Column]:
    """Modality -> its tensor. heard: recordings are written down, for a model that reads texts."""
    also = ("audio",) if heard else ()
    return {
        m: Column("FP32", (info.widths[m],)) if info.kinds.get(m) == "vectors" else Column("BYTES")
        for m in MODALITIES
        if m in info.modalities + also
    }


def outputs(info: Info) -> dict[str, Column]:
    """What a model of this kind answers; the row of a record that failed is empty and zeros."""
    if TASKS[info.task].head != "summary":
        own = {"text": Column("BYTES", read=lambda a: a.get("text") or "")}
    elif not info.labels:
        own = {"value": Column("FP64", read=lambda a: a.get("value") or 0.0)}
    else:
        own = {
            "label": Column("BYTES", read=lambda a: a.get("label") or ""),
            "probabilities": Column("FP64", (len(info.labels),), lambda a: _shares(a, info.labels)),
        }
    if "value" not in own:
        own["confidence"] = Column("FP64", read=lambda a: a.get("confidence") or 0.0)
    return own | {
        "prediction_id": Column("BYTES", read=lambda a: a.get("prediction_id") or ""),
        "answer": Column("BYTES", read=lambda a: to_json(a).decode("utf-8")),
    }


def about(info: Info, version: str, read: Mapping[str, Column]) -> ModelAbout:
    """read: its inputs."""
    return ModelAbout(
        name=info.name,
        versions=[version],
        platform="moodal",
        inputs=[_about(name, column) for name, column in read.items()],
        outputs=[_about(name, column) for name, column in outputs(info).items()],
    )


def records(tensors: Sequence[Tensor], columns: Mapping[str, Column]) -> list[Record | Rejection]:
    """The rows of a request; what is wrong with one of them fails alone.

    Raises: RefusalError, when a tensor is unknown, of another datatype or shape, or twice there.
    """
    n_rows = {_n_rows(tensor, columns) for tensor in tensors}
    names = [tensor.name for tensor in tensors]
    if len(n_rows) != 1 or len(set(names)) != len(names):
        shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in tensors)
        raise RefusalError(
            "invalid", f"has {shapes}; give each input once, all with as many rows", "inputs"
        )
    return [_record(row, tensors) for row in range(n_rows.pop())]


def wanted(request: InferRequest, columns: dict[str, Column]) -> dict[str, Column]:
    """The outputs to send, in their order. Raises: RefusalError, when one is not to be had."""
    for output in request.outputs or ():
        if output.name not in columns:
            known = ", ".join(columns)
            raise RefusalError(
                "invalid",
                f"there is no output {output.name[:40]!r}; outputs are {known}",
                "outputs",
            )
        if output.parameters.get("classification"):
            raise RefusalError(
                "invalid", "`classification` is not offered; ask for `probabilities`", output.name
            )
    return {output.name: columns[output.name] for output in request.outputs or ()} or columns


def told(answers: Sequence[Answer], columns: Mapping[str, Column]) -> Iterator[Told]:
    for name, column in columns.items():
        values = [column.read(answer) for answer in answers]
        if column.datatype == "BYTES":
            yield Told(name, [str(value) for value in values])
        else:
            yield Told(name, np.array(values, np.float64))  # (B,) or (B, C)


def _about(name: str, column: Column) -> TensorAbout:
    return TensorAbout(name=name, datatype=column.datatype, shape=[-1, *column.shape])


def _shares(answer: Answer, labels: Sequence[str]) -> list[float]:
    probabilities = answer.get("probabilities") or {}
    return [probabilities.get(label, 0.0) for label in labels]


def _n_rows(tensor: Tensor, columns: Mapping[str, Column]) -> int:
    """Raises: RefusalError."""
    column = columns.get(tensor.name)
    if column is None:
        known = ", ".join(columns)
        raise RefusalError(
            "invalid", f"there is no such input; inputs are {known}", tensor.name[:40]
        )
    found = "FP32" if isinstance(tensor.values, np.ndarray) else "BYTES"
    if found != column.datatype:
        raise RefusalError(
            "invalid", f"has datatype {found}, this model reads {column.datatype}", tensor.name
        )
    shape, width = tensor.shape, column.shape
    fits = shape[1:] in ((), (1,)) if not width else len(shape) in (2, 3) and shape[-1:] == width
    if not shape or not fits or 0 in shape:
        wanted = f"[B, {width[0]}] or [B, S, {width[0]}]" if width else "[B] or [B, 1]"
        raise RefusalError(
            "invalid", f"has shape {list(shape)}; give {wanted}, B at least 1", tensor.name
        )
    return shape[0]


def _record(row: int, tensors: Sequence[Tensor]) -> Record | Rejection:
    id, source = str(row), f"row {row + 1}"
    try:
        values: dict[str, Any] = {t.name: _value(t, row) for t in tensors}
    except RecordError as error:
        return error.rejection(id, source)
    return Record(id, source=source, **values)


def _value(tensor: Tensor, row: int) -> Value:
    """Raises: RecordError."""
    if isinstance(tensor.values, np.ndarray):
        return _features(tensor.values.reshape(tensor.shape)[row])
    value = tensor.values[row]
    if not value:
        return None
    if tensor.name == "text":
        return value if isinstance(value, str) else _utf8(value)
    return value if isinstance(value, bytes) else _base64(value, tensor.name)


def _features(values: NDArray[np.float32]) -> NDArray[np.float32] | None:
    return None if np.isnan(values).all() else values


def _utf8(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"is not UTF-8 ({error.reason})", field="text") from error


def _base64(value: str, field: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordError(
            f"is not base64 ({error}), as a file within JSON must be; or send it as binary data",
            field=field,
        ) from error
