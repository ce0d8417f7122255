"""The Task table, its torch half: what a wrong answer costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from moodal.errors import ConfigError

Loss = Callable[[Tensor, Tensor], Tensor]
"""(raw scores (B, C), codes (B,)) -> cost (B,)"""


@dataclass(frozen=True, slots=True)
class Cost:
    """class_weights: (C,) or None. smoothing: in [0, 1). unit: the spread of the target."""

    class_weights: Tensor | None
    smoothing: float
    unit: float


def class_weights(codes: NDArray[np.float64], n_labels: int) -> Tensor:
    """(C,): 1 / frequency, in proportion such that the rows' mean weight is 1.

    codes: (N,). A label whose rows were all rejected has a place, and no row.
    Source: King and Zeng, Logistic Regression in Rare Events Data (2001), section 4.2.
    """
    counts = np.bincount(codes.astype(np.int64), minlength=n_labels)
    n_seen = np.count_nonzero(counts)
    return torch.tensor(counts.sum() / (n_seen * np.maximum(counts, 1)))


def cross_entropy(cost: Cost) -> Loss:
    """-log softmax(scores)[code], with label smoothing.

    Source: Szegedy et al., Rethinking the Inception Architecture (2016), section 7.
    """

    def loss(scores: Tensor, codes: Tensor) -> Tensor:
        weights = None if cost.class_weights is None else cost.class_weights.to(scores)
        return F.cross_entropy(
            scores, codes.long(), weight=weights, label_smoothing=cost.smoothing, reduction="none"
        )

    return loss


def mse(cost: Cost) -> Loss:
    """((value - target) / unit)^2: the unit makes the size of the loss that of any other."""
    return lambda scores, codes: ((scores[:, 0] - codes) / cost.unit).square()


def smooth_l1(cost: Cost) -> Loss:
    """Quadratic within one unit, linear beyond. Source: Girshick, Fast R-CNN (2015), equation 3."""

    def loss(scores: Tensor, codes: Tensor) -> Tensor:
        error = (scores[:, 0] - codes) / cost.unit
        return F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")

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
