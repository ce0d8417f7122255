"""Networks of random weights, and their graphs as a bundle holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from moodal import bundle, config
from moodal.export import onnx
from moodal.model import build
from moodal.model.build import Measured
from moodal.model.model import Network
from moodal.preprocess.batch import Kind, Settings
from moodal.preprocess.symbols import END, FIRST
from moodal.runtime.session import Sessions
from moodal.tasks import TASKS
from moodal.types import MODALITIES, Modality, Seq

N_PIECES, F, SIDE = 40, 16, 20
SMALL = [f"{part}.width=12" for part in ("text_encoder", "image_encoder", "audio_encoder")]
KINDS: dict[Modality, Kind] = {"text": "tokens", "image": "picture", "audio": "frames"}

Inputs = dict[Modality, Seq[Tensor]]


def draw(kind: Kind, n_rows: int, longest: int, rng: np.random.Generator) -> Seq[Tensor]:
    """Rows of random lengths, the first of all the longest."""
    lengths = rng.integers(1, longest + 1, n_rows)
    lengths[0] = longest
    if kind == "picture":
        x: Any = rng.integers(0, 256, (n_rows, SIDE, SIDE, 3)).astype(np.uint8)
        lengths[:] = longest = SIDE
    elif kind == "symbols":
        x = rng.integers(FIRST, N_PIECES, (n_rows, longest, 1)).astype(np.int32)
    elif kind == "tokens":
        x = rng.integers(0, N_PIECES, (n_rows, longest, 3)).astype(np.int32)
    else:
        x = rng.normal(0, 1, (n_rows, longest, F)).astype(np.float32)
    mask = np.arange(longest) < lengths[:, None]
    x[~mask] = 0
    return Seq(torch.from_numpy(x), torch.from_numpy(mask))


def batch(
    network: Network, kinds: dict[Modality, Kind], *, n_rows: int = 5, seed: int = 0
) -> Inputs:
    """A batch in which some rows lack a modality."""
    rng = np.random.default_rng(seed)
    inputs: Inputs = {}
    for place, modality in enumerate(network.modalities):
        x, mask = draw(kinds[modality], n_rows, 9 + 8 * place, rng)
        if len(network.modalities) > 1:
            mask[place::3] = False
        inputs[modality] = Seq(x, mask)
    return inputs


def taught(
    network: Network, kinds: dict[Modality, Kind], *, n_rows: int = 5, seed: int = 0
) -> tuple[Inputs, Seq[Tensor]]:
    """A batch and texts of symbols, of several lengths; what has one answer looks at none."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, n_rows)
    codes = rng.integers(FIRST, N_PIECES, (n_rows, lengths.max()))
    codes[np.arange(n_rows), lengths - 1] = END
    mask = np.arange(lengths.max()) < lengths[:, None]
    targets = Seq(torch.from_numpy(codes * mask), torch.from_numpy(mask))
    return batch(network, kinds, n_rows=n_rows, seed=seed), targets


BIASES = {
    "summary": np.array([0.5, -1.0, 0.0]),
    "frames": np.zeros(3),
    "decoder": np.zeros(N_PIECES),
}
"""head -> the bias, as wide as the answer; a text starts without one (Task.start)."""


def make(*settings: str, kinds: dict[Modality, Kind] = KINDS, scale: float = 2.0) -> Network:
    """A network whose every weight is large enough to be missed, batch statistics included."""
    torch.manual_seed(0)
    run = config.load(None, (*SMALL, "fusion.width=8", *settings))
    given = Settings(kinds, {}, run.text, run.image, run.audio)
    means, stds = ({m: f(F) for m in kinds} for f in (np.zeros, np.ones))
    pieces = np.ones(N_PIECES, np.float32)
    bias = BIASES[TASKS[run.task].head]
    measured = Measured(pieces, None, means, stds, bias, scale)
    network = build.network(run, given, measured)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.rand(module.num_features) - 0.5
            module.running_var = torch.rand(module.num_features) + 0.5
    for parameter in network.answer.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)
    return network.eval()


def info(network: Network, kinds: dict[Modality, Kind], run: config.Run) -> bundle.Info:
    return bundle.Info(
        name="drawn",
        created="2026-01-01T00:00:00+00:00",
        moodal="0",
        task=run.task,
        labels=("a", "b", "c"),
        columns=run.columns,
        kinds=kinds,
        widths={m: F for m, kind in kinds.items() if kind == "vectors"},
        text=run.text,
        image=run.image,
        audio=run.audio,
        encoding_width=network.width,
        parameters=1,
        temperatures={},
        threshold=0.0,
        prior=(0.2, 0.3, 0.5),
        data={},
        scores={},
    )


Exported = Callable[..., tuple[Network, Sessions, dict[Modality, Kind]]]


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    """(settings, kinds) -> the network, its graphs opened, its kinds. sure: the log odds of
    a text's own symbols against copied ones."""

    def export(
        *settings: str,
        kinds: dict[Modality, Kind] = KINDS,
        scale: float = 2.0,
        sure: float | None = None,
    ) -> tuple[Network, Sessions, dict[Modality, Kind]]:
        network = make(*settings, kinds=kinds, scale=scale)
        if sure is not None:
            answer: Any = network.answer
            nn.init.constant_(answer.decoder.generate.bias, sure)
        rng = np.random.default_rng(9)
        files: dict[str, Any] = dict(onnx.answer(network))
        for modality in (m for m in MODALITIES if m in kinds):
            example = draw(kinds[modality], 2, 6, rng)
            files[bundle.encoder_file(modality)] = onnx.encoder(network, modality, example)
        saved = bundle.save(
            tmp_path / "drawn", info(network, kinds, config.load(None, settings)), files
        )
        return network, Sessions(tmp_path / "drawn", saved), kinds

    return export


@pytest.fixture
def shown() -> Callable[..., tuple[Inputs, Seq[Tensor]]]:
    return taught


@pytest.fixture
def drawn() -> Callable[..., Inputs]:
    return batch
