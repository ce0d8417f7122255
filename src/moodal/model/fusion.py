"""How the modalities meet: `{modality: Seq (B, S, D)} -> Fused(summary (B, 1, D), all (B, S, D))`.

Every fusion answers any non-empty subset: an absent modality is a row of `mask` that is all False,
and no sum, product or attention sees it. Modalities are taken in the order of MODALITIES, so the
order of the dictionary cannot matter. Every fusion ends in a layer norm, so one modality alone
answers on the same scale as three.

Letters: B batch, S source positions, D width, M modalities, H attention heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moodal.model.layers import (
    Block,
    Blocks,
    Pools,
    Positions,
    hide,
    join,
    lead,
    masked_mean,
    masked_softmax,
    present,
)
from moodal.types import MODALITIES, Modality, Seq, Subset


@dataclass(frozen=True, slots=True)
class Spec:
    """The plain arguments all builders share, as in config."""

    width: int = 96
    rank: int = 4
    layers: int = 1
    heads: int = 4
    bottlenecks: int = 4
    dropout: float = 0.1


Encoded = Mapping[Modality, Seq[Tensor]]


class Fused(NamedTuple):
    """summary: (B, 1, D), one vector a record. all: (B, S, D), every real position of every
    modality, in the order of MODALITIES, padding to the right."""

    summary: Seq[Tensor]
    all: Seq[Tensor]


def ordered(modalities: Subset) -> Subset:
    return tuple(m for m in MODALITIES if m in modalities)


def fused(summary: Tensor, parts: list[Seq[Tensor]]) -> Fused:
    """summary: (B, D). A record without any modality gets zeros and a False mask."""
    # Asked of the parts: a head that reads the summary alone then leaves the joining out.
    seen = present(parts).any(1, keepdim=True)
    return Fused(hide(Seq(summary.unsqueeze(1), seen)), join(parts))


class Summary(nn.Module):
    """The last step of most fusions: linear to (B, D), told which modalities spoke; layer norm."""

    def __init__(self, n_in: int, n_modalities: int, width: int, *, dropout: float) -> None:
        super().__init__()
        self.mix = nn.Linear(n_in, width)
        self.presence = nn.Linear(n_modalities, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: (B, n_in), seen: (B, M) bool, the modalities present -> (B, D)."""
        mixed = self.mix(self.dropout(x)) + self.presence(seen.to(x.dtype))
        y: Tensor = self.norm(mixed)
        return y


# Fusions of vectors: pool each modality, unite the vectors, sum up. They differ in the middle.


class Pooled(nn.Module):
    """`unite` takes Seq (B, M, D), 0 and False where a modality is absent, and gives (B, n_out)."""

    def __init__(
        self, modalities: Subset, width: int, *, unite: nn.Module, n_out: int, dropout: float
    ) -> None:
        super().__init__()
        self.modalities = ordered(modalities)
        self.pools = Pools(len(self.modalities), width)
        self.unite = unite
        self.summary = Summary(n_out, len(self.modalities), width, dropout=dropout)

    def forward(self, encoded: Encoded) -> Fused:
        parts = [encoded[m] for m in self.modalities]
        vectors = self.pools(parts)
        return fused(self.summary(self.unite(vectors), vectors.mask), parts)


class Concat(nn.Module):
    """GELU(W [x_1; ...; x_M] + b); an absent modality adds nothing to the sum.

    Source: Baltrusaitis et al. 2019, section 3.1 (joint representation, a neural network).
    """

    def __init__(self, n_modalities: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_modalities * width, width)

    def forward(self, vectors: Seq[Tensor]) -> Tensor:
        return F.gelu(self.hidden(vectors.x.flatten(1)))


class Gated(nn.Module):
    """A gated multimodal unit: h = sum over m of z_m * tanh(W_m x_m).

    z is a softmax over the modalities present, dimension by dimension, of a linear map of all of
    them; of two modalities that is the paper's z and 1 - z, of one it is 1.
    Source: Arevalo et al. 2017 (GMU), section 3.1, the bimodal equations.
    """

    def __init__(self, n_modalities: int, width: int) -> None:
        super().__init__()
        self.values = nn.ModuleList(nn.Linear(width, width) for _ in range(n_modalities))
        self.gates = nn.Linear(n_modalities * width, n_modalities * width)

    def forward(self, vectors: Seq[Tensor]) -> Tensor:
        x, seen = vectors
        values = [value(part) for value, part in zip(self.values, x.unbind(1), strict=True)]
        told = torch.stack(values, 1).tanh()
        if len(values) == 1:  # its gate is 1, so `gates` is not asked
            return hide(Seq(told, seen)).x[:, 0]
        scores = self.gates(x.flatten(1)).reshape(x.shape)
        gates = masked_softmax(scores, seen.unsqueeze(2), dim=1)  # (B, M, D)
        return (gates * told).sum(1)


