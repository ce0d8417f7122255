"""What is special about a modality: its arrays to positions or planes, `Seq -> Seq`.

Letters: B batch, S source positions, W the width inside an encoder, K pieces of one position,
F frequency bands or picture columns, N channels of a plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moodal.model.layers import ACTIVATIONS, hide, join, masked_mean, masked_root_sum
from moodal.preprocess.image import MEAN, STD
from moodal.types import Seq

# To positions, or to planes


class Tokens(nn.Module):
    """Piece ids (B, S, K), 0 = none -> (B, S, W): a position's weighted sum of vectors / sqrt(K).

    weights: (vocabulary,) of the pieces, e.g. inverse document frequency; None = all 1.
    vectors: (vocabulary, n) to start from, e.g. word vectors; None = drawn near 0, so that a piece
    seen once or twice says little until it has learned something.
    Source: Bojanowski et al. 2017, section 3.2 (a word is the sum of its n-grams); the weights:
    Spärck Jones, A statistical interpretation of term specificity (1972).
    """

    weights: Tensor

    def __init__(
        self,
        vocabulary: int,
        width: int,
        *,
        dropout: float = 0.0,
        weights: Tensor | None = None,
        vectors: Tensor | None = None,
    ) -> None:
        super().__init__()
        n = width if vectors is None else vectors.shape[1]
        self.embedding = nn.Embedding(vocabulary, n, padding_idx=0)
        with torch.no_grad():
            if vectors is None:
                self.embedding.weight.normal_(std=0.02)
            else:
                self.embedding.weight.copy_(vectors)
            self.embedding.weight[0] = 0
        self.register_buffer("weights", torch.ones(vocabulary) if weights is None else weights)
        self.resize = nn.Identity() if n == width else nn.Linear(n, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        pieces, mask = hide(source)
        x = self._sum(pieces) / math.sqrt(pieces.shape[2])
        return hide(Seq(self.dropout(self.resize(x)), mask))

    def _sum(self, pieces: Tensor) -> Tensor:
        """(B, S, K) -> (B, S, n)."""
        if torch.onnx.is_in_onnx_export():
            # embedding_bag, three times as fast to train, has no ONNX form. To weigh the table, a
            # constant, rather than what was looked up in it, saves a pass over (B, S, K, n).
            weighed = self.embedding.weight * self.weights.unsqueeze(1)
            return nn.functional.embedding(pieces, weighed).sum(2)
        n_rows, n_positions, _ = pieces.shape
        flat = pieces.flatten(0, 1)
        total = nn.functional.embedding_bag(
            flat,
            self.embedding.weight,
            mode="sum",
            per_sample_weights=self.weights[flat],
            padding_idx=0,
        )
        return total.view(n_rows, n_positions, -1)


class Standardise(nn.Module):
    """(x - mean) / std per dimension of (B, S, D_in), the figures measured on the training part.

    A dimension that never changed is only centred. Values are cut at +-10 deviations: one spike of
    a broken extractor must not swamp its record.

    mean, std: (D_in,).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        super().__init__()
        std = torch.as_tensor(std, dtype=torch.float32)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).clone())
        self.register_buffer("scale", torch.where(std > 1e-6, 1 / std.clamp(min=1e-6), 1.0))

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = source
        return hide(Seq(((x - self.mean) * self.scale).clamp(-10, 10), mask))


