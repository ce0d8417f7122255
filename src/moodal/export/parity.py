"""The exported graphs and the network they came from must say the same."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from moodal.errors import ModelError
from moodal.model.model import Network
from moodal.runtime.session import Sessions, spread
from moodal.types import Modality, Seq

Inputs = dict[Modality, Seq[torch.Tensor]]

TOLERANCE = 1e-3
"""Largest difference of a raw score, as a share of its size or of the answer's scale, whichever is
larger; float32 sums taken in another order differ by 1e-5 or so."""


def check(network: Network, sessions: Sessions, batches: Iterable[Inputs]) -> float:
    """The largest difference of raw scores over some batches, as TOLERANCE measures it.

    Raises: ModelError if it is too large.
    """
    worst = 0.0
    network.eval()
    for inputs in batches:
        with torch.inference_mode():
            expected = network(inputs).answer.numpy()
        size = np.maximum(np.abs(expected), network.scale)
        difference = np.abs(expected - _exported(network, sessions, inputs)) / size
        worst = float(np.maximum(worst, difference.max()))  # unlike max, keeps NaN
    if not worst <= TOLERANCE:
        raise ModelError(
            f"the exported graphs differ from the trained network by {worst:.2g} (at most "
            f"{TOLERANCE} is allowed); please report this with your configuration"
        )
    return worst


def _exported(network: Network, sessions: Sessions, inputs: Inputs) -> np.ndarray:
    n_rows = len(next(iter(inputs.values())).mask)
    encoded: dict[Modality, Seq[np.ndarray]] = {}
    for modality in network.modalities:
        encoded[modality] = sessions.absent(n_rows)
        if modality in inputs:
            x, mask = (part.numpy() for part in inputs[modality])
            has = mask.any(1)
            part = sessions.encode(modality, Seq(x[has], mask[has]))
            encoded[modality] = spread(part, np.flatnonzero(has), n_rows)
    return sessions.answer(encoded)