class TensorProduct(nn.Module):
    """The outer product over m of [h_m; 1], with h_m = tanh(W_m x_m): (B, (n_inner + 1)^M).

    An absent modality is [0; 1], which leaves the outer product of the others: the tensor fusion
    network of one order less. n_inner is small because the product is not.
    Source: Zadeh et al. 2017 (TFN), section 4.2.
    """

    def __init__(self, n_modalities: int, width: int, n_inner: int) -> None:
        super().__init__()
        self.shrink = nn.ModuleList(nn.Linear(width, n_inner) for _ in range(n_modalities))

    def forward(self, vectors: Seq[Tensor]) -> Tensor:
        x, seen = vectors
        small = [shrink(part) for shrink, part in zip(self.shrink, x.unbind(1), strict=True)]
        h, _ = hide(Seq(torch.stack(small, 1).tanh(), seen))  # (B, M, n_inner)
        product, *factors = torch.cat([h, torch.ones_like(h[:, :, :1])], 2).unbind(1)
        for factor in factors:
            product = (product.unsqueeze(2) * factor.unsqueeze(1)).flatten(1)
        return product


class LowRank(nn.Module):
    """The sum over ranks r of the product over m of W_m^r [x_m; 1], the product taken by dimension.

    It is the tensor product times a weight tensor of low rank, never formed. An absent modality is
    [0; 1]. The row of W that meets the 1 is a bias here; it starts at 1, so that a product of
    several begins near each of them.
    Source: Liu et al. 2018 (LMF), section 3.3.
    """

    def __init__(self, n_modalities: int, width: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.factors = nn.ModuleList(nn.Linear(width, rank * width) for _ in range(n_modalities))
        for name, values in self.factors.named_parameters():
            if name.endswith("bias"):
                nn.init.ones_(values)

    def forward(self, vectors: Seq[Tensor]) -> Tensor:
        x, _ = vectors
        factors = [w(part) for w, part in zip(self.factors, x.unbind(1), strict=True)]
        product = torch.stack(factors, 1).prod(1)  # (B, rank * D)
        return product.reshape(-1, self.rank, x.shape[2]).sum(1)


# Fusions of sequences: the modalities look at each other's positions


class Entry(nn.Module):
    """Before attention: each modality layer-normalised, marked by position and by modality."""

    def __init__(self, modalities: Subset, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in modalities)
        self.names = nn.Parameter(0.1 * torch.randn(len(modalities), width))
        self.positions = Positions(width)

    def forward(self, parts: list[Seq[Tensor]]) -> list[Seq[Tensor]]:
        return [
            Seq(self.positions(norm(x)) + name, mask)
            for norm, name, (x, mask) in zip(self.norms, self.names, map(hide, parts), strict=True)
        ]


class Stream(nn.Module):
    """What a target finds in one source: (B, T, D), 0 where the source is absent.

    Source: Tsai et al. 2019 (MulT), equation 4, the stream Z of source -> target; the linear map
    is that source's part of the one that joins the streams.
    """

    def __init__(self, width: int, heads: int, *, layers: int, dropout: float) -> None:
        super().__init__()
        self.blocks = Blocks(width, heads, layers=layers, dropout=dropout)
        self.mix = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, source: Seq[Tensor]) -> Tensor:
        found: Tensor = self.mix(self.blocks(x, source.mask, source.x))
        return found.masked_fill(~source.mask.any(1)[:, None, None], 0)


