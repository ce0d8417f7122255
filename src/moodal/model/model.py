"""The network: one encoder a modality, a fusion, a head; absent modalities are not computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moodal.errors import ConfigError
from moodal.model.layers import masked_root_sum
from moodal.types import MODALITIES, Modality, Seq, Subset


class Answers(NamedTuple):
    """answer: (B, C) raw scores. auxiliary: modality -> (B, C), what it would say alone;
    rows that lack the modality hold nothing of meaning (see its mask in `present`)."""

    answer: Tensor
    auxiliary: dict[Modality, Tensor]
    present: dict[Modality, Tensor]


class Network(nn.Module):
    """encoders: modality -> (Seq (B, S, ...) -> Seq (B, S', D)). fusion: {modality: Seq} -> Fused.
    head: Fused -> Seq (B, 1, C). width: D. bias: (C,), scale: the answer is head * scale + bias.
    """

    bias: Tensor

    def __init__(
        self,
        encoders: Mapping[Modality, nn.Module],
        fusion: nn.Module,
        head: nn.Module,
        *,
        width: int,
        bias: Tensor,
        scale: float,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({m: encoders[m] for m in encoders})
        alone = nn.ModuleDict(
            {m: nn.Linear(width, len(bias), bias=False) for m in MODALITIES if m in encoders}
        )
        self.answer = Answer(fusion, head, alone)
        self.width, self.modalities = width, self.answer.modalities
        self.register_buffer("bias", bias)
        self.scale = scale

    def forward(
        self, inputs: dict[Modality, Seq[Tensor]], keep: dict[Modality, Tensor] | None = None
    ) -> Answers:
        """inputs: a batch of any modalities. keep: modality -> (B,) bool, False hides it from the
        fusion (modality dropout); its own auxiliary answer is still learned."""
        encoded = self.encode(inputs)
        present = {m: encoded[m].mask.any(1) for m in inputs}
        auxiliary = {m: self._scaled(self.answer.says(m, encoded[m])) for m in inputs}
        if keep is not None:
            encoded |= {m: Seq(encoded[m].x, encoded[m].mask & keep[m][:, None]) for m in keep}
        feeds = [part for m in self.modalities for part in encoded[m]]
        return Answers(self._scaled(self.answer(*feeds)), auxiliary, present)

    def encode(self, inputs: dict[Modality, Seq[Tensor]]) -> dict[Modality, Seq[Tensor]]:
        """Each encoder sees only the rows that have its modality."""
        rows = len(next(iter(inputs.values())).mask)
        device = self.bias.device
        absent = Seq(
            torch.zeros(rows, 1, self.width, device=device),
            torch.zeros(rows, 1, dtype=torch.bool, device=device),
        )
        encoded: dict[Modality, Seq[Tensor]] = dict.fromkeys(self.modalities, absent)
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

    def freeze(self, modalities: Subset) -> None:
        """These encoders learn no more. Raises: ConfigError for one that is not there."""
        if missing := [m for m in modalities if m not in self.modalities]:
            raise ConfigError(
                f"train.freeze={list(modalities)}: the model does not read {', '.join(missing)}"
            )
        for modality in modalities:
            self.encoders[modality].requires_grad_(False)

    def graph(self) -> nn.Module:
        """Fusion + head + scale as one module: (x, mask) of each modality in turn -> (B, C)."""
        return Scaled(self.answer, self.bias, self.scale)

    def _scaled(self, answer: Tensor) -> Tensor:
        return answer * self.scale + self.bias


class Answer(nn.Module):
    """What the head makes of the fusion, plus what each modality says alone.

    The sum of linear answers learns from few rows what a linear model would; the head adds what
    only depth and several modalities together can tell.
    Source: Cheng et al., Wide & Deep Learning (2016), section 3.3: joint training of both parts.

    Arguments are flat, as a graph's inputs must be: x, mask of each modality in turn.
    """

    def __init__(self, fusion: nn.Module, head: nn.Module, alone: nn.ModuleDict) -> None:
        super().__init__()
        self.fusion, self.head, self.alone = fusion, head, alone
        self.modalities: Subset = tuple(m for m in MODALITIES if m in alone)

    def says(self, modality: Modality, encoded: Seq[Tensor]) -> Tensor:
        """(B, C): a linear answer from one modality; 0 where it is absent."""
        answer: Tensor = self.alone[modality](masked_root_sum(*encoded))
        return answer

    def forward(self, *feeds: Tensor) -> Tensor:
        pairs = zip(feeds[0::2], feeds[1::2], strict=True)
        encoded = {m: Seq(x, mask) for m, (x, mask) in zip(self.modalities, pairs, strict=True)}
        answer: Tensor = self.head(self.fusion(encoded)).x[:, 0]  # (B, C)
        return answer + sum(self.says(m, seq) for m, seq in encoded.items())


class Scaled(nn.Module):
    def __init__(self, answer: nn.Module, bias: Tensor, scale: float) -> None:
        super().__init__()
        self.answer, self.bias, self.scale = answer, bias, scale

    def forward(self, *feeds: Tensor) -> Tensor:
        scores: Tensor = self.answer(*feeds)
        return scores * self.scale + self.bias
