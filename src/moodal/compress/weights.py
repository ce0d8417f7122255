"""Weights as 8-bit integers: a quarter of the size, the same speed.

Sums are done in float32, so nothing has to be calibrated. Each output
channel (and each row of an embedding) has a scale of its own: weight = scale * integer, integer in
[-127, 127], scale = largest absolute weight / 127.
Source: Krishnamoorthi, Quantizing deep convolutional networks for efficient inference (2018),
sections 2.3 (symmetric) and 3.1.1 (weight only, per channel).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

from moodal import bundle

Array = NDArray[Any]

SMALLEST = 1024
"""Weights of fewer numbers stay as they are: nothing would be gained."""

AXES: dict[str, Callable[[Any], int]] = {
    "Gather": lambda node: 0,
    "MatMul": lambda node: 1,
    "Gemm": lambda node: 0 if _attribute(node, "transB") else 1,
    "Conv": lambda node: 0,
    "GRU": lambda node: 1,
    "LSTM": lambda node: 1,
}
"""Operator -> the axis of its weights that counts output channels."""


def integers(weights: Array, axis: int) -> tuple[Array, Array]:
    """weights: (..., n, ...) float32 with n channels along the axis -> the same shape as int8, and
    (n,) scales."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    scales = np.abs(weights).max(others) / 127
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    return np.rint(weights / scales.reshape(shape)).astype(np.int8), scales


def pack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each large float tensor as int8 with a scale a row; see bundle.SCALE."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or tensor.ndim < 2 or tensor.numel() < SMALLEST:
            packed[name] = tensor
            continue
        whole, scales = integers(tensor.numpy(), 0)
        packed[name] = torch.from_numpy(whole)
        packed[name + bundle.SCALE] = torch.from_numpy(scales)
    return packed


def share(
    packed: Mapping[str, Tensor], graphs: Mapping[str, bytes]
) -> tuple[dict[str, Tensor], dict[str, bytes]]:
    """What the graphs hold as well is kept once, there, under its own name; see bundle.SCALE.

    A weight that was scaled by row before it was exported (pieces by their own weights, filters by
    the batch norm behind them) has the same integers but where a half was rounded the other way.
    """
    left, models = dict(packed), {n: onnx.load_from_string(c) for n, c in graphs.items()}
    for model in models.values():
        held = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
        names = {tensor.name for tensor in model.graph.initializer}
        for tensor in held:
            values = numpy_helper.to_array(tensor)
            found = next((n for n in _like(values, left) if n not in names), None)
            if found is not None:
                _rename(model.graph, tensor, found)
                del left[found]
    return left, {n: bytes(model.SerializeToString()) for n, model in models.items()}


