"""What is cut hangs together: a channel that nothing listens to can go, and no answer moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moodal.compress.channels import LEAST, Channels, StandIn
from moodal.model import shape
from moodal.model.layers import MultiHeadAttention
from moodal.model.model import Network
from moodal.types import Seq

TEXT, PAIR, SOUND = {"text": "tokens"}, {"text": "tokens", "image": "picture"}, {"audio": "frames"}
SYMBOLS = {"text": "symbols"}
SIZES = ("text_encoder.width=24", "image_encoder.width=32", "audio_encoder.width=24")
MADE: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    **{f"text {k}": (TEXT, (f"text_encoder.kind={k}",)) for k in ("bag", "cnn", "gru", "lstm")},
    "text transformer": (TEXT, ("text_encoder.kind=transformer",)),
    "words and experts": (TEXT, ("text_encoder.kind=cnn-experts",)),
    "photographs": ({"image": "picture"}, ("image_encoder.kind=efficientnet",)),
    "faces and photographs": ({"image": "picture"}, ("image_encoder.kind=cnn-efficientnet",)),
    **{f"sound {k}": (SOUND, (f"audio_encoder.kind={k}",)) for k in ("cnn", "gru", "transformer")},
    "voices": (SOUND, ("audio_encoder.kind=ge2e",)),
    "speech": (SOUND, ("task=transcribe", "audio_encoder.kind=tdnn-gru")),
    **{
        f"fusion {k}": (PAIR, (f"fusion.kind={k}", "head.hidden=12"))
        for k in ("gated", "concat", "tensor", "lowrank", "crossmodal", "attention", "bottleneck")
    },
    "head of filters": (PAIR, ("head.kind=cnn", "head.hidden=12")),
    **{f"summary {k}": (SYMBOLS, ("task=summarise", f"text_encoder.kind={k}"))
       for k in ("cnn", "gru", "transformer")},
}  # fmt: skip
NORMED = ("speech", "faces and photographs", "voices")
"""Their channels are normalised together, so that each that goes moves the others."""

Made = Callable[..., tuple[Network, Any]]


def told(network: Network, feed: Any, targets: Seq[Tensor]) -> Tensor:
    with torch.no_grad():
        answer: Tensor = network(feed, None, targets).answer.x
    return answer


def silence(channels: Channels, group: Any, places: list[int]) -> None:
    """Let nothing listen to some channels."""
    for dep, idxs in channels.graph.get_pruning_group(
        group[0].dep.target.module, group[0].dep.handler, places
    ):
        layer, reads = dep.target.module, dep.handler.__name__ == "prune_in_channels"
        with torch.no_grad():
            if isinstance(layer, StandIn):
                (layer.cell.weight_ih_l0 if reads else layer.cell.weight_hh_l0)[:, idxs] = 0
            elif reads and isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
                layer.weight[:, idxs] = 0


def heads_of(network: Network) -> list[int]:
    return [m.heads for m in network.modules() if isinstance(m, MultiHeadAttention)]


@pytest.mark.parametrize("name", MADE)
def test_what_nothing_listens_to_can_go(name: str, make: Made, targets: Seq[Tensor]) -> None:
    kinds, settings = MADE[name]
    network, feed = make(kinds, *SIZES, *settings)
    channels = Channels(network, feed)
    worth = []
    for group in channels.groups:
        n = len(group[0].idxs)
        values = torch.ones(n)
        values[: n // 2] = 0
        silence(channels, group, list(range(n // 2)))
        worth.append(values)
    before, heads = told(network, feed, targets), heads_of(network)
    n_before = sum(p.numel() for p in network.parameters())
    done = channels.cut(worth, 0.5)
    assert done
    assert all(new >= LEAST for _, new in done.values())
    assert sum(p.numel() for p in network.parameters()) < 0.85 * n_before
    assert all(new < old for old, new in zip(heads, heads_of(network), strict=True))
    after = told(network, feed, targets)
    assert after.shape == before.shape
    if name not in NORMED:
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MADE)
def test_a_network_is_as_its_weights_say(name: str, make: Made, targets: Seq[Tensor]) -> None:
    """Cut, saved and built anew from the settings it had before: the same answers."""
    kinds, settings = MADE[name]
    network, feed = make(kinds, *SIZES, *settings)
    channels = Channels(network, feed)
    worth = [torch.rand(len(group[0].idxs)) for group in channels.groups]
    channels.cut(worth, 0.4)
    again, _ = make(kinds, *SIZES, *settings)
    weights = network.state_dict()
    shape.fit(again, {key: tuple(values.shape) for key, values in weights.items()})
    again.load_state_dict(weights)
    torch.testing.assert_close(told(again, feed, targets), told(network, feed, targets))
    for (key, one), (_, other) in zip(again.named_modules(), network.named_modules(), strict=True):
        for width in ("in_features", "out_features", "in_channels", "num_features", "hidden_size"):
            assert getattr(one, width, 0) == getattr(other, width, 0), key


def test_worth_is_what_the_loss_loses(make: Made) -> None:
    """Of a loss that is linear in a channel, exactly: without it the loss falls by its worth."""
    network, feed = make(TEXT, "head.hidden=8")
    channels = Channels(network, feed)
    [place] = [
        i for i, group in enumerate(channels.groups)
        if channels.names[group[0].dep.target.module] == "answer.head.layers.1"
    ]  # fmt: skip

    def loss() -> Tensor:
        total: Tensor = network(feed).answer.x.sum()
        return total

    worth = channels.worth([loss()])[place]
    before = loss().detach()
    last: Any = network.answer.head.last  # type: ignore[union-attr]
    for channel in range(8):
        kept = last.weight[:, channel].clone()
        with torch.no_grad():
            last.weight[:, channel] = 0
            lost = (before - loss()).abs()
            last.weight[:, channel] = kept
        torch.testing.assert_close(worth[channel], lost, atol=1e-5, rtol=1e-4)


def test_the_least_worth_goes_and_heads_go_whole(make: Made) -> None:
    network, feed = make(TEXT, "text_encoder.kind=transformer", "text_encoder.layers=1",
                         "text_encoder.width=24", "text_encoder.heads=4")  # fmt: skip
    channels = Channels(network, feed)
    attention: Any = network.encoders["text"][1].blocks.layers[0].attention  # type: ignore
    value = attention.value.weight.detach().clone()
    worth = []
    for group in channels.groups:
        values = torch.arange(len(group[0].idxs), dtype=torch.float32)
        if group[0].dep.target.module in (attention.query, attention.key, attention.value):
            values[6:12] = -1  # the second head of four, six numbers each
        worth.append(values)
    channels.cut(worth, 0.25)
    assert attention.heads == 3
    kept = [*range(6), *range(12, 24)]
    torch.testing.assert_close(attention.value.weight.detach(), value[kept])


def test_the_common_width_stays(make: Made) -> None:
    network, feed = make(PAIR, "head.hidden=12")
    channels = Channels(network, feed)
    channels.cut([torch.rand(len(group[0].idxs)) for group in channels.groups], 0.5)
    encoded = network.encode(feed)
    assert all(seq.x.shape[2] == network.width for seq in encoded.values())
