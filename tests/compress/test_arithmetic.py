"""Sums of integers: those of the formula, of the layers that were named, each row by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from moodal.compress import arithmetic, choose
from moodal.compress import weights as packing

RNG = np.random.default_rng(0)
ROWS = [{"x": RNG.uniform(-1, 3, (n, 40)).astype(np.float32)} for n in (4, 1, 7)]
WEIGHTS = [RNG.normal(0, 1, shape).astype(np.float32) for shape in ((40, 60), (60, 30))]


def graph(nodes: list[Any], weights: list[Any]) -> bytes:
    """x (B, 40) -> y."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", weights[-1].shape[1]])],
        [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def two_layers() -> bytes:
    """x (B, 40) -> 60 -> 30."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"], name="first"),
        helper.make_node("Tanh", ["h"], ["t"], name="between"),
        helper.make_node("MatMul", ["t", "w1"], ["y"], name="second"),
    ]
    return graph(nodes, WEIGHTS)


@pytest.fixture(scope="module")
def prepared() -> arithmetic.Prepared:
    return arithmetic.prepare(two_layers(), ROWS)


def nodes(content: bytes) -> list[Any]:
    return list(onnx.load_from_string(content).graph.node)


def run(content: bytes, x: Any) -> Any:
    return choose.session(content).run(None, {"x": x})[0]


def test_layers_are_nodes_with_large_constant_weights() -> None:
    assert arithmetic.layers(two_layers()) == {"first": "MatMul", "second": "MatMul"}


def test_a_layer_is_the_product_of_its_integers() -> None:
    """Each channel with its own scale: the smallest is a thousandth of the largest."""
    weights = WEIGHTS[0] * np.logspace(-3, 0, 60).astype(np.float32)
    content = graph([helper.make_node("MatMul", ["x", "w0"], ["y"], name="only")], [weights])
    seen = np.concatenate([row["x"] for row in ROWS])
    scale = (seen.max() - seen.min()) / 255
    zero = np.rint(-seen.min() / scale)
    inputs = np.clip(np.rint(seen / scale) + zero, 0, 255) - zero
    steps = np.abs(weights).max(0) / 64
    expected = scale * steps * (inputs @ np.rint(weights / steps))
    found = run(arithmetic.computed(arithmetic.prepare(content, ROWS), ["only"]), seen)
    # A product that lies between two integers may be rounded to either.
    assert np.abs((found - expected) / (scale * steps * 64)).max() < 1.01
    assert np.mean(np.abs(found - expected) < 1e-3 * scale * steps * 64) > 0.9


def test_only_the_layers_named_are_computed_in_integers(prepared: arithmetic.Prepared) -> None:
    quantised = {
        names: sum(
            n.op_type == "QuantizeLinear" for n in nodes(arithmetic.computed(prepared, names))
        )
        for names in ((), ("first",), ("first", "second"))
    }
    assert list(quantised.values()) == [0, 1, 2]


def test_weights_take_seven_bits_where_sums_are_integers(prepared: arithmetic.Prepared) -> None:
    graph = onnx.load_from_string(arithmetic.computed(prepared, ["first"])).graph
    highest = {
        t.name: int(np.abs(numpy_helper.to_array(t).astype(int)).max())
        for t in graph.initializer
        if t.data_type == TensorProto.INT8 and len(t.dims) == 2
    }
    assert sorted(highest.values()) == [64, 127]


def test_all_large_weights_are_kept_as_integers(prepared: arithmetic.Prepared) -> None:
    for names in ([], ["first"], ["first", "second"]):
        graph = onnx.load_from_string(arithmetic.computed(prepared, names)).graph
        large = [t for t in graph.initializer if np.prod(t.dims) >= packing.SMALLEST]
        assert len(large) == 2
        assert all(t.data_type == TensorProto.INT8 for t in large)


def test_a_row_is_answered_as_if_it_were_alone(prepared: arithmetic.Prepared) -> None:
    content = arithmetic.computed(prepared, ["first", "second"])
    x = np.concatenate([row["x"] for row in ROWS])
    x[-1] *= 100  # a scale taken from the batch would follow this row
    alone = np.concatenate([run(content, row[None]) for row in x])
    np.testing.assert_allclose(run(content, x), alone, atol=1e-6)
