"""A bundle back to the network it was exported from: the same answers, and it can learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from moodal.bundle import Info
from moodal.config import Run
from moodal.errors import ModelError
from moodal.model import build, shape
from moodal.model.build import Measured
from moodal.model.model import Network
from moodal.preprocess.audio import n_features
from moodal.preprocess.batch import Lexicon
from moodal.training import start


@dataclass(frozen=True, slots=True)
class Loaded:
    """network: in eval mode. run: the settings it was made with. lexicon: None where it reads no
    text."""

    folder: Path
    network: Network
    info: Info
    run: Run
    lexicon: Lexicon | None


def load(folder: Path) -> Loaded:
    """Raises: ModelError for what is no model, or was written before its scale was kept."""
    [parent] = start.read([folder])
    info, tensors = parent.info, dict(parent.weights)
    # Which floats a processor multiplies fast is a matter of this machine, not of that one.
    here = parent.run.train.model_copy(update={"precision": "no"})
    run = parent.run.model_copy(update={"train": here})
    if "scale" not in tensors:
        if not info.labels:
            raise ModelError(
                f"{folder}: was written by a version of moodal that did not keep the scale of its "
                "answers; train it again"
            )
        tensors["scale"] = tensors["bias"].new_ones(())
    network = build.network(run, info.settings, _measured(info, tensors))
    shape.fit(network, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    network.load_state_dict(tensors)
    return Loaded(folder, network.eval(), info, run, parent.lexicon)


def _measured(info: Info, tensors: dict[str, Tensor]) -> Measured:
    """Of the right sizes; the values are those of the weights, which are loaded after."""
    means = {m: np.zeros(width) for m, width in info.widths.items()}
    means |= {m: np.zeros(n_features(info.audio)) for m, k in info.kinds.items() if k == "frames"}
    pieces = tensors.get("encoders.text.0.weights")
    given = "encoders.text.0.resize.weight" in tensors
    vectors = tensors["encoders.text.0.embedding.weight"].numpy() if given else None
    return Measured(
        piece_weights=None if pieces is None else pieces.numpy(),
        vectors=vectors,
        means=means,
        stds={m: np.ones_like(mean) for m, mean in means.items()},
        bias=tensors["bias"].numpy(),
        scale=float(tensors["scale"]),
    )
