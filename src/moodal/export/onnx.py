"""A trained network to ONNX: one graph an encoder, one for fusion + head."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from moodal.model.model import Network
from moodal.types import Modality, Seq

OPSET = 18


class _Encoder(nn.Module):
    """Flat arguments in and out, as a graph has them."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        encoded: Seq[Tensor] = self.encoder(Seq(x, mask))
        return encoded.x, encoded.mask


def encoder(network: Network, modality: Modality, example: Seq[Tensor]) -> bytes:
    """x (B, S, ...), mask (B, S) -> encoding (B, S', D), encoding_mask (B, S')."""
    return _export(
        _Encoder(network.encoders[modality]),
        tuple(example),
        inputs=["x", "mask"],
        outputs=["encoding", "encoding_mask"],
    )


def head(network: Network) -> bytes:
    """<modality>_x (B, S, D), <modality>_mask (B, S) of every modality -> scores (B, C)."""
    feeds: list[Tensor] = []
    for place, _ in enumerate(network.modalities):
        # Lengths differ so that no axis is taken for another's.
        feeds += [torch.randn(2, 3 + place, network.width), torch.ones(2, 3 + place).bool()]
    names = [f"{m}_{part}" for m in network.modalities for part in ("x", "mask")]
    return _export(network.graph(), tuple(feeds), inputs=names, outputs=["scores"])


def _export(
    module: nn.Module, example: tuple[Any, ...], *, inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    axes = {name: {0: "B", 1: f"S_{name}"} for name in (*inputs, *outputs)}
    if outputs == ["scores"]:
        axes["scores"] = {0: "B"}
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
