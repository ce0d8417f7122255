"""The optimisers and the path of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

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


def build(network: nn.Module, settings: Train) -> torch.optim.Optimizer:
    """L2 reaches the weights, never biases and gains: those have one axis."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": settings.l2},
        {"params": rest, "weight_decay": 0.0},
    ]
    return OPTIMISERS[settings.optimiser](groups, settings)


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
