"""Which layers: of a graph that is faster by it, and those that hurt most are left alone first."""

from __future__ import annotations

import onnx
import pytest
from test_arithmetic import ROWS, two_layers

from moodal.compress import choose
from moodal.compress.choose import Chosen, Compute

GRAPHS = {"head.onnx": two_layers()}
FEEDS = {"head.onnx": ROWS}


def chosen(mode: Compute, *, max_drop: float = 0.0, a_layer: float = 0.0) -> Chosen:
    """With a score that falls by `a_layer` for each layer in integers."""

    def drop(graphs: object) -> float:
        assert isinstance(graphs, dict)
        graph = onnx.load_from_string(graphs["head.onnx"]).graph
        return a_layer * sum(n.op_type == "QuantizeLinear" for n in graph.node)

    return choose.choose(GRAPHS, FEEDS, drop, compute=mode, max_drop=max_drop)


def test_a_graph_that_is_not_faster_is_left_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "FASTER", 1e9)
    found = chosen("auto")
    assert not found.computes
    assert all("ms in integers" in layer.why for layer in found.layers)
    monkeypatch.setattr(choose, "FASTER", 0.0)
    assert chosen("auto").computes


def test_both_times_are_told() -> None:
    [timed] = chosen("int8").timed
    assert timed.graph == "head.onnx"
    assert min(timed.float32_ms, timed.int8_ms, timed.faster) > 0


def test_what_may_be_is_computed_and_its_harm_told() -> None:
    found = chosen("int8")
    assert [layer.arithmetic for layer in found.layers] == ["int8", "int8"]
    assert all(layer.harm and 0 < layer.harm < 0.01 for layer in found.layers)


def test_the_layer_that_hurts_most_is_left_alone_first() -> None:
    found = chosen("int8", a_layer=0.01, max_drop=0.015)
    worst, other = sorted(found.layers, key=lambda layer: -(layer.harm or 0))
    assert worst.arithmetic == "float32"
    assert "0.0200 worse, at most 0.0150" in worst.why
    assert other.arithmetic == "int8"


def test_nothing_is_computed_where_any_loss_is_too_much() -> None:
    found = chosen("int8", a_layer=0.01, max_drop=0.001)
    assert not found.computes


def test_weights_alone() -> None:
    found = chosen("float32", a_layer=1.0)
    assert not found.computes
    assert found.timed == ()
    assert {layer.why for layer in found.layers} == {"weights alone were asked for"}
    assert len(found.graphs["head.onnx"]) < 0.4 * len(GRAPHS["head.onnx"])
