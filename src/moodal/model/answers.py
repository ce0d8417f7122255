"""From encodings to an answer: one a record, one a frame of sound, or one symbol after the other.

Each tells `Seq (B, T, C)`, of which Network makes raw scores, and is a graph of flat arguments.

Letters: B batch, S source positions, T output positions, D width, C output width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moodal.model.decoder import Decoder
from moodal.model.fusion import Fused
from moodal.model.layers import hide, masked_root_sum
from moodal.types import Modality, Seq, Subset


def flat(encoded: Mapping[Modality, Seq[Tensor]], modalities: Subset) -> list[Tensor]:
    """x, mask of each modality in turn, as the inputs of a graph."""
    return [part for m in modalities for part in encoded[m]]


def unflat(feeds: Sequence[Tensor], modalities: Subset) -> dict[Modality, Seq[Tensor]]:
    pairs = zip(feeds[0::2], feeds[1::2], strict=True)
    return {m: Seq(x, mask) for m, (x, mask) in zip(modalities, pairs, strict=True)}


class Answer(nn.Module):
    """What the head makes of the fusion, plus what each modality says alone.

    The sum of linear answers learns from few rows what a linear model would; the head adds what
    only depth and several modalities together can tell.
    Source: Cheng et al., Wide & Deep Learning (2016), section 3.3: joint training of both parts.

    Arguments are flat, as a graph's inputs must be: x, mask of each modality in turn. aside:
    modality -> numbers of a position behind the first `width`, which its own answer hears alone.
    """

    def __init__(
        self,
        fusion: nn.Module,
        head: nn.Module,
        modalities: Subset,
        width: int,
        n_out: int,
        aside: Mapping[Modality, int] | None = None,
    ) -> None:
        super().__init__()
        self.fusion, self.head, self.modalities, self.width = fusion, head, modalities, width
        more = aside or {}
        self.alone = nn.ModuleDict(
            {m: nn.Linear(width + more.get(m, 0), n_out, bias=False) for m in self.modalities}
        )

    def tell(
        self,
        encoded: Mapping[Modality, Seq[Tensor]],
        inputs: Mapping[Modality, Seq[Tensor]],
        targets: Seq[Tensor] | None = None,
    ) -> Seq[Tensor]:
        """(B, 1, C)."""
        told = self(*flat(encoded, self.modalities)).unsqueeze(1)
        return Seq(told, torch.ones_like(told[:, :, 0], dtype=torch.bool))

    def aside(self, encoded: Mapping[Modality, Seq[Tensor]]) -> dict[Modality, Tensor]:
        """Modality -> (B, C), what it would say alone."""
        return {m: self.says(m, seq) for m, seq in encoded.items()}

    def says(self, modality: Modality, encoded: Seq[Tensor]) -> Tensor:
        """(B, C): a linear answer from one modality; 0 where it is absent."""
        answer: Tensor = self.alone[modality](masked_root_sum(*encoded))
        return answer

    def fuse(self, encoded: Mapping[Modality, Seq[Tensor]]) -> Fused:
        """What is aside of the fusion is not shown to it."""
        shown = {m: Seq(x[:, :, : self.width], mask) for m, (x, mask) in encoded.items()}
        fused: Fused = self.fusion(shown)
        return fused

    def forward(self, *feeds: Tensor) -> Tensor:
        encoded = unflat(feeds, self.modalities)
        answer: Tensor = self.head(self.fuse(encoded)).x[:, 0]  # (B, C)
        return answer + sum(self.says(m, seq) for m, seq in encoded.items())


class Scaled(nn.Module):
    def __init__(self, answer: nn.Module, bias: Tensor, scale: float) -> None:
        super().__init__()
        self.answer, self.bias, self.scale = answer, bias, scale

    def forward(self, *feeds: Tensor) -> Tensor:
        scores: Tensor = self.answer(*feeds)
        return scores * self.scale + self.bias


class Frames(nn.Module):
    """One answer for each frame of the encoded sound: scores of the symbols and CTC's blank.

    Source: Graves et al., Connectionist Temporal Classification (2006), section 3.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.modalities: Subset = ("audio",)

    def tell(
        self,
        encoded: Mapping[Modality, Seq[Tensor]],
        inputs: Mapping[Modality, Seq[Tensor]],
        targets: Seq[Tensor] | None = None,
    ) -> Seq[Tensor]:
        """(B, S, C): every frame has its own."""
        return Seq(*self(*encoded["audio"]))

    def aside(self, encoded: Mapping[Modality, Seq[Tensor]]) -> dict[Modality, Tensor]:
        """Sound alone is the answer itself."""
        return {}

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, D), (B, S) -> (B, S, C), (B, S)."""
        told: Seq[Tensor] = hide(Seq(self.head(x), mask))
        return told.x, told.mask


class Text(nn.Module):
    """One symbol after the other, by a decoder that looks over all that was encoded."""

    def __init__(self, fusion: nn.Module, decoder: Decoder, modalities: Subset) -> None:
        super().__init__()
        self.fusion, self.decoder, self.modalities = fusion, decoder, modalities

    def tell(
        self,
        encoded: Mapping[Modality, Seq[Tensor]],
        inputs: Mapping[Modality, Seq[Tensor]],
        targets: Seq[Tensor] | None = None,
    ) -> Seq[Tensor]:
        """(B, T, C) log-probabilities, each with the targets before it shown."""
        assert targets is not None, "what a text is taught by, it is shown"
        source = sources(encoded, inputs)
        x, mask, source, summary = self.look(source, *flat(encoded, self.modalities))
        told: Seq[Tensor] = self.decoder(x, mask, source, summary, targets)
        return told

    def aside(self, encoded: Mapping[Modality, Seq[Tensor]]) -> dict[Modality, Tensor]:
        """A modality alone says no text of its own in training."""
        return {}

    def look(self, source: Tensor, *feeds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """source: (B, S) symbols of the text's positions -> all that was encoded: x (B, S', D),
        mask (B, S'), source (B, S'), summary (B, D). The text comes first (fusion.fused)."""
        fused = self.fusion(unflat(feeds, self.modalities))
        n_more = fused.all.x.shape[1] - source.shape[1]
        return (*fused.all, F.pad(source, (0, n_more)), fused.summary.x[:, 0])

    def forward(self, source: Tensor, *feeds: Tensor) -> tuple[Tensor, ...]:
        """What the decoder looks at in every step: x, keys, mask, source and the first state."""
        memory, state = self.decoder.remember(*self.look(source, *feeds))
        return (*memory, state)


def sources(
    encoded: Mapping[Modality, Seq[Tensor]], inputs: Mapping[Modality, Seq[Tensor]]
) -> Tensor:
    """(B, S) int64: the symbols of the text that was encoded, PADDING where there are none, as in
    features."""
    if "text" not in inputs or inputs["text"].x.is_floating_point():
        return torch.zeros_like(next(iter(encoded.values())).mask[:, :1], dtype=torch.int64)
    x, mask = inputs["text"]
    return x[:, :, 0].long() * mask
