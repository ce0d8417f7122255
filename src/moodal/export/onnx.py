"""A trained network to ONNX: one graph an encoder, one or two for the answer."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from moodal import bundle
from moodal.model.answers import Frames, Scaled, Text
from moodal.model.decoder import Decoder, Memory
from moodal.model.model import Network
from moodal.preprocess.symbols import FIRST, START
from moodal.runtime.session import MEMORY
from moodal.types import Modality, Seq

OPSET = 20
PLANES = 4
"""Axes of a batch of pictures."""
UNCHANGED = ("Cast", "Slice", "Unsqueeze")
"""What leaves ones to be ones."""
FLAT = ("scores", "previous", "state", "told_state", "log_probabilities", "next_state")
"""What has no positions: one number, or one row of them, a record."""


class _Step(nn.Module):
    """One step of a text, of flat arguments."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, previous: Tensor, state: Tensor, *memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self.decoder.step(previous, state, Memory(*memory))


class _Encoder(nn.Module):
    """Flat arguments in and out, as a graph has them."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        encoded: Seq[Tensor] = self.encoder(Seq(x, mask))
        return encoded.x, encoded.mask


def encoder(network: Network, modality: Modality, example: Seq[Tensor]) -> bytes:
    """x (B, S, ...), mask (B, S) -> encoding (B, S', D + n), encoding_mask (B, S')."""
    content = _export(
        _Encoder(network.encoders[modality]),
        tuple(example),
        inputs=["x", "mask"],
        outputs=["encoding", "encoding_mask"],
    )
    return _of_whole(content) if example.x.dim() == PLANES else content


def _of_whole(content: bytes) -> bytes:
    """A graph without the products by which rows that are not real are zeroed: all of a picture are
    real. They take a quarter of its time, much of it because they part convolutions."""
    model = onnx.load_from_string(content)
    ones, same, kept = {"mask"}, dict[str, str](), []
    for node in model.graph.node:
        given = [same.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(given)
        if node.op_type in UNCHANGED and given[0] in ones:
            ones.add(node.output[0])
        others = [name for name in given if name not in ones]
        if node.op_type == "Mul" and len(others) == 1:
            same[node.output[0]] = others[0]
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return bytes(model.SerializeToString())


def answer(network: Network) -> dict[str, bytes]:
    """What makes an answer of the encodings: file -> graph.

    One answer a record: <modality>_x (B, S, D + n), <modality>_mask (B, S) of every modality ->
    scores (B, C). Frames: x, mask -> scores (B, T, C), scores_mask. A text: those of every modality
    and source (B, S) -> what a step looks at (session.MEMORY), state; and the step.
    """
    told = network.answer
    if isinstance(told, Text):
        return _text(network, told)
    if isinstance(told, Frames):
        frames = torch.randn(2, 5, network.widths["audio"]), torch.ones(2, 5).bool()
        return {bundle.HEAD: _export(told, frames, inputs=["x", "mask"], outputs=["s", "s_mask"])}
    graph = Scaled(told, network.bias, float(network.scale))
    feeds, names = _feeds(network)
    return {bundle.HEAD: _export(graph, feeds, inputs=names, outputs=["scores"])}


def _feeds(network: Network) -> tuple[tuple[Tensor, ...], list[str]]:
    feeds: list[Tensor] = []
    for place, modality in enumerate(network.modalities):
        # Lengths differ so that no axis is taken for another's.
        feeds += [
            torch.randn(2, 3 + place, network.widths[modality]),
            torch.ones(2, 3 + place).bool(),
        ]
    return tuple(feeds), [f"{m}_{part}" for m in network.modalities for part in ("x", "mask")]


def _text(network: Network, told: Text) -> dict[str, bytes]:
    feeds, names = _feeds(network)
    source = torch.full((2, 3), FIRST)
    with torch.no_grad():
        *memory, state = told.eval()(source, *feeds)
    outputs = [*MEMORY, "state"]
    head = _export(
        told,
        (source, *feeds),
        inputs=["source", *names],
        outputs=[f"told_{name}" for name in outputs],
    )
    step = _export(
        _Step(told.decoder),
        (torch.tensor([START, FIRST]), state, *memory),
        inputs=["previous", "state", *MEMORY],
        outputs=["log_probabilities", "next_state", "attention"],
    )
    return {bundle.HEAD: head, bundle.STEP: step}


def _export(
    module: nn.Module, example: tuple[Any, ...], *, inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    axes = {name: {0: "B", 1: f"S_{name}"} for name in (*inputs, *outputs)}
    axes |= {name: {0: "B"} for name in axes if name in FLAT}
    # dynamo=False takes any file-like object, whatever the signature says.
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is announced to go; it writes a graph in 0.3 s where the other
        # takes 2 to 8 s, and its warnings about traced constants are settled by parity checks.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            example,
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    content: bytes = buffer.getvalue()
    return content
