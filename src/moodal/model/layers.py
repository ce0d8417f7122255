"""The parts that encoders, fusions and heads are made of.

Nothing here branches on what a tensor holds, so all of it can be traced to ONNX with B and S free.
A padded or absent position takes no part: it is not seen by a sum, a maximum, or an attention.

Letters: B batch, S source positions, T positions that ask (queries), D width, H attention heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moodal.types import Seq

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "gelu": nn.GELU,
}


def hide(seq: Seq[Tensor]) -> Seq[Tensor]:
    """Zero what lies under a False mask. x: (B, S, ...)."""
    return Seq(_filled(*seq, 0), seq.mask)


def _filled(x: Tensor, mask: Tensor, value: float) -> Tensor:
    """A value under a False mask. x: (B, S, ...), mask: (B, S)."""
    return x.masked_fill(~mask.reshape(mask.shape + (1,) * (x.dim() - 2)), value)


def present(parts: list[Seq[Tensor]]) -> Tensor:
    """(B, M): whether a sequence has any real position, of M sequences."""
    return torch.cat([_count(*part) > 0 for part in parts], 1)


def masked_softmax(scores: Tensor, mask: Tensor, *, dim: int = -1) -> Tensor:
    """Softmax over the True places of `mask`, which broadcasts; a row without any gives zeros."""
    low = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, low).softmax(dim).masked_fill(~mask, 0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """(B, S, D), (B, S) -> (B, D): the mean over real positions; 0 where there are none."""
    return hide(Seq(x, mask)).x.sum(1) / _count(x, mask).clamp(min=1)


def masked_root_sum(x: Tensor, mask: Tensor) -> Tensor:
    """(B, S, D), (B, S) -> (B, D): the sum over real positions / the root of their number.

    Between the sum, which grows with length, and the mean, in which one strong word of a long text
    drowns; independent positions give it the same spread at every length.
    """
    return hide(Seq(x, mask)).x.sum(1) / _count(x, mask).clamp(min=1).sqrt()


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """(B, S, D), (B, S) -> (B, D): the maximum over real positions; 0 where there are none."""
    highest = _filled(x, mask, torch.finfo(x.dtype).min).amax(1)
    return highest * _count(x, mask).clamp(max=1)


def _count(x: Tensor, mask: Tensor) -> Tensor:
    """(B, 1): how many positions are real, in the type of x."""
    return mask.to(x.dtype).sum(1, keepdim=True)


class Positions(nn.Module):
    """Add sines and cosines of its position to each: (B, S, D) -> (B, S, D). S has no limit.

    Source: Vaswani et al. 2017, section 3.5 (all sines, then all cosines, instead of in turn).
    """

    rates: Tensor
    phases: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        pair = torch.arange(width) % ((width + 1) // 2)
        self.register_buffer("rates", 10_000.0 ** (-2.0 * pair / width), persistent=False)
        phases = (torch.arange(width) >= (width + 1) // 2) * (math.pi / 2)
        self.register_buffer("phases", phases, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        here = torch.arange(x.shape[1], device=x.device).to(x.dtype).unsqueeze(1)
        return x + torch.sin(here * self.rates + self.phases)


class AttentionPool(nn.Module):
    """One learned query looks over the positions: (B, S, D), (B, S) -> (B, D); 0 if none is real.

    Source: Yang et al. 2016, equations 6 and 7, without the hidden layer of equation 5.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, _ = hide(Seq(x, mask))  # so what is weighed where no position is real is 0 anyway
        scores = self.query(x).squeeze(2)
        weights = _filled(scores, mask, torch.finfo(scores.dtype).min).softmax(1)  # (B, S)
        return (weights.unsqueeze(1) @ x).squeeze(1)


