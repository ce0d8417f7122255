"""The exported graphs and the network they came from must say the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moodal.errors import ModelError
from moodal.model.answers import Frames, Text, sources
from moodal.model.model import Network
from moodal.preprocess.symbols import START
from moodal.runtime.session import Sessions, spread
from moodal.types import Modality, Seq

Array = NDArray[Any]
Inputs = dict[Modality, Seq[torch.Tensor]]
Batch = tuple[Inputs, Seq[torch.Tensor]]
"""What goes in, and the targets that a text's steps are shown."""

TOLERANCE = 1e-3
"""Largest difference of a raw score, as a share of its size or of the answer's scale, whichever is
larger; float32 sums taken in another order differ by 1e-5 or so."""


def check(network: Network, sessions: Sessions, batches: Iterable[Batch]) -> float:
    """The largest difference of raw scores over some batches, as TOLERANCE measures it.

    Raises: ModelError if it is too large.
    """
    worst = 0.0
    network.eval()
    for inputs, targets in batches:
        with torch.inference_mode():
            told = network(inputs, None, targets).answer
        expected = told.x.numpy()
        size = np.maximum(np.abs(expected), float(network.scale))
        found = _exported(network, sessions, inputs, targets)
        difference = np.abs(expected - found)[told.mask.numpy()] / size[told.mask.numpy()]
        worst = float(np.maximum(worst, difference.max()))  # unlike max, keeps NaN
    if not worst <= TOLERANCE:
        raise ModelError(
            f"the exported graphs differ from the trained network by {worst:.2g} (at most "
            f"{TOLERANCE} is allowed); please report this with your configuration"
        )
    return worst


def _exported(
    network: Network, sessions: Sessions, inputs: Inputs, targets: Seq[torch.Tensor]
) -> Array:
    """(B, T, C)."""
    n_rows = len(next(iter(inputs.values())).mask)
    encoded: dict[Modality, Seq[Array]] = {}
    for modality in network.modalities:
        encoded[modality] = sessions.absent(modality, n_rows)
        if modality in inputs:
            x, mask = (part.numpy() for part in inputs[modality])
            has = mask.any(1)
            part = sessions.encode(modality, Seq(x[has], mask[has]))
            encoded[modality] = spread(part, np.flatnonzero(has), n_rows)
    if isinstance(network.answer, Frames):
        return sessions.frames(encoded["audio"]).x
    if isinstance(network.answer, Text):
        source = sources({m: Seq(*map(torch.from_numpy, e)) for m, e in encoded.items()}, inputs)
        return _steps(sessions, sessions.remember(source.numpy(), encoded), targets.x.numpy())
    return sessions.answer(encoded)[:, None]


def _steps(sessions: Sessions, memory: Sequence[Array], targets: Array) -> Array:
    """One step after the other, each shown the true symbol before it."""
    *memory, state = memory
    previous, told = np.full(len(targets), START), []
    for right in targets.T:
        logs, state, _ = sessions.step(previous, state, memory)
        told.append(logs)
        previous = right
    return np.stack(told, 1)
