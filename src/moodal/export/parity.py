"""The exported graphs and the network they came from must say the same."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from moodal.errors import ModelError
from moodal.model.model import Network
from moodal.runtime.session import Sessions
from moodal.train.loader import Batch
from moodal.types import Modality, Seq

TOLERANCE = 1e-3
"""Largest difference of a raw score; float32 sums taken in another order differ by 1e-5 or so."""


def check(network: Network, sessions: Sessions, batches: Iterable[Batch]) -> float:
    """The largest difference of raw scores over some batches. Raises: ModelError if too large."""
    worst = 0.0
    network.eval()
    for batch in batches:
        with torch.inference_mode():
            expected = network(batch.inputs).answer.numpy()
        worst = max(worst, float(np.abs(expected - _exported(network, sessions, batch)).max()))
    if not worst <= TOLERANCE:
        raise ModelError(
            f"the exported graphs differ from the trained network by {worst:.2g} (at most "
            f"{TOLERANCE} is allowed); please report this with your configuration"
        )
    return worst


def _exported(network: Network, sessions: Sessions, batch: Batch) -> np.ndarray:
    n_rows = len(batch.codes)
    encoded: dict[Modality, Seq[np.ndarray]] = {}
    for modality in network.modalities:
        encoded[modality] = sessions.absent(n_rows)
        if modality in batch.inputs:
            x, mask = (part.numpy() for part in batch.inputs[modality])
            has = mask.any(1)
            part = sessions.encode(modality, Seq(x[has], mask[has]))
            whole_x = np.zeros((n_rows, *part.x.shape[1:]), np.float32)
            whole_mask = np.zeros((n_rows, part.mask.shape[1]), np.bool_)
            whole_x[has], whole_mask[has] = part
            encoded[modality] = Seq(whole_x, whole_mask)
    return sessions.answer(encoded)
