"""From what was encoded to an answer in words, one symbol after the other, some of them copied.

A recurrent decoder looks over the source before each symbol; the symbol is one of C that are
known, or what stands where it looked.

Letters: B batch, S source positions, T output positions, D width, E width of an embedding, C output
width (symbols), Z width of the state: D, or 2D of an LSTM, and D of what was last looked at.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moodal.model.layers import hide, masked_softmax
from moodal.preprocess.symbols import PADDING, START
from moodal.types import Seq

FLOOR = 1e-9
"""Added to each probability before its logarithm: small beside 1 / C, and no symbol costs infinity.
"""


class Memory(NamedTuple):
    """What a decoder looks at, computed once.

    x: (B, S, D). keys: (B, S, D), each position as it is compared with the state.
    mask: (B, S) bool. source: (B, S) int64, the symbol at each position; PADDING where it has none
    (pictures, sound).
    """

    x: Tensor
    keys: Tensor
    mask: Tensor
    source: Tensor


class Decoder(nn.Module):
    """GRU or LSTM that looks before it speaks.

    embedding: (C, E) to share with an encoder's; None = its own, E = D. The same vectors are what
    the output is compared with: Press and Wolf, Using the Output Embedding (2017), section 3.
    cell: nn.GRU or nn.LSTM.

    Source: Bahdanau et al. 2015, appendices A.1.2 and A.2.2, the last context being part of the
    state; the copying: See et al., Get To The Point (2017), equations 8 and 9, with attention made
    to sum to 1 over the positions that hold a symbol.
    """

    def __init__(
        self,
        n_symbols: int,
        width: int,
        *,
        embedding: nn.Embedding | None = None,
        cell: type[nn.GRU] | type[nn.LSTM] = nn.GRU,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = _embedding(n_symbols, width) if embedding is None else embedding
        n = self.embedding.embedding_dim
        self.width = width
        self.scale = nn.LayerNorm(n)
        self.dropout = nn.Dropout(dropout)
        self.start = nn.Linear(width, width)
        self.cell = cell(n + width, width, batch_first=True)
        self.key = nn.Linear(width, width)
        self.query = nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)
        self.mix = nn.Linear(2 * width + n, n)
        self.bias = nn.Parameter(torch.zeros(self.embedding.num_embeddings))
        self.generate = nn.Linear(2 * width + n, 1)

    def remember(
        self, x: Tensor, mask: Tensor, source: Tensor, summary: Tensor
    ) -> tuple[Memory, Tensor]:
        """x: (B, S, D), mask: (B, S), source: (B, S), summary: (B, D) -> memory, state (B, Z)."""
        x, _ = hide(Seq(x, mask))
        first = torch.tanh(self.start(summary))
        empty = [torch.zeros_like(first)]  # nothing was looked at, and an LSTM's memory
        state = torch.cat([first, *empty * (2 if isinstance(self.cell, nn.LSTM) else 1)], 1)
        return Memory(x, self.key(x), mask, source), state

    def step(
        self, previous: Tensor, state: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor, Tensor]:
        """previous: (B,) int64, the symbol said last, START at first; state: (B, Z) ->
        log-probabilities (B, C), the next state (B, Z), attention (B, S)."""
        said = self._embed(previous.unsqueeze(1))
        found, state, scores = self._look(said[:, 0], state, memory)
        features = torch.cat([found, said[:, 0]], 1).unsqueeze(1)
        answer = self._answer(features, scores.unsqueeze(1), memory)
        return answer[:, 0], state, masked_softmax(scores, memory.mask)

    def forward(
        self, x: Tensor, mask: Tensor, source: Tensor, summary: Tensor, targets: Seq[Tensor]
    ) -> Seq[Tensor]:
        """Log-probabilities (B, T, C) of each symbol after the true ones before it.

        targets: (B, T) int64, ending with END. The other arguments as `remember` takes them.
        """
        memory, state = self.remember(x, mask, source, summary)
        right, real = hide(targets)
        said = self._embed(F.pad(right[:, :-1], (1, 0), value=START))  # (B, T, E)
        found, scores = [], []
        for now in said.unbind(1):
            here, state, seen = self._look(now, state, memory)
            found.append(here)
            scores.append(seen)
        features = torch.cat([torch.stack(found, 1), said], 2)
        return Seq(self._answer(features, torch.stack(scores, 1), memory), real)

    def _embed(self, symbols: Tensor) -> Tensor:
        x: Tensor = self.dropout(self.scale(self.embedding(symbols)))
        return x

    def _look(self, said: Tensor, state: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        """said: (B, E) -> state of the cell and context (B, 2D), state (B, Z), scores (B, S)."""
        parts = torch.split(state, self.width, 1)
        entry = torch.cat([said, parts[-1]], 1).unsqueeze(1)
        held = [part.unsqueeze(0).contiguous() for part in parts[:-1]]
        if len(held) == 2:
            _, (hidden, cell) = self.cell(entry, (held[0], held[1]))
            held = [hidden, cell]
        else:
            held = [self.cell(entry, held[0])[1]]
        query = self.query(held[0][0]).unsqueeze(1)
        scores = self.score(torch.tanh(memory.keys + query)).squeeze(2)
        weights = masked_softmax(scores, memory.mask).unsqueeze(1)  # (B, 1, S)
        context = (weights @ memory.x).squeeze(1)
        found = torch.cat([held[0][0], context], 1)
        return found, torch.cat([*(part[0] for part in held), context], 1), scores

    def _answer(self, features: Tensor, scores: Tensor, memory: Memory) -> Tensor:
        """features: (B, T, 2D + E), scores: (B, T, S) -> log-probabilities (B, T, C)."""
        spoken = self.dropout(torch.tanh(self.mix(features)))
        # Small beside (B, T, C), so the two that are never said are ruled out here.
        bias = self.bias.masked_fill(~_may_be_said(self.bias), torch.finfo(self.bias.dtype).min)
        said = (spoken @ self.embedding.weight.T + bias).softmax(2)
        # A symbol is there to be copied unless it may not be said.
        there = memory.mask & (memory.source != PADDING) & (memory.source != START)  # (B, S)
        copied = masked_softmax(scores, there.unsqueeze(1))  # (B, T, S)
        # Of a sigmoid near 0 float32 keeps few digits, and 1 - own would lose them near 1.
        wanted = F.pad(self.generate(features), (0, 1)).softmax(2)  # (B, T, 2)
        none = ~there.any(1)[:, None, None]
        own, other = wanted[:, :, :1].masked_fill(none, 1), wanted[:, :, 1:].masked_fill(none, 0)
        places = memory.source.masked_fill(~there, PADDING).unsqueeze(1).expand_as(copied)
        mixed: Tensor = (own * said).scatter_add(2, places, other * copied)
        return (mixed + FLOOR).log()


def token_loss(answer: Seq[Tensor], targets: Seq[Tensor], *, smoothing: float = 0.0) -> Tensor:
    """-log P(right symbol), the mean over a record's real positions, with label smoothing -> (B,).

    answer: (B, T, C) log-probabilities; targets: (B, T) int64. smoothing: in [0, 1), shared evenly
    between all symbols but PADDING and START.
    Source of the smoothing: Szegedy et al., Rethinking the Inception Architecture (2016), section
    7.
    """
    right, real = hide(targets)
    cost = -answer.x.gather(2, right.unsqueeze(2)).squeeze(2)  # (B, T)
    if smoothing:
        among = _may_be_said(answer.x[0, 0]).to(answer.x.dtype)
        cost = (1 - smoothing) * cost - smoothing * (answer.x @ (among / among.sum()))
    return cost.masked_fill(~real, 0).sum(1) / real.sum(1).clamp(min=1)


def _may_be_said(symbols: Tensor) -> Tensor:
    """(C,) -> (C,) bool: all but PADDING and START."""
    number = torch.arange(len(symbols), device=symbols.device)
    return number.ne(PADDING) & number.ne(START)


def _embedding(n_symbols: int, width: int) -> nn.Embedding:
    """Drawn near 0, so that the first answers are all near equally likely."""
    embedding = nn.Embedding(n_symbols, width, padding_idx=PADDING)
    with torch.no_grad():
        embedding.weight.normal_(std=0.02)
        embedding.weight[PADDING] = 0
    return embedding
