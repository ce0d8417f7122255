"""Each loss by hand, and each learns a toy to near zero."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import LABELLED, NUMBERED
from torch import Tensor, nn

from moodal.errors import ConfigError
from moodal.training import objectives
from moodal.training.objectives import Cost
from moodal.types import Seq

PLAIN = Cost(0.0, 1.0)
ALL = torch.ones(16, 2)


def one(values: Tensor) -> Seq[Tensor]:
    """(B, C), one answer a record, as (B, 1, C)."""
    return Seq(values.unsqueeze(1), torch.ones(len(values), 1, dtype=torch.bool))


def test_cross_entropy_is_minus_the_log_of_the_probability_of_the_code() -> None:
    scores = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])  # 1/4, 3/4
    cost = objectives.cross_entropy(PLAIN)(one(scores), one(torch.eye(2)), ALL[:2])
    torch.testing.assert_close(cost, torch.tensor([math.log(4.0), math.log(4.0 / 3.0)]))


def test_label_smoothing_spreads_its_share_over_all_labels() -> None:
    scores = torch.tensor([[0.0, math.log(3.0)]])
    cost = objectives.cross_entropy(Cost(0.2, 1.0))(one(scores), one(torch.eye(2)[1:]), ALL[:1])
    by_hand = 0.8 * math.log(4 / 3) + 0.2 * (math.log(4) + math.log(4 / 3)) / 2
    assert cost.item() == pytest.approx(by_hand, rel=1e-6)


def test_a_label_that_does_not_compete_neither_costs_nor_learns() -> None:
    scores = torch.tensor([[0.0, 5.0, math.log(3.0)]], requires_grad=True)
    among = torch.tensor([[1.0, 0.0, 1.0]])
    cost = objectives.cross_entropy(Cost(0.2, 1.0))(one(scores), one(torch.eye(3)[2:]), among)
    by_hand = 0.8 * math.log(4 / 3) + 0.2 * (math.log(4) + math.log(4 / 3)) / 2
    assert cost.item() == pytest.approx(by_hand, rel=1e-6)
    cost.sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad[0, 1] == 0
    assert scores.grad[0, 0] > 0


def test_a_teachers_answer_costs_least_when_it_is_given_back() -> None:
    taught = torch.tensor([[0.2, 0.8]])
    loss = objectives.cross_entropy(PLAIN)
    answers = taught.log(), taught.flip(1).log()
    same, other = (loss(one(answer), one(taught), ALL[:1]) for answer in answers)
    entropy = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert same.item() == pytest.approx(entropy, rel=1e-6)
    assert other > same


def test_class_weights_multiply_the_cost_of_their_class() -> None:
    scores, targets = torch.tensor([[0.3, -0.2], [0.3, -0.2]]), torch.eye(2)
    plain = objectives.cross_entropy(PLAIN)(one(scores), one(targets), ALL[:2])
    heavy = torch.tensor([[0.5, 3.0]]).expand(2, 2)
    weighted = objectives.cross_entropy(PLAIN)(one(scores), one(targets), heavy)
    torch.testing.assert_close(weighted, plain * torch.tensor([0.5, 3.0]))


def test_mse_is_the_squared_error_in_units() -> None:
    cost = objectives.mse(Cost(0.0, 2.0))(
        one(torch.tensor([[5.0], [1.0]])), one(torch.tensor([[1.0], [2.0]])), ALL[:2, :1]
    )
    assert cost.tolist() == pytest.approx([4.0, 0.25])


def test_smooth_l1_is_quadratic_within_a_unit_and_linear_beyond() -> None:
    scores = torch.tensor([[1.0], [5.0], [-3.0]])
    cost = objectives.smooth_l1(Cost(0.0, 2.0))(one(scores), one(torch.zeros(3, 1)), ALL[:3, :1])
    assert cost.tolist() == pytest.approx([0.5 * 0.5**2, 2.5 - 0.5, 1.5 - 0.5])


@pytest.mark.parametrize(
    ("task", "name"), [(t, name) for t in (LABELLED, NUMBERED) for name in objectives.LOSSES[t]]
)
def test_every_loss_learns_a_toy_to_near_zero(task: str, name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 3)
    signal = x[:, 0] - 2 * x[:, 1]
    n_outputs = 2 if task == LABELLED else 1
    targets = torch.eye(2)[(signal > 0).long()] if task == LABELLED else signal[:, None]
    model = nn.Linear(3, n_outputs)
    loss = objectives.build(task, name, PLAIN)
    among = ALL[:, :n_outputs]
    assert _fit(model, lambda: loss(one(model(x)), one(targets), among).mean()) < 0.01


def test_a_loss_of_another_task_is_refused_with_those_that_fit() -> None:
    with pytest.raises(ConfigError, match=r"train\.loss='mse': .* use one of auto, cross_entropy"):
        objectives.build(LABELLED, "mse", PLAIN)
    with pytest.raises(ConfigError, match="use one of auto, mse, smooth_l1"):
        objectives.build(NUMBERED, "cross_entropy", PLAIN)


def _fit(model: nn.Module, loss: object) -> float:
    assert callable(loss)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.3)
    for _ in range(200):
        optimiser.zero_grad()
        cost: Tensor = loss()
        cost.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return float(loss().detach())
