"""The graphs: their names, their free axes, and that they run on their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import load_from_string

from moodal import bundle
from moodal.export import onnx
from moodal.types import Seq

Make = Callable[..., Any]


@pytest.fixture
def network(exported: Make) -> Any:
    return exported("text_encoder.kind=bag")[0]


def open_graph(content: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def head(network: Any) -> bytes:
    """The one graph of an answer that is one a record."""
    files = onnx.answer(network)
    assert list(files) == [bundle.HEAD]
    return files[bundle.HEAD]


def names(values: Any) -> list[str]:
    return [value.name for value in values]


def test_an_encoder_takes_a_sequence_and_gives_one(network: Any, drawn: Make) -> None:
    inputs = drawn(network, {"text": "tokens", "image": "picture", "audio": "frames"})
    for modality in network.modalities:
        x, mask = inputs[modality]
        mask[:, 0] = True
        graph = open_graph(onnx.encoder(network, modality, inputs[modality]))
        assert names(graph.get_inputs()) == ["x", "mask"]
        assert names(graph.get_outputs()) == ["encoding", "encoding_mask"]
        encoding, shown = graph.run(None, {"x": x[:3].numpy(), "mask": mask[:3].numpy()})
        assert encoding.shape[0] == 3
        assert encoding.shape[2] == network.width
        assert shown.shape == encoding.shape[:2]
        assert shown.dtype == np.bool_


def test_the_head_takes_each_modality_at_a_length_of_its_own(network: Any) -> None:
    graph = open_graph(head(network))
    expected = [f"{m}_{part}" for m in ("text", "image", "audio") for part in ("x", "mask")]
    assert names(graph.get_inputs()) == expected
    assert names(graph.get_outputs()) == ["scores"]
    rng = np.random.default_rng(0)
    feeds = {}
    for modality, length in (("text", 1), ("image", 11), ("audio", 4)):
        feeds[f"{modality}_x"] = rng.normal(size=(7, length, network.width)).astype(np.float32)
        feeds[f"{modality}_mask"] = np.ones((7, length), np.bool_)
    assert graph.run(None, feeds)[0].shape == (7, 3)


def test_exporting_changes_no_weight_and_gives_the_same_file_twice(
    network: Any, drawn: Make
) -> None:
    before = {name: t.clone() for name, t in network.state_dict().items()}
    head(network)
    onnx.encoder(
        network,
        "text",
        drawn(network, {"text": "tokens", "image": "picture", "audio": "frames"})["text"],
    )
    assert all((before[name] == t).all() for name, t in network.state_dict().items())
    assert head(network) == head(network), "the same network, the same file"


@pytest.mark.parametrize("kind", ["cnn", "efficientnet"])
def test_a_picture_is_whole_so_its_rows_are_not_zeroed(
    kind: str, exported: Make, drawn: Make
) -> None:
    network = exported(f"image_encoder.kind={kind}")[0]
    inputs = drawn(network, {"text": "tokens", "image": "picture", "audio": "frames"})
    x, mask = inputs["image"]
    mask[:] = True
    zeroed, left = (
        zeroed_before_filters(content)
        for content in (
            onnx._export(
                onnx._Encoder(network.encoders["image"]),
                (x, mask),
                inputs=["x", "mask"],
                outputs=["encoding", "encoding_mask"],
            ),
            onnx.encoder(network, "image", inputs["image"]),
        )
    )
    assert len(zeroed) > 2
    assert not left
    found = open_graph(onnx.encoder(network, "image", inputs["image"]))
    with torch.inference_mode():
        expected = network.eval().encoders["image"](Seq(x, mask))
    encoding, shown = found.run(None, {"x": x.numpy(), "mask": mask.numpy()})
    np.testing.assert_allclose(encoding, expected.x.numpy(), atol=1e-4)
    assert shown.all()


def zeroed_before_filters(content: bytes) -> set[str]:
    """What goes into a convolution, or its border, and is a product with a mask, as 0 and 1."""
    nodes = load_from_string(content).graph.node
    filtered = {node.input[0] for node in nodes if node.op_type in ("Conv", "Pad")}
    products = [node for node in nodes if node.op_type == "Mul" and node.output[0] in filtered]
    return {n.output[0] for n in products if any("Cast" in name for name in n.input)}