class Pixels(nn.Module):
    """Picture rows (B, S, F, 3) in [0, 255] -> planes (B, 3, S, F), about 0 +- 1.

    Source of the constants: the means and deviations of ImageNet's training pictures.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(MEAN))
        self.register_buffer("std", 255 * torch.tensor(STD))

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = source
        x, _ = hide(Seq((x.to(self.mean.dtype) - self.mean) / self.std, mask))
        return Seq(x.permute(0, 3, 1, 2), mask)


class Shrink(nn.Module):
    """Planes (B, N, S, F) at a share of their size: the value at each new cell's middle, between
    the four old ones around it, of real rows."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.below = share, math.ceil(1 / share) - 1

    def forward(self, planes: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = planes
        shown = mask[:, None, :, None].to(x.dtype)
        # Rows below, so that one picture and a batch of taller ones end with the same row.
        x, shown = (
            F.interpolate(
                F.pad(part, (0, 0, 0, self.below)), scale_factor=(self.share, across),
                mode="bilinear", align_corners=False,
            )
            for part, across in ((x * shown, self.share), (shown, 1.0))
        )  # fmt: skip
        return Seq(x / shown.clamp(min=1e-6), shown[:, 0, :, 0] > 0)


class Spectrum(nn.Module):
    """Frames (B, S, F) -> one plane (B, 1, S, F)."""

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        return Seq(source.x.unsqueeze(1), source.mask)


QUIET = 1e-4
"""Of the loudest frame's power, 40 dB under it: a pause, in which nobody is heard."""


class Power(nn.Module):
    """Log-mel frames (B, S, F) -> (B, ceil(S / n), F), the power in each band, the mean of n frames
    at a time. Pauses are left out and what follows moves up; of what is left a recording has 1 in
    the mean, in all bands: neither silence around it nor how far the microphone was counts."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        power, mask = hide(Seq(source.x.exp(), source.mask))
        level = power.sum(2)  # (B, S)
        heard = mask & (level > QUIET * level.amax(1, keepdim=True))
        whole = masked_mean(level.unsqueeze(2), heard).unsqueeze(2)  # (B, 1, 1)
        power, mask = join([Seq(power, heard)])
        share = mask.to(power.dtype).unsqueeze(1)
        means = [
            F.avg_pool1d(part, self.n, ceil_mode=True) for part in (power.transpose(1, 2), share)
        ]
        power, share = (part.transpose(1, 2) for part in means)
        told = power / (share * whole).clamp(min=1e-12)
        return hide(Seq(told, mask[:, :: self.n]))


class TimeConvolution(nn.Module):
    """Filters over neighbouring frames, all bands at once, that stride: (B, S, n_in) -> (B, S',
    n_out); layer-normalised and activated.

    Source: Waibel et al., Phoneme Recognition Using Time-Delay Neural Networks (1989), section II.
    """

    def __init__(
        self, n_in: int, n_out: int, *, stride: int, kernel_size: int, activation: str
    ) -> None:
        super().__init__()
        self.stride = stride
        self.borders = ((kernel_size - 1) // 2, kernel_size // 2)
        self.convolution = nn.Conv1d(n_in, n_out, kernel_size, stride=stride)
        self.norm = nn.LayerNorm(n_out)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = hide(source)
        found = self.convolution(F.pad(x.transpose(1, 2), self.borders)).transpose(1, 2)
        return hide(Seq(self.activation(self.norm(found)), mask[:, :: self.stride]))


# Planes to positions


class Grid(nn.Module):
    """The cells of planes (B, N, S, F), row by row, as positions (B, S * F, N)."""

    def forward(self, planes: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = planes
        mask = mask.unsqueeze(2).expand(-1, -1, x.shape[3]).flatten(1)
        return Seq(x.flatten(2).transpose(1, 2), mask)


class Bands(nn.Module):
    """Mean and maximum over the frequencies of planes (B, N, S, F), made (B, S, W)."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * n_in, width)

    def forward(self, planes: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = planes
        bands = torch.cat([x.mean(3), x.amax(3)], 1).transpose(1, 2)  # (B, S, 2N)
        return Seq(self.mix(bands), mask)


# The whole recording, or picture


class Level(nn.Module):
    """Layer normalisation of positions (B, S, N), each by itself."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n)

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        return Seq(self.norm(source.x), source.mask)


class Statistics(nn.Module):
    """(B, S, F) -> (B, W): linear in the mean and the deviation of each band over real positions,
    which are layer-normalised before if they are to be levelled.

    Source: Snyder et al., X-vectors (2018), section 2: statistics pooling; there of the network's
    own frames, here of the frames it is given, so that few rows suffice to learn from it.
    """

    def __init__(self, n_in: int, width: int, *, level: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * n_in) if level else nn.Identity()
        self.linear = nn.Linear(2 * n_in, width)

    def forward(self, frames: Seq[Tensor]) -> Tensor:
        x, mask = frames
        mean = masked_mean(x, mask)  # (B, F)
        variance = masked_mean((x - mean.unsqueeze(1)).square(), mask)
        # The root has no slope at 0, where a band of a single frame lies.
        told = torch.cat([mean, (variance + 1e-4).sqrt()], 1)
        statistics: Tensor = self.linear(self.norm(told))
        return statistics


class Part(nn.Module):
    """The numbers first to last of each position: (B, S, n) -> (B, S, last - first)."""

    def __init__(self, first: int, last: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.last = first, last
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        return Seq(self.dropout(source.x[:, :, self.first : self.last]), source.mask)


class Experts(nn.Module):
    """(B, S, n) -> (B, n_said): what experts say of the whole, each of which knows one kind of it,
    and is heard as far as a gate takes this one for that kind.

    All are linear. A position's n numbers are what it adds to the gates' scores, one an expert and
    one for none of them, then to what the experts say. speakers: (n_said,), whose each of these is.
    Source: Jacobs, Jordan, Nowlan and Hinton, Adaptive Mixtures of Local Experts (1991), section 1;
    the gate for none of them is ours.
    """

    scale: Tensor
    speakers: Tensor

    def __init__(self, speakers: Sequence[int]) -> None:
        super().__init__()
        self.n_gates = self.reads(speakers) - len(speakers)
        self.register_buffer("speakers", torch.tensor(speakers), persistent=False)
        self.register_buffer("scale", torch.ones(()))

    @staticmethod
    def reads(speakers: Sequence[int]) -> int:
        """n: numbers of a position."""
        return max(speakers) + 2 + len(speakers)

    def forward(self, source: Seq[Tensor]) -> Tensor:
        scores = masked_root_sum(*source) * self.scale  # (B, n)
        gates = scores[:, : self.n_gates].softmax(1)
        return scores[:, self.n_gates :] * gates[:, self.speakers]


class Both(nn.Module):
    """What two say of the same planes or positions: (B, W), their sum."""

    def __init__(self, near: nn.Module, far: nn.Module) -> None:
        super().__init__()
        self.near, self.far = near, far

    def forward(self, source: Seq[Tensor]) -> Tensor:
        told: Tensor = self.near(source) + self.far(source)
        return told


class Whole(nn.Module):
    """What is said of all positions, as the only one: (B, S, F) -> Seq (B, 1, W)."""

    def __init__(self, says: nn.Module) -> None:
        super().__init__()
        self.says = says

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        return Seq(self.says(source).unsqueeze(1), source.mask.any(1, keepdim=True))


class Beside(nn.Module):
    """What `path` finds at each position, plus what `whole` says of all: -> Seq (B, S', W).

    The whole is shared out by the root of their number: in masked_root_sum, by which a modality
    answers alone, it then counts once, however long the recording.
    """

    def __init__(self, path: nn.Module, whole: nn.Module) -> None:
        super().__init__()
        self.path, self.whole = path, whole

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = self.path(source)
        return Seq(x + _shared(self.whole(source), mask), mask)


class Aside(nn.Module):
    """What `path` hands over of each position, (B, S', D), and behind it what is said of all, aside
    of the fusion, which does not hear it: -> Seq (B, S', D + n_said), shared out as in Beside."""

    def __init__(self, path: nn.Module, says: nn.Module) -> None:
        super().__init__()
        self.path, self.says = path, says

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = self.path(source)
        said = _shared(self.says(source), mask).expand(-1, x.shape[1], -1)
        return hide(Seq(torch.cat([x, said], 2), mask))


def _shared(whole: Tensor, mask: Tensor) -> Tensor:
    """(B, W), (B, S) -> (B, 1, W), the part of each real position."""
    share = mask.sum(1, keepdim=True).clamp(min=1).to(whole.dtype).rsqrt()  # (B, 1)
    return (whole * share).unsqueeze(1)


# Out again


class Project(nn.Module):
    """Linear, each position by itself: (B, S, n_in) -> (B, S, n_out), zero where not real."""

    def __init__(self, n_in: int, n_out: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        return hide(Seq(self.linear(self.dropout(source.x)), source.mask))
