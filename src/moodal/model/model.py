"""The network: one encoder a modality, and an answer; absent modalities are not computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moodal.errors import ConfigError
from moodal.model.answers import Answer, Frames, Text
from moodal.model.fusion import ordered
from moodal.model.planes import Stage
from moodal.model.stems import TimeConvolution
from moodal.types import Modality, Seq


class Answers(NamedTuple):
    """answer: (B, T, C) raw scores; T = 1 where a record has one answer. auxiliary: modality ->
    (B, 1, C), what it would say alone; a row that lacks the modality has a False mask."""

    answer: Seq[Tensor]
    auxiliary: dict[Modality, Seq[Tensor]]


class Network(nn.Module):
    """encoders: modality -> (Seq (B, S, ...) -> Seq (B, S', D + n)). answer: one of answers.py.
    width: D. aside: modality -> n, numbers that the fusion is not shown; none if it is not named.
    bias: (C,), scale: the answer is what `answer` tells * scale + bias.
    """

    bias: Tensor
    scale: Tensor

    def __init__(
        self,
        encoders: Mapping[Modality, nn.Module],
        answer: Answer | Frames | Text,
        *,
        width: int,
        bias: Tensor,
        scale: float,
        aside: Mapping[Modality, int] | None = None,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({m: encoders[m] for m in encoders})
        self.answer = answer
        self.width, self.modalities = width, ordered(tuple(encoders))
        self.widths = {m: width + (aside or {}).get(m, 0) for m in self.modalities}
        self.register_buffer("bias", bias)
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(
        self,
        inputs: dict[Modality, Seq[Tensor]],
        keep: dict[Modality, Tensor] | None = None,
        targets: Seq[Tensor] | None = None,
    ) -> Answers:
        """inputs: a batch of any modalities; one that is not read is passed over. keep: modality ->
        (B,) bool, False hides it from the fusion (modality dropout); its own auxiliary answer is
        still learned. targets: (B, T) codes, of which a text's answer is shown each one's
        forerunners."""
        inputs = {m: seq for m, seq in inputs.items() if m in self.modalities}
        encoded = self.encode(inputs)
        auxiliary = {
            m: self._scaled(Seq(says.unsqueeze(1), encoded[m].mask.any(1, keepdim=True)))
            for m, says in self.answer.aside({m: encoded[m] for m in inputs}).items()
        }
        if keep is not None:
            encoded |= {
                m: Seq(encoded[m].x, encoded[m].mask & keep[m][:, None])
                for m in keep
                if m in encoded
            }
        told = self.answer.tell(encoded, inputs, targets)
        return Answers(self._scaled(told), auxiliary)

    def encode(self, inputs: dict[Modality, Seq[Tensor]]) -> dict[Modality, Seq[Tensor]]:
        """Each encoder sees only the rows that have its modality."""
        rows = len(next(iter(inputs.values())).mask)
        device = self.bias.device
        nobody = torch.zeros(rows, 1, dtype=torch.bool, device=device)
        encoded: dict[Modality, Seq[Tensor]] = {
            m: Seq(torch.zeros(rows, 1, self.widths[m], device=device), nobody)
            for m in self.modalities
        }
        for modality, seq in inputs.items():
            has = seq.mask.any(1)
            part = self.encoders[modality](Seq(seq.x[has], seq.mask[has]))
            x = part.x.new_zeros(rows, *part.x.shape[1:])  # (B, S', D)
            mask = part.mask.new_zeros(rows, part.mask.shape[1])
            x[has], mask[has] = part
            encoded[modality] = Seq(x, mask)
        return encoded

    def depth(self, name: str) -> int:
        """Layers between a weight and the answer: 0 the head, 1 the fusion, then each encoder from
        its end."""
        part, which, layer, *_ = name.split(".")
        if part != "encoders":
            return 1 if which == "fusion" else 0
        encoder = self.encoders[which]
        assert isinstance(encoder, nn.Sequential), "an encoder is a row of layers"
        return 1 + len(encoder) - int(layer)

    def frozen(self, names: Sequence[str]) -> list[nn.Module]:
        """What learns no more: encoders, or parts of them ("image.1.path").

        Raises: ConfigError for what is not there.
        """
        parts = dict(self.encoders.named_modules())
        if missing := [name for name in names if name not in parts]:
            raise ConfigError(
                f"train.freeze={list(names)}: the model has no {', '.join(missing)}; name "
                f"{', '.join(self.modalities)} or parts of their encoders"
            )
        return [parts[name] for name in names]

    def stride(self, modality: Modality) -> int:
        """Positions of the input that one of the encoding stands for."""
        strides = (
            part.stride
            for part in self.encoders[modality].modules()
            if isinstance(part, Stage | TimeConvolution)
        )
        return math.prod(strides)

    def _scaled(self, told: Seq[Tensor]) -> Seq[Tensor]:
        return Seq(told.x * self.scale + self.bias, told.mask)
