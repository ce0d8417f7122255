"""Networks and batches of every kind of input, small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from moodal import config
from moodal.model import build
from moodal.model.build import Measured
from moodal.model.model import Network
from moodal.preprocess import batch
from moodal.preprocess.batch import Kind
from moodal.tasks import TASKS
from moodal.types import Modality, Seq

Feed = dict[Modality, Seq[Tensor]]
N_PIECES, N_BANDS = 20, 16


@pytest.fixture
def make() -> Callable[..., tuple[Network, Feed]]:
    """(kinds, *settings) -> a network in eval mode and three rows that it can read."""

    def network(kinds: Mapping[Modality, Kind], *settings: str) -> tuple[Network, Feed]:
        torch.manual_seed(0)
        small = ("fusion.width=16", "fusion.heads=4", f"audio.n_mels={N_BANDS}")
        run = config.load(None, (*small, *settings))
        task = TASKS[run.task]
        given = batch.settings_of(kinds, {}, run, windowed=task.windowed)
        means = {m: np.zeros(N_BANDS) for m in ("audio",)}
        n_out = 3 if task.head == "summary" else N_PIECES
        weights = np.ones(N_PIECES)
        measured: Any = Measured(weights, None, means, {m: v + 1 for m, v in means.items()},
                                 np.zeros(n_out), 1.0)  # fmt: skip
        built = build.network(run, given, measured).eval()
        return built, {m: _rows(kind) for m, kind in kinds.items()}

    return network


def _rows(kind: Kind) -> Seq[Tensor]:
    """Three rows, the last shorter."""
    made = {
        "tokens": lambda: torch.randint(1, N_PIECES, (3, 9, 4), dtype=torch.int32),
        "symbols": lambda: torch.randint(4, N_PIECES, (3, 9, 1), dtype=torch.int32),
        "picture": lambda: torch.randint(0, 255, (3, 32, 32, 3), dtype=torch.uint8),
        "frames": lambda: torch.randn(3, 24, N_BANDS),
    }[kind]()
    mask = torch.ones(made.shape[:2], dtype=torch.bool)
    mask[2, 6:] = kind == "picture"
    return Seq(made, mask)


@pytest.fixture
def targets() -> Seq[Tensor]:
    """What a text's answer is shown."""
    return Seq(torch.randint(4, N_PIECES, (3, 5)), torch.ones(3, 5, dtype=torch.bool))
