"""A moving average of the weights: steadier than the weights of any one step.

Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992); the
exponential form and its use for the answer: Tarvainen and Valpola, Mean teachers are better role
models (NeurIPS 2017), equation 1.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from moodal.model.model import Network


def begin(network: Network) -> Network:
    """A network beside the one that learns, to hold the average; it learns nothing itself."""
    return deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def follow(average: Network, network: Network, *, decay: float, step: int) -> None:
    """average = d average + (1 - d) weights, running means included, with d = min(decay,
    (1 + step) / (10 + step)), so that the first weights, which are random, are soon forgotten.

    step: how many there were before, from 0.
    Source of the beginning: TensorFlow, tf.train.ExponentialMovingAverage, `num_updates`.
    """
    share = 1.0 - min(decay, (1 + step) / (10 + step))
    there: dict[str, Tensor] = network.state_dict()
    for name, kept in average.state_dict().items():
        if kept.is_floating_point():
            kept.lerp_(there[name].to(kept), share)
        else:  # counts of batches
            kept.copy_(there[name])
