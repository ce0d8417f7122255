"""The optimisers and the path of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from moodal.config import Train

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    # Sources: Sutskever et al. (2013); Kingma and Ba (2015); Loshchilov and Hutter (2019).
    "sgd": lambda groups, settings: torch.optim.SGD(
        groups, lr=settings.learning_rate, momentum=settings.momentum
    ),
    "adam": lambda groups, settings: torch.optim.Adam(
        groups, lr=settings.learning_rate, fused=True
    ),
    "adamw": lambda groups, settings: torch.optim.AdamW(
        groups, lr=settings.learning_rate, fused=True
    ),
}


def build(
    network: nn.Module, settings: Train, depth: Callable[[str], int] = lambda name: 0
) -> torch.optim.Optimizer:
    """Groups of weights of one depth. L2 reaches the weights, never biases and gains: those have
    one axis.

    depth: name of a weight -> layers between it and the answer.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, weights in network.named_parameters():
        if weights.requires_grad:
            groups.setdefault((depth(name), weights.ndim > 1), []).append(weights)
    listed = [
        {"params": weights, "weight_decay": settings.l2 if decays else 0.0, "depth": place}
        for (place, decays), weights in groups.items()
    ]
    return OPTIMISERS[settings.optimiser](listed, settings)


def rate(group: Mapping[str, Any], epoch: float, settings: Train) -> float:
    """The learning rate of a group, as a share of the head's. epoch: those done, in parts too.

    Source: Howard and Ruder, Universal Language Model Fine-tuning (2018), sections 3.2
    (discriminative fine-tuning, there 1 / 2.6 a layer) and 3.3 (gradual unfreezing).
    """
    if epoch < settings.unfreeze_epochs * group["depth"]:
        return 0.0
    return float(settings.layer_decay ** group["depth"])


DECAYS: dict[str, Callable[[float], float]] = {
    # Source of cosine: Loshchilov and Hutter, SGDR (2017), equation 5.
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "linear": lambda done: 1.0 - done,
    "none": lambda done: 1.0,
}


def factor(step: int, n_steps: int, settings: Train) -> float:
    """The learning rate of a step (from 0), as a share of the highest: warm-up, then decay."""
    n_warmup = round(settings.warmup * n_steps)
    if step < n_warmup:
        return (step + 1) / n_warmup
    return DECAYS[settings.decay]((step - n_warmup) / max(1, n_steps - n_warmup))


def l1(network: nn.Module) -> Tensor:
    """The sum of absolute weights. Source: Tibshirani, Regression Shrinkage by the Lasso (1996)."""
    return torch.stack([p.abs().sum() for p in network.parameters() if p.ndim > 1]).sum()
