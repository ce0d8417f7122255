"""The Task table, its torch half: what a wrong answer costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from moodal.config import Decode
from moodal.errors import ConfigError
from moodal.model.answers import Text, flat, sources
from moodal.model.decoder import Memory, token_loss
from moodal.model.model import Network
from moodal.runtime import sequences
from moodal.tasks import Head
from moodal.training.examples import Codec
from moodal.training.loader import Batch
from moodal.types import Said, Seq

Array = NDArray[Any]
GREEDY = Decode(beam=1)

Loss = Callable[[Seq[Tensor], Seq[Tensor], Tensor], Tensor]
"""(raw scores (B, T, C), targets (B, 1, C) or (B, T') codes, weights (B, C) of the outputs, 0 =
does not compete) -> cost (B,)"""


Lesson = Callable[[Seq[Tensor], Batch], Tensor]
"""(raw scores (B, T, C), the batch they answer) -> what is learned from it, cost (B,)"""


def by_targets(loss: Loss) -> Lesson:
    """The lesson of rows that all have a target."""
    return lambda answer, batch: loss(answer, batch.targets, batch.weights)


@dataclass(frozen=True, slots=True)
class Cost:
    """smoothing: in [0, 1). unit: the spread of the target."""

    smoothing: float
    unit: float


def cross_entropy(cost: Cost) -> Loss:
    """-sum over the competing labels of target * log softmax(scores), with label smoothing.

    Of a target that is a teacher's answer it is, but for a constant, the Kullback-Leibler
    divergence from it: Hinton et al., Distilling the Knowledge in a Neural Network (2015).
    Source of the smoothing: Szegedy et al., Rethinking the Inception Architecture (2016), section
    7.
    """

    def loss(answer: Seq[Tensor], target: Seq[Tensor], weights: Tensor) -> Tensor:
        scores, targets = answer.x[:, 0], target.x[:, 0]
        among = weights > 0
        low = torch.finfo(scores.dtype).min
        logs = scores.masked_fill(~among, low).log_softmax(1).masked_fill(~among, 0)
        shown = targets * among
        shares = shown / shown.sum(1, keepdim=True).clamp(min=1e-6)
        even = among / among.sum(1, keepdim=True)
        shares = (1 - cost.smoothing) * shares + cost.smoothing * even
        return -(shares * weights * logs).sum(1)

    return loss


def mse(cost: Cost) -> Loss:
    """((value - target) / unit)^2: the unit makes the size of the loss that of any other."""
    return lambda answer, target, _: _error(answer, target, cost).square().sum(1)


def smooth_l1(cost: Cost) -> Loss:
    """Quadratic within one unit, linear beyond. Source: Girshick, Fast R-CNN (2015), equation 3."""

    def loss(answer: Seq[Tensor], target: Seq[Tensor], weights: Tensor) -> Tensor:
        error = _error(answer, target, cost)
        return F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none").sum(1)

    return loss


def _error(answer: Seq[Tensor], target: Seq[Tensor], cost: Cost) -> Tensor:
    """(B, C), in units of the target's spread."""
    return (answer.x[:, 0] - target.x[:, 0]) / cost.unit


def ctc(cost: Cost) -> Loss:
    """-log of the probability of all paths that say the target, by symbol.

    Source: Graves et al., Connectionist Temporal Classification (2006), equation 8. Code 0 is the
    blank. A target that has no path costs nothing; those of training are rejected beforehand.
    """

    def loss(answer: Seq[Tensor], target: Seq[Tensor], weights: Tensor) -> Tensor:
        n_frames, n_symbols = answer.mask.sum(1), target.mask.sum(1)
        logs = answer.x.float().log_softmax(2).transpose(0, 1)
        costs = F.ctc_loss(
            logs, target.x, n_frames, n_symbols, reduction="none", zero_infinity=True
        )
        return costs / n_symbols.clamp(min=1)

    return loss


def token_cross_entropy(cost: Cost) -> Loss:
    """-log of the probability of each symbol after those before it, the mean over a text's symbols.

    Source: Bahdanau et al. 2015, section 2.1; smoothing as in cross_entropy.
    """

    def loss(answer: Seq[Tensor], target: Seq[Tensor], weights: Tensor) -> Tensor:
        return token_loss(answer, target, smoothing=cost.smoothing)

    return loss


LOSSES: dict[str, dict[str, Callable[[Cost], Loss]]] = {
    "classify": {"auto": cross_entropy, "cross_entropy": cross_entropy},
    "regress": {"auto": smooth_l1, "mse": mse, "smooth_l1": smooth_l1},
    "summarise": {"auto": token_cross_entropy},
    "transcribe": {"auto": ctc},
}

Soft = Callable[[Seq[Tensor], Sequence[Seq[Tensor]], Tensor], Tensor]
"""(a student's raw scores (B, T, C), those of each teacher, weights as in Loss) -> cost (B,)"""


def divergence(temperature: float, cost: Cost) -> Soft:
    """T^2 KL(mean of the teachers' probabilities || the student's), the mean over real positions,
    with all scores divided by T.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network (2015), section 2, for one
    answer, and section 1 for the mean of several teachers; by frame and by symbol: Kim and Rush,
    Sequence-Level Knowledge Distillation (2016), section 3.1.
    """

    def chances(scores: Tensor, weights: Tensor) -> Tensor:
        low = torch.finfo(scores.dtype).min
        return (scores.masked_fill(weights[:, None] <= 0, low) / temperature).log_softmax(2)

    def soft(answer: Seq[Tensor], told: Sequence[Seq[Tensor]], weights: Tensor) -> Tensor:
        wanted = torch.stack([chances(one.x, weights).exp() for one in told]).mean(0)
        costs = F.kl_div(chances(answer.x, weights), wanted, reduction="none").sum(2)
        real = answer.mask
        mean = costs.masked_fill(~real, 0).sum(1) / real.sum(1).clamp(min=1)
        return temperature**2 * mean

    return soft


def distance(temperature: float, cost: Cost) -> Soft:
    """((value - mean of the teachers') / unit)^2.

    Source: Ba and Caruana, Do Deep Nets Really Need to be Deep? (2014), equation 1.
    """

    def soft(answer: Seq[Tensor], told: Sequence[Seq[Tensor]], weights: Tensor) -> Tensor:
        wanted = torch.stack([one.x for one in told]).mean(0)
        return _error(answer, Seq(wanted, answer.mask), cost).square().sum(1)

    return soft


DISTILLED: dict[str, Callable[[float, Cost], Soft]] = {
    "classify": divergence,
    "regress": distance,
    "summarise": divergence,
    "transcribe": divergence,
}
"""task -> (temperature, cost) -> how far a student's answers are from its teachers'."""

SMOOTHED = (cross_entropy, token_cross_entropy)
"""Losses that train.label_smoothing reaches."""

Texts = Callable[[Network, Batch, Codec, Decode], list[Said]]
"""What a network says of a batch, each symbol the likeliest: greedy, since training only compares
one epoch with another."""


def _heard(network: Network, batch: Batch, codec: Codec, settings: Decode) -> list[Said]:
    logs = network(batch.inputs).answer
    scores, lengths = logs.x.float().log_softmax(2).cpu().numpy(), logs.mask.sum(1).tolist()
    return [
        sequences.heard(row[:n], codec.labels, sequences.Hearing(GREEDY))
        for row, n in zip(scores, lengths, strict=True)
    ]


def _said(network: Network, batch: Batch, codec: Codec, settings: Decode) -> list[Said]:
    encoded = network.encode(batch.inputs)
    answer = network.answer
    assert isinstance(answer, Text), "as the task's head has it"
    seen = sources(encoded, batch.inputs)
    *parts, state = answer(seen, *flat(encoded, answer.modalities))

    def step(previous: Array, state: Array, rows: Array) -> tuple[Array, Array, Array]:
        device = seen.device
        symbols, states, places = (torch.from_numpy(a).to(device) for a in (previous, state, rows))
        memory = Memory(*(part[places] for part in parts))
        logs, states, seen_at = answer.decoder.step(symbols, states, memory)
        return logs.float().cpu().numpy(), states.float().cpu().numpy(), seen_at.cpu().numpy()

    surfaces = [[codec.labels[code] for code in row] for row in seen.tolist()]
    how = sequences.Writing(settings.model_copy(update={"beam": 1}), codec.labels)
    first, source = state.float().cpu().numpy(), parts[-1].cpu().numpy()
    return sequences.said(step, first, source, surfaces, how)


SAYS: dict[Head, Texts] = {"frames": _heard, "decoder": _said}
"""head -> how what it says is read while training."""


def build(task: str, name: str, cost: Cost) -> Loss:
    """Raises: ConfigError when the loss does not fit the task."""
    known = LOSSES[task]
    if name not in known:
        raise ConfigError(f"train.loss={name!r}: with task={task} use one of {', '.join(known)}")
    return known[name](cost)
