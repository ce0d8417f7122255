"""A graph that computes in 8-bit integers: its layers' inputs and weights are integers, their
products and sums too; what lies between them stays float32.

x = scale * (integer - zero point), an input's scale fixed beforehand by what calibration rows were
seen to hold. A scale taken from whatever a batch holds (dynamic quantisation) would make an answer
depend on the rows beside it and on padding, which no model of ours may: it is not done.
Source: Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference (2018), section 2.1, equation 1; per channel, with the range of
what was seen: Krishnamoorthi, Quantizing deep convolutional networks for efficient inference
(2018), sections 2.2 and 3.1.2.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from moodal.compress import weights
from moodal.runtime.session import Feeds

OPERATORS = ("Conv", "MatMul", "Gemm")
"""Those that ONNX Runtime computes in integers with a scale fixed beforehand. It has no such
recurrent layer."""
FLOAT_OUT = ("MatMul", "Gemm")
"""What comes out of these need not be rounded to 8 bits once more."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A graph in float32, and the ranges of its layers' inputs. layers: node -> operator."""

    graph: Any
    ranges: Any
    layers: dict[str, str]


def layers(content: bytes) -> dict[str, str]:
    """Node -> operator, of those whose weights are worth it."""
    return _layers(onnx.load_from_string(content))


def _layers(model: Any) -> dict[str, str]:
    large = {
        tensor.name
        for tensor in model.graph.initializer
        if np.prod(tensor.dims) >= weights.SMALLEST
    }
    return {
        node.name: node.op_type
        for node in model.graph.node
        if node.op_type in OPERATORS and node.input[1] in large
    }


def prepare(content: bytes, rows: Iterable[Feeds]) -> Prepared:
    """See what a graph's layers are fed by calibration rows."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    found = _layers(model)
    with tempfile.TemporaryDirectory() as folder:
        plain, seen = Path(folder, "graph.onnx"), Path(folder, "seen.onnx")
        onnx.save(model, plain)
        calibrator = create_calibrator(plain, OPERATORS, str(seen))
        calibrator.collect_data(_Rows(iter(rows)))
        ranges = calibrator.compute_data()
        del calibrator  # it holds the file open
    return Prepared(model, ranges, found)


def computed(prepared: Prepared, names: Collection[str]) -> bytes:
    """The graph with these layers computed in integers, and all other large weights kept as such.

    Weights take 7 bits: processors without 8-bit dot products add pairs of products in 16 bits,
    which overflow with 8. Source: ONNX Runtime, Quantize ONNX Models, "When and why do I need to
    try U8U8" (reduce_range). Measured: docs/quantise.md.
    """
    model = onnx.ModelProto()
    model.CopyFrom(prepared.graph)
    if names:
        quantizer = QDQQuantizer(
            model,
            True,  # a scale a channel
            True,  # 7 bits
            QuantType.QInt8,
            QuantType.QUInt8,
            prepared.ranges,
            sorted(names),
            [],
            list(OPERATORS),
            {
                "OpTypesToExcludeOutputQuantization": list(FLOAT_OUT),
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        model = quantizer.model.model
    return weights.graph(model.SerializeToString())


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # the base is untyped
    def __init__(self, rows: Iterator[Feeds]) -> None:
        self.rows = rows

    def get_next(self) -> Feeds | None:
        return next(self.rows, None)
