"""Both heads: by hand, and answering a record as if it were alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from moodal.model.fusion import Fused
from moodal.model.heads import HEADS, Convolutional, Perceptron, Spec
from moodal.types import Seq


def fused(*n: int, filler: float = 0.0) -> Fused:
    """Records of n positions of width 4."""
    mask = torch.arange(max(n)) < torch.tensor(n).unsqueeze(1)
    x = torch.randn(len(n), max(n), 4).masked_fill(~mask.unsqueeze(2), filler)
    summary = torch.randn(len(n), 1, 4)
    return Fused(Seq(summary, mask.any(1, keepdim=True)), Seq(x, mask))


@pytest.fixture(params=[(kind, hidden) for kind in HEADS for hidden in (0, 6)])
def head(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    kind, hidden = request.param
    return HEADS[kind](Spec(width=4, n_out=3, hidden=hidden)).eval()


def test_one_answer_a_record(head: nn.Module) -> None:
    x, mask = head(fused(5, 2, 0))
    assert x.shape == (3, 1, 3)
    assert mask.tolist() == [[True], [True], [False]]
    assert x[2].abs().sum() == 0


def test_a_record_is_answered_as_if_it_were_alone(head: nn.Module) -> None:
    given = fused(9, 2, filler=1e3)
    alone = Fused(Seq(*(t[1:] for t in given.summary)), Seq(*(t[1:, :2] for t in given.all)))
    torch.testing.assert_close(head(given).x[1:], head(alone).x, atol=1e-5, rtol=0)


def test_the_first_answers_are_small(head: nn.Module) -> None:
    x, _ = head(fused(9, 9, 9))
    assert 0 < x.abs().max() < 0.2


def test_gradients_reach_all_parameters(head: nn.Module) -> None:
    x, _ = head.train()(fused(9, 9, 9))
    (x * torch.randn(x.shape)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


def ones(*layers: nn.Module) -> None:
    for layer in layers:
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)


def single(*values: float) -> Seq[Tensor]:
    x = torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1)
    return Seq(x, torch.ones(1, len(values), dtype=torch.bool))


def test_perceptron_by_hand() -> None:
    linear, hidden = Perceptron(1, 2), Perceptron(1, 1, hidden=2, activation="relu")
    linear.last.weight.data = torch.tensor([[2.0], [-1.0]])
    assert linear(Fused(single(3), single(0))).x.tolist() == [[[6, -3]]]
    ones(hidden.last)
    hidden.layers[1].weight.data = torch.tensor([[2.0], [-5.0]])
    nn.init.ones_(hidden.layers[1].bias)
    assert hidden(Fused(single(3), single(0))).x.item() == 7  # relu(7) + relu(-14)


def test_convolution_by_hand() -> None:
    head = Convolutional(1, 1, activation="relu")
    ones(head.filters.convolution, head.last)
    assert head(Fused(single(0), single(1, 2, 4, -9))).x.item() == 7  # of 3, 7, -3, -5
