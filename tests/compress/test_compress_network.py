"""A bundle back to its network: the answers of its graphs, whatever it is made of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as tensors_bytes

from moodal import api, bundle
from moodal.compress import network, quantise
from moodal.data import manifest
from moodal.errors import ModelError
from moodal.export import parity
from moodal.preprocess import batch
from moodal.runtime.session import Sessions
from moodal.types import Record, Seq

MADE = {"classify": tiny.train_once, "transcribe": tiny.hear_once, "summarise": tiny.write_once}


def differs(folder: Path, rows: Path, *, exported: Path | None = None) -> float:
    """The largest difference between the network and the graphs, on some rows."""
    loaded = network.load(folder)
    inputs = batch.build(loaded.info.settings, loaded.lexicon)
    records = [r for r in manifest.read(rows) if isinstance(r, Record)][:6]
    arrays = [batch.arrays(record, inputs) for record in records]
    feeds = {}
    for modality in loaded.network.modalities:
        first = next(a[modality] for a in arrays if modality in a)
        x, mask = batch.pad([a.get(modality, first[:0]) for a in arrays])
        feeds[modality] = Seq(torch.from_numpy(x), torch.from_numpy(mask))
    targets = torch.full((len(records), 3), 5)
    real = Seq(targets, torch.ones_like(targets, dtype=torch.bool))
    there = exported or folder
    return parity.check(loaded.network, Sessions(there, bundle.load(there)), [(feeds, real)])


@pytest.mark.parametrize("task", MADE)
def test_the_network_answers_as_its_graphs(task: str) -> None:
    folder = MADE[task]()
    assert differs(folder, folder.parent / "data" / "dev.csv") < 1e-4


@pytest.mark.parametrize(
    ("kind", "hears"),
    [
        ("cnn", "cnn"),
        ("gru", "ge2e"),
        ("lstm", "lstm"),
        ("transformer", "transformer"),
        ("cnn-experts", "cnn"),
    ],
)
def test_of_every_encoder_and_of_numbers(kind: str, hears: str, tmp_path: Path) -> None:
    """The scale of a number is among the weights."""
    data = tiny.rows(tmp_path / "data", numeric=True)
    settings = (*tiny.SETTINGS, "task=regress", "train.epochs=1", f"text_encoder.kind={kind}",
                "modalities=[text,audio]", "fusion.kind=attention",
                f"audio_encoder.kind={hears}", f"cache={tmp_path / 'cache'}")  # fmt: skip
    folder = tmp_path / "model"
    api.train(data / "train.csv", valid=data / "dev.csv", out=folder, settings=settings)
    assert float(network.load(folder).network.scale) > 1
    assert differs(folder, data / "dev.csv") < 1e-4


def test_weights_kept_as_integers_are_read_as_well(tmp_path: Path) -> None:
    folder = tiny.train_once()
    quantise.quantise(folder, tmp_path / "small")
    rows = folder.parent / "data" / "dev.csv"
    assert differs(tmp_path / "small", rows) < 1e-3


def test_a_scale_that_was_not_kept_is_1_of_labels_and_unknown_of_numbers(tmp_path: Path) -> None:
    data = tiny.rows(tmp_path / "data", numeric=True)
    settings = (*tiny.SETTINGS, "task=regress", "train.epochs=1", "modalities=[text]",
                f"cache={tmp_path / 'cache'}")  # fmt: skip
    numbers = tmp_path / "numbers"
    api.train(data / "train.csv", valid=data / "dev.csv", out=numbers, settings=settings)
    old = without_scale(tiny.train_once(), tmp_path / "old")
    assert float(network.load(old).network.scale) == 1
    with pytest.raises(ModelError, match="did not keep the scale of its answers; train it again"):
        network.load(without_scale(numbers, tmp_path / "older"))


def without_scale(folder: Path, out: Path) -> Path:
    """The bundle as an earlier version wrote it."""
    info = bundle.load(folder)
    files = {name: bundle.read(folder, info, name) for name in info.files}
    tensors = tensors_of(files[bundle.WEIGHTS])
    tensors.pop("scale")
    bundle.save(out, info, files | {bundle.WEIGHTS: tensors_bytes(tensors)})
    return out


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    shutil.copytree(tiny.train_once(), tmp_path / "model")
    (tmp_path / "model" / bundle.WEIGHTS).write_bytes(b"")
    with pytest.raises(ModelError, match="has changed since it was saved"):
        network.load(tmp_path / "model")


def test_a_model_made_with_16_bit_floats_elsewhere_learns_on_with_what_is_fast_everywhere(
    tmp_path: Path,
) -> None:
    data = tiny.rows(tmp_path / "data")
    settings = (*tiny.SETTINGS, "train.epochs=1", "modalities=[text]", "train.precision=bf16")
    folder = tmp_path / "model"
    api.train(data / "train.csv", valid=data / "dev.csv", out=folder, settings=settings)
    assert bundle.read(folder, bundle.load(folder), bundle.CONFIG).count(b"precision: bf16") == 1
    assert network.load(folder).run.train.precision == "no"
