"""The Task table, its torch half: what a wrong answer costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from moodal.errors import ConfigError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(raw scores (B, C), targets (B, C), weights (B, C) of the outputs, 0 = does not compete) ->
cost (B,)"""


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

    def loss(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
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
    return lambda scores, targets, _: ((scores - targets) / cost.unit).square().sum(1)


def smooth_l1(cost: Cost) -> Loss:
    """Quadratic within one unit, linear beyond. Source: Girshick, Fast R-CNN (2015), equation 3."""

    def loss(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        error = (scores - targets) / cost.unit
        return F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none").sum(1)

    return loss


LOSSES: dict[str, dict[str, Callable[[Cost], Loss]]] = {
    "classify": {"auto": cross_entropy, "cross_entropy": cross_entropy},
    "regress": {"auto": smooth_l1, "mse": mse, "smooth_l1": smooth_l1},
}


def build(task: str, name: str, cost: Cost) -> Loss:
    """Raises: ConfigError when the loss does not fit the task."""
    known = LOSSES[task]
    if name not in known:
        raise ConfigError(f"train.loss={name!r}: with task={task} use one of {', '.join(known)}")
    return known[name](cost)