class CrossModal(nn.Module):
    """Each modality asks each other one, then itself; what came of it is pooled.

    The streams are added to the target, so an absent source adds nothing.
    Source: Tsai et al. 2019 (MulT), section 3.1 (equation 1) and section 3.2 (equation 4).
    """

    def __init__(
        self, modalities: Subset, width: int, *, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.modalities = ordered(modalities)
        n = len(self.modalities)
        self.entry = Entry(self.modalities, width)
        self.streams = nn.ModuleDict(
            {
                f"{target}_asks_{source}": Stream(width, heads, layers=layers, dropout=dropout)
                for target, source in permutations(self.modalities, 2)
            }
        )
        self.own = nn.ModuleDict(
            {m: Blocks(width, heads, layers=layers, dropout=dropout) for m in self.modalities}
        )
        self.pools = Pools(len(self.modalities), width)
        self.summary = Summary(n * width, n, width, dropout=dropout)

    def forward(self, encoded: Encoded) -> Fused:
        entered = self.entry([encoded[m] for m in self.modalities])
        named = dict(zip(self.modalities, entered, strict=True))
        after = [self._hear(m, named) for m in self.modalities]
        vectors = self.pools(after)
        return fused(self.summary(vectors.x.flatten(1), vectors.mask), after)

    def _hear(self, target: Modality, named: Encoded) -> Seq[Tensor]:
        x, mask = named[target]
        others = [m for m in self.modalities if m != target]
        found = [self.streams[f"{target}_asks_{m}"](x, named[m]) for m in others]
        return Seq(self.own[target](sum(found, x), mask), mask)


class JointAttention(nn.Module):
    """One transformer over all positions of all modalities, and a summary token that reads them.

    Source: Kim et al. 2021 (ViLT), section 3.1 (one stream, modality embeddings, a class token).
    """

    def __init__(
        self, modalities: Subset, width: int, *, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.modalities = ordered(modalities)
        self.entry = Entry(self.modalities, width)
        self.token = nn.Parameter(0.1 * torch.randn(1, 1, width))
        self.blocks = Blocks(width, heads, layers=layers, dropout=dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, encoded: Encoded) -> Fused:
        positions = join(self.entry([encoded[m] for m in self.modalities]))
        x, mask = lead(self.token, positions)
        x = self.norm(self.blocks(x, mask))
        return fused(x[:, 0], [Seq(x[:, 1:], positions.mask)])


class Exchange(nn.Module):
    """One layer of `Bottleneck`: each modality reads itself and the shared tokens, which become
    the mean over the modalities present of what each made of them.

    Source: Nagrani et al. 2021 (MBT), section 3.2.3 (fusion via attention bottlenecks).
    """

    def __init__(self, n: int, width: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(n))

    def forward(self, shared: Tensor, parts: list[Seq[Tensor]]) -> tuple[Tensor, list[Seq[Tensor]]]:
        """shared: (B, n, D), parts: (B, S, D) each -> the same, one layer on."""
        n = shared.shape[1]
        led = [lead(shared, part) for part in parts]
        after = [block(x, x, mask) for block, (x, mask) in zip(self.blocks, led, strict=True)]
        tokens = torch.stack([x[:, :n].flatten(1) for x in after], 1)  # (B, M, n * D)
        parts = [Seq(x[:, n:], part.mask) for x, part in zip(after, parts, strict=True)]
        return masked_mean(tokens, present(parts)).reshape(shared.shape), parts


class Bottleneck(nn.Module):
    """The modalities talk only through a few shared tokens, which are then the summary.

    Source: Nagrani et al. 2021 (MBT), section 3.2.3 (fusion via attention bottlenecks).
    """

    def __init__(
        self,
        modalities: Subset,
        width: int,
        *,
        layers: int,
        heads: int,
        bottlenecks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities = ordered(modalities)
        n = len(self.modalities)
        self.entry = Entry(self.modalities, width)
        self.tokens = nn.Parameter(0.1 * torch.randn(1, bottlenecks, width))
        self.layers = nn.ModuleList(
            Exchange(n, width, heads, dropout=dropout) for _ in range(layers)
        )
        self.summary = Summary(bottlenecks * width, n, width, dropout=dropout)

    def forward(self, encoded: Encoded) -> Fused:
        parts = self.entry([encoded[m] for m in self.modalities])
        seen = present(parts)
        shared = self.tokens.expand(seen.shape[0], -1, -1)
        for layer in self.layers:
            shared, parts = layer(shared, parts)
        return fused(self.summary(shared.flatten(1), seen), parts)


# Builders


def _pooled(
    middle: Callable[[int, Spec], tuple[nn.Module, int]], modalities: Subset, spec: Spec
) -> nn.Module:
    unite, n_out = middle(len(modalities), spec)  # and how many values it gives
    return Pooled(modalities, spec.width, unite=unite, n_out=n_out, dropout=spec.dropout)


def _concat(n: int, spec: Spec) -> tuple[nn.Module, int]:
    return Concat(n, spec.width), spec.width


def _gated(n: int, spec: Spec) -> tuple[nn.Module, int]:
    return Gated(n, spec.width), spec.width


def _tensor(n: int, spec: Spec) -> tuple[nn.Module, int]:
    n_inner = 16  # 17^3 = 4,913 products of three modalities
    return TensorProduct(n, spec.width, n_inner), (n_inner + 1) ** n


def _lowrank(n: int, spec: Spec) -> tuple[nn.Module, int]:
    return LowRank(n, spec.width, spec.rank), spec.width


def _transformer(
    kind: type[CrossModal] | type[JointAttention], modalities: Subset, spec: Spec
) -> nn.Module:
    return kind(modalities, spec.width, layers=spec.layers, heads=spec.heads, dropout=spec.dropout)


def _bottleneck(modalities: Subset, spec: Spec) -> nn.Module:
    return Bottleneck(
        modalities,
        spec.width,
        layers=spec.layers,
        heads=spec.heads,
        bottlenecks=spec.bottlenecks,
        dropout=spec.dropout,
    )


FUSIONS: dict[str, Callable[[Subset, Spec], nn.Module]] = {
    "concat": partial(_pooled, _concat),
    "gated": partial(_pooled, _gated),
    "tensor": partial(_pooled, _tensor),
    "lowrank": partial(_pooled, _lowrank),
    "crossmodal": partial(_transformer, CrossModal),
    "attention": partial(_transformer, JointAttention),
    "bottleneck": _bottleneck,
}
"""kind -> (modalities, spec) -> fusion."""