class Pool(nn.Module):
    """A sequence as one vector: what a query finds, the mean, and the maximum: (B, S, D) -> (B, D).

    The result is layer-normalised, so a long text weighs no more than a short one.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = AttentionPool(width)
        self.mix = nn.Linear(3 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, seq: Seq[Tensor]) -> Tensor:
        parts = [self.attention(*seq), masked_mean(*seq), masked_max(*seq)]
        pooled: Tensor = self.norm(self.mix(torch.cat(parts, 1)))
        return pooled


class Pools(nn.Module):
    """M sequences as M positions of one: list of Seq (B, S, D) -> Seq (B, M, D).

    A sequence without any real position is a position that is not real: zeros, False.
    """

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.pools = nn.ModuleList(Pool(width) for _ in range(n))

    def forward(self, parts: list[Seq[Tensor]]) -> Seq[Tensor]:
        pooled = [pool(part) for pool, part in zip(self.pools, parts, strict=True)]
        return hide(Seq(torch.stack(pooled, 1), present(parts)))


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention with H heads. A query that may look at nothing gets the bias.

    Source: Vaswani et al. 2017, equation 1 and section 3.2.2.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """x: (B, T, D) asks; source: (B, S, D) answers where mask (B, S) is True -> (B, T, D)."""
        query, key, value = self.query(x), self.key(source), self.value(source)
        query, key, value = (self._split(part) for part in (query, key, value))  # (B, H, ., D/H)
        scores = query @ key.transpose(2, 3) / math.sqrt(key.shape[3])  # (B, H, T, S)
        weights = self.dropout(masked_softmax(scores, mask[:, None, None, :]))
        found: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return found

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """A transformer layer, normalised before each half. Self-attention when `source` is `x`.

    Source: Xiong et al. 2020, figure 1 (b); as cross-modal attention Tsai et al. 2019, equation 4.
    """

    def __init__(
        self, width: int, heads: int, *, activation: str = "gelu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout=dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """x: (B, T, D), source: (B, S, D), mask: (B, S) of the source -> (B, T, D)."""
        x = x + self.dropout(self.attention(self.norm(x), self.norm(source), mask))
        y: Tensor = x + self.dropout(self.feed_forward(x))
        return y


class Blocks(nn.Module):
    """Transformer layers, one after the other; all ask `source`, or each other if it is None."""

    def __init__(
        self, width: int, heads: int, *, layers: int, activation: str = "gelu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Block(width, heads, activation=activation, dropout=dropout) for _ in range(layers)
        )

    def forward(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
        """x: (B, T, D), mask: (B, S) of the source (B, S, D) -> (B, T, D)."""
        for layer in self.layers:
            x = layer(x, x if source is None else source, mask)
        return x


class Bidirectional(nn.Module):
    """A recurrent layer read from both ends: (B, S, D) -> (B, S, 2 * n_hidden).

    The way back runs over the real part alone, turned round by a gather: packed sequences, which
    torch's own bidirectional layer needs for that, cannot be exported.

    cell: nn.GRU or nn.LSTM. Source: Schuster and Paliwal 1997, section II-B.
    """

    def __init__(self, cell: type[nn.GRU] | type[nn.LSTM], n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.forth = cell(n_in, n_hidden, batch_first=True)
        self.back = cell(n_in, n_hidden, batch_first=True)

    def forward(self, seq: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = hide(seq)
        turn = reversal(mask)
        forth, _ = self.forth(x)
        back, _ = self.back(reorder(x, turn))
        return hide(Seq(torch.cat([forth, reorder(back, turn)], 2), mask))


class Windows(nn.Module):
    """LSTM layers over stretches of `length` positions, each from its own beginning and all side by
    side: (B, S, n_in) -> (B, S', 2 * n_hidden), what the last two layers tell; S' = S rounded up to
    whole stretches."""

    def __init__(self, n_in: int, n_hidden: int, *, layers: int, length: int) -> None:
        super().__init__()
        self.length = length
        sizes = [n_in] + [n_hidden] * (layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(n, n_hidden, batch_first=True) for n in sizes)

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        x, mask = hide(source)
        whole = (x.shape[1] + self.length - 1) // self.length * self.length
        mask = F.pad(mask, (0, self.length - 1))[:, :whole]
        x = F.pad(x, (0, 0, 0, self.length - 1))[:, :whole]
        told = [x.reshape(-1, self.length, x.shape[2])]
        for layer in self.layers:
            told.append(layer(told[-1])[0])
        found = torch.cat(told[-2:], 2)
        return hide(Seq(found.reshape(x.shape[0], -1, found.shape[2]), mask))


def reversal(mask: Tensor) -> Tensor:
    """(B, S) -> indices (B, S) that turn the real part round and leave the padding in place."""
    here = torch.arange(mask.shape[1], device=mask.device).unsqueeze(0)
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - here, here)


def reorder(x: Tensor, order: Tensor) -> Tensor:
    """x (B, S, D) with position s taken from order[b, s]."""
    return x.gather(1, order.unsqueeze(2).expand(-1, -1, x.shape[2]))


def join(parts: list[Seq[Tensor]]) -> Seq[Tensor]:
    """Sequences (B, S_i, D) one after the other; what is padded moves to the end."""
    x, mask = hide(Seq(torch.cat([p.x for p in parts], 1), torch.cat([p.mask for p in parts], 1)))
    here = torch.arange(mask.shape[1], device=mask.device)
    order = (here + (~mask) * mask.shape[1]).argsort(1)  # no two alike, so the order is one
    return Seq(reorder(x, order), mask.gather(1, order))


def lead(tokens: Tensor, part: Seq[Tensor]) -> Seq[Tensor]:
    """Tokens (B or 1, n, D), always real, before a sequence: (B, n + S, D)."""
    x, mask = part
    tokens = tokens.expand(x.shape[0], -1, -1)
    real = torch.ones_like(tokens[:, :, 0], dtype=torch.bool)
    return Seq(torch.cat([tokens, x], 1), torch.cat([real, mask], 1))


class SameConvolution(nn.Module):
    """1-D convolution, borders filled with zeros: (B, S, n_in) -> (B, S, n_out); even sizes lean
    to what comes after."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(n_in, n_out, kernel_size, padding=(kernel_size - 1) // 2)
        self.is_even = kernel_size % 2 == 0

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        y: Tensor = self.convolution(F.pad(x, (0, 1)) if self.is_even else x)
        return y.transpose(1, 2)