def _like(values: Array, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of integers that are these, give or take one."""
    alike = (n for n, t in tensors.items() if t.dtype == torch.int8 and t.shape == values.shape)
    for name in alike:
        if np.abs(tensors[name].numpy() - values.astype(np.int16)).max() <= 1:
            yield name


def _rename(graph: Any, tensor: Any, name: str) -> None:
    for node in graph.node:
        for place, given in enumerate(node.input):
            if given == tensor.name:
                node.input[place] = name
    tensor.name = name


def graph(content: bytes) -> bytes:
    """An ONNX graph, its large weights as integers times scales.

    An embedding is looked up first and scaled after, so that it stays small in memory as well; all
    others are turned back once, when the graph is loaded.
    """
    model = onnx.load_from_string(content)
    large = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and len(tensor.dims) > 1
        and np.prod(tensor.dims) >= SMALLEST
    }
    sums = _sums(model.graph, large)
    gone = {summed.output[0] for summed in sums.values()}
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in large:
            table = large[node.input[0]]
            summed = sums.get(node.output[0])
            nodes += (
                _lookup(model.graph, node, table)
                if summed is None
                else _summed_lookup(model.graph, node, table, summed)
            )
        elif node.output[0] not in gone:
            nodes += _turned_back(model.graph, node, large)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _forget_unused(model.graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _lookup(into: Any, node: Any, table: Any) -> list[Any]:
    """Rows as integers, their scales, the product."""
    whole, scales = integers(numpy_helper.to_array(table), 0)
    name, ids = node.output[0], node.input[1]
    _add(into, f"{table.name}_int8", whole)
    _add(into, f"{table.name}_scale", scales[:, None])
    return [
        helper.make_node("Gather", [f"{table.name}_int8", ids], [f"{name}_int8"], axis=0),
        helper.make_node("Cast", [f"{name}_int8"], [f"{name}_float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Gather", [f"{table.name}_scale", ids], [f"{name}_scale"], axis=0),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [name]),
    ]


def _sums(graph: Any, large: dict[str, Any]) -> dict[str, Any]:
    """What is looked up in a large table -> the node that does nothing but sum it over the pieces
    of a position, (B, S, K, n) -> (B, S, n)."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    known = {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant"}
    known |= {tensor.name: tensor for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in large:
            first, *others = readers[node.output[0]]
            if not others and first.op_type == "ReduceSum" and _is_over_pieces(first, known):
                found[node.output[0]] = first
    return found


def _is_over_pieces(node: Any, known: dict[str, Any]) -> bool:
    axes = known.get(node.input[1]) if len(node.input) > 1 else None
    over = None if axes is None else numpy_helper.to_array(axes).tolist()
    return over in ([2], [-2]) and not _attribute(node, "keepdims", 1)


def _summed_lookup(into: Any, node: Any, table: Any, summed: Any) -> list[Any]:
    """Rows as integers, and their sum weighed by their scales: one product of matrices (1, K) and
    (K, n) a position is quicker than to scale them all and to sum."""
    whole, scales = integers(numpy_helper.to_array(table), 0)
    name, ids = node.output[0], node.input[1]
    _add(into, f"{table.name}_int8", whole)
    _add(into, f"{table.name}_scales", scales)
    _add(into, "axis_of_pieces", np.array([2]))
    parts = {p: f"{name}_{p}" for p in ("int8", "float", "scale", "row", "sum")}
    make = helper.make_node
    return [
        make("Gather", [f"{table.name}_int8", ids], [parts["int8"]], axis=0),
        make("Cast", [parts["int8"]], [parts["float"]], to=onnx.TensorProto.FLOAT),
        make("Gather", [f"{table.name}_scales", ids], [parts["scale"]], axis=0),
        make("Unsqueeze", [parts["scale"], "axis_of_pieces"], [parts["row"]]),
        make("MatMul", [parts["row"], parts["float"]], [parts["sum"]]),
        make("Squeeze", [parts["sum"], "axis_of_pieces"], [summed.output[0]]),
    ]


def _turned_back(into: Any, node: Any, large: dict[str, Any]) -> list[Any]:
    """The node behind those that turn its weights back into floats: of constants, so that it is
    done once, when the graph is loaded."""
    nodes = [node]
    for place, name in enumerate(node.input):
        if name in large and node.op_type in AXES:
            axis = AXES[node.op_type](node)
            whole, scales = integers(numpy_helper.to_array(large[name]), axis)
            wide = [-1 if i == axis else 1 for i in range(whole.ndim)]
            kept, scale, back = (f"{name}_{part}_{axis}" for part in ("int8", "scale", "float"))
            _add(into, kept, whole)
            _add(into, scale, scales.reshape(wide))
            node.input[place], back = (f"{part}_for_{node.output[0]}" for part in (name, back))
            made = helper.make_node("Mul", [back, scale], [node.input[place]])
            cast = helper.make_node("Cast", [kept], [back], to=onnx.TensorProto.FLOAT)
            nodes[:0] = [cast, made]
    return nodes


def _add(into: Any, name: str, values: Array) -> None:
    if all(tensor.name != name for tensor in into.initializer):
        into.initializer.append(numpy_helper.from_array(values, name))


def _forget_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _attribute(node: Any, name: str, default: int = 0) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)
