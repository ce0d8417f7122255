"""Convolutions over planes: where they look, what padding they see, and what they add to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from moodal.errors import ConfigError
from moodal.model.layers import ACTIVATIONS
from moodal.model.planes import Convolution, Inverted, Stage
from moodal.types import Seq


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def lengths(n: int) -> Tensor:
    return torch.ones(1, n, dtype=torch.bool)


def test_an_even_kernel_over_planes_is_refused() -> None:
    with pytest.raises(ConfigError, match="kernel_size=4 is even"):
        Convolution(1, 1, kernel_size=4, stride=(1, 1), activation="relu")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_stage_sees_no_padding_and_halves_upwards(activation: str) -> None:
    first = Convolution(1, 2, stride=(2, 2), kernel_size=3, activation=activation)
    stage = Stage(first, residuals=2, kernel_size=3, activation=activation).eval()
    x = torch.randn(1, 1, 5, 6)
    alone, mask = stage(Seq(x, lengths(5)))
    assert (alone.shape, mask.tolist()) == ((1, 2, 3, 3), [[True] * 3])
    padded = torch.cat([x, torch.zeros(1, 1, 6, 6)], 2)
    among, mask = stage(Seq(padded, torch.arange(11).unsqueeze(0) < 5))
    assert mask.sum() == 3
    torch.testing.assert_close(among[:, :, :3], alone)
    assert among[:, :, 3:].abs().sum() == 0


@pytest.mark.parametrize(("size", "before", "behind"), [(3, 0, 2), (5, 1, 3)])
def test_an_inverted_layer_that_strides_looks_where_tensorflow_does(
    size: int, before: int, behind: int
) -> None:
    layer = Inverted(2, 3, stride=2, kernel_size=size, widening=1).eval()
    x = torch.randn(1, 2, 8, 8)
    y, mask = layer(Seq(x, lengths(8)))
    filters, narrow = layer.filter[1], layer.filter[4]
    padded = nn.functional.pad(x, (before, behind, before, behind))
    looked = nn.functional.conv2d(padded, filters.weight, stride=2, groups=2)
    scale = (1 + 1e-5) ** -0.5  # of a normalisation that has seen nothing
    expected = nn.functional.conv2d((looked * scale).clamp(0, 6), narrow.weight) * scale
    torch.testing.assert_close(y, expected)
    assert (y.shape, mask.tolist()) == ((1, 3, 4, 4), [[True] * 4])


def test_an_inverted_layer_adds_to_its_input_where_both_are_alike() -> None:
    layer = Inverted(2, 2, stride=1, kernel_size=3, widening=6).eval()
    nn.init.zeros_(layer.filter[5].weight)
    x = torch.randn(1, 2, 5, 6)
    torch.testing.assert_close(layer(Seq(x, lengths(5))).x, x)


def test_a_single_value_a_channel_can_be_trained_on() -> None:
    layer = Convolution(1, 2, kernel_size=3, stride=(2, 2), activation="relu").train()
    y = layer(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    assert y.shape == (1, 2, 1, 1)
    assert layer.norm.num_batches_tracked == 0
