"""The network: any subset answers, each row as if alone, nothing is computed for what is absent."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moodal.model.answers import Answer, Scaled
from moodal.model.fusion import FUSIONS
from moodal.model.fusion import Spec as FusionSpec
from moodal.model.heads import HEADS
from moodal.model.heads import Spec as HeadSpec
from moodal.model.model import Network
from moodal.types import MODALITIES, Modality, Seq

B, S, D, C = 4, 5, 6, 3
SUBSETS = [s for n in (1, 2, 3) for s in itertools.combinations(MODALITIES, n)]


class Watched(nn.Module):
    """Two times what it is given; remembers how many rows it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, source: Seq[Tensor]) -> Seq[Tensor]:
        self.rows.append(len(source.x))
        return Seq(source.x * 2, source.mask)


def build(kind: str = "gated", *, scale: float = 1.0) -> Network:
    torch.manual_seed(0)
    fusion = FUSIONS[kind](MODALITIES, FusionSpec(width=D, heads=2))
    head = HEADS["mlp"](HeadSpec(width=D, n_out=C))
    encoders = {m: Watched() for m in MODALITIES}
    bias = torch.tensor([1.0, -2.0, 0.5])
    answer = Answer(fusion, head, MODALITIES, D, C)
    network = Network(encoders, answer, width=D, bias=bias, scale=scale)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)
    return network.eval()


def draw(*present: tuple[Modality, ...]) -> dict[Modality, Seq[Tensor]]:
    """One row for each tuple of the modalities it has, of lengths 1 to S."""
    generator = torch.Generator().manual_seed(1)
    inputs: dict[Modality, Seq[Tensor]] = {}
    for modality in MODALITIES:
        x = torch.randn(len(present), S, D, generator=generator)
        lengths = torch.randint(1, S + 1, (len(present),), generator=generator)
        lengths *= torch.tensor([modality in row for row in present])
        if lengths.any():
            inputs[modality] = Seq(x, torch.arange(S) < lengths[:, None])
    return inputs


def answer(network: Network, inputs: Any, keep: Any = None) -> Tensor:
    with torch.inference_mode():
        given, mask = network(inputs, keep).answer  # (B, 1, C)
    assert given.shape[1:] == (1, C)
    assert mask.shape == given.shape[:2]
    assert mask.all(), "each record has its one answer"
    told: Tensor = given[:, 0]
    return told


@pytest.mark.parametrize("kind", FUSIONS)
def test_any_subset_answers_and_a_row_in_a_batch_as_if_alone(kind: str) -> None:
    network = build(kind)
    together = answer(network, draw(*SUBSETS))
    assert together.shape == (len(SUBSETS), C)
    assert together.isfinite().all()
    assert len({tuple(row.tolist()) for row in together}) == len(SUBSETS)
    for row, subset in enumerate(SUBSETS):
        whole = draw(*SUBSETS)
        alone = {m: Seq(*(part[row : row + 1] for part in whole[m])) for m in subset}
        torch.testing.assert_close(answer(network, alone)[0], together[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", FUSIONS)
def test_what_hides_under_a_false_mask_changes_nothing(kind: str) -> None:
    network, inputs = build(kind), draw(*SUBSETS)
    garbage = {
        m: Seq(torch.where(mask[..., None], x, torch.tensor(1e6)), mask)
        for m, (x, mask) in inputs.items()
    }
    torch.testing.assert_close(answer(network, garbage), answer(network, inputs), atol=1e-5, rtol=0)


def test_an_encoder_sees_only_the_rows_that_have_its_modality() -> None:
    network = build()
    answer(network, draw(("text",), ("text", "audio"), ("audio",), ("text",)))
    seen: dict[str, Any] = {m: network.encoders[m].rows for m in MODALITIES}
    assert seen == {"text": [3], "image": [], "audio": [2]}


def test_the_order_in_which_modalities_are_given_cannot_matter() -> None:
    network, inputs = build(), draw(MODALITIES, ("text", "audio"))
    turned = dict(reversed(inputs.items()))
    assert torch.equal(answer(network, turned), answer(network, inputs))


def test_what_modality_dropout_hides_is_as_absent_as_what_is_not_there() -> None:
    network, inputs = build(), draw(MODALITIES, MODALITIES)
    keep = {m: torch.tensor([m != "image", m == "audio"]) for m in MODALITIES}
    with torch.inference_mode():
        hidden, whole = network(inputs, keep), network(inputs)
    absent = {m: Seq(x, mask & keep[m][:, None]) for m, (x, mask) in inputs.items()}
    torch.testing.assert_close(hidden.answer.x[:, 0], answer(network, absent))
    for modality in MODALITIES:  # and yet each goes on learning alone
        assert torch.equal(hidden.auxiliary[modality].x, whole.auxiliary[modality].x)
        assert hidden.auxiliary[modality].mask.all()


def test_the_answer_is_scaled_and_then_moved() -> None:
    inputs = draw(*SUBSETS)
    plain, scaled = build(scale=1.0), build(scale=10.0)
    bias = plain.bias
    torch.testing.assert_close(
        answer(scaled, inputs) - bias, 10 * (answer(plain, inputs) - bias), atol=1e-4, rtol=1e-5
    )


def test_a_network_that_has_learned_nothing_answers_with_the_bias() -> None:
    network = build(scale=7.0)
    for parameter in network.answer.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(answer(network, draw(("text",)))[0], network.bias)


def test_each_modality_alone_is_a_linear_answer_from_its_positions() -> None:
    network, inputs = build(), draw(("text",), ("text", "image"))
    with torch.inference_mode():
        given = network(inputs)
    x, mask = inputs["text"]
    n = mask.sum(1, keepdim=True)
    summed = (2 * x * mask[..., None]).sum(1) / n.sqrt()
    by_hand = summed @ network.answer.alone["text"].weight.T + network.bias  # type: ignore[operator]
    torch.testing.assert_close(given.auxiliary["text"].x, by_hand.unsqueeze(1))
    assert given.auxiliary["image"].mask.tolist() == [[False], [True]]
    assert set(given.auxiliary) == {"text", "image"}


@pytest.mark.parametrize("kind", FUSIONS)
def test_the_graph_of_fusion_and_head_says_what_the_network_says(kind: str) -> None:
    network, inputs = build(kind, scale=3.0), draw(*SUBSETS)
    with torch.inference_mode():
        encoded = network.encode(inputs)
        flat = [part for m in network.modalities for part in encoded[m]]
        graph = Scaled(network.answer, network.bias, network.scale)
        torch.testing.assert_close(graph(*flat), answer(network, inputs))


def test_gradients_reach_every_part_from_a_mixed_batch() -> None:
    network = build().train()
    network(draw(*SUBSETS)).answer.x.square().sum().backward()
    lost = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert lost == []
