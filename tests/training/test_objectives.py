"""Each loss by hand, and each learns a toy to near zero."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from tiny import LABELLED, NUMBERED
from torch import Tensor, nn

from moodal.errors import ConfigError
from moodal.tasks import TASKS
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
    for task in ("summarise", "transcribe"):
        with pytest.raises(ConfigError, match=f"task={task} use one of auto"):
            objectives.build(task, "cross_entropy", PLAIN)


# Texts


def paths(logs: Tensor, target: list[int]) -> float:
    """P(target): the sum over every path of frames whose text it is."""
    n_frames, n_symbols = logs.shape
    total = 0.0
    for path in itertools.product(range(n_symbols), repeat=n_frames):
        text = [s for s, before in zip(path, (0, *path), strict=False) if s not in (0, before)]
        if text == target:
            total += math.exp(sum(float(logs[t, s]) for t, s in enumerate(path)))
    return total


@pytest.mark.parametrize("target", [[1], [1, 2], [1, 1], [2, 1, 2]])
@pytest.mark.parametrize("n_frames", [3, 5])
def test_ctc_is_minus_the_log_of_all_paths_that_say_the_target_by_symbol(
    target: list[int], n_frames: int
) -> None:
    scores = torch.randn(1, n_frames, 3, generator=torch.Generator().manual_seed(3))
    answer = Seq(scores, torch.ones(1, n_frames).bool())
    codes = Seq(torch.tensor([target]), torch.ones(1, len(target)).bool())
    cost = objectives.ctc(PLAIN)(answer, codes, torch.ones(1, 3))
    by_hand = -math.log(paths(scores[0].log_softmax(1), target)) / len(target)
    assert cost.shape == (1,)
    assert cost.item() == pytest.approx(by_hand, rel=1e-4)


def several(lengths: list[int], longest: int) -> Tensor:
    return torch.arange(longest) < torch.tensor(lengths)[:, None]


def test_ctc_in_a_batch_costs_what_it_costs_alone_whatever_hides_behind_it() -> None:
    generator = torch.Generator().manual_seed(4)
    scores = torch.randn(3, 6, 4, generator=generator)
    codes = torch.tensor([[1, 2, 3], [3, 0, 0], [2, 2, 0]])
    frames, symbols = several([6, 3, 5], 6), several([3, 1, 2], 3)
    loss, weights = objectives.ctc(PLAIN), torch.ones(3, 4)
    together = loss(Seq(scores, frames), Seq(codes, symbols), weights)
    dirty = scores.masked_fill(~frames[..., None], 9.0), codes.masked_fill(~symbols, 2)
    torch.testing.assert_close(
        loss(Seq(dirty[0], frames), Seq(dirty[1], symbols), weights), together
    )
    for row in range(3):
        n, m = int(frames[row].sum()), int(symbols[row].sum())
        answer = Seq(scores[row : row + 1, :n], frames[row : row + 1, :n])
        alone = loss(answer, Seq(codes[row : row + 1, :m], symbols[row : row + 1, :m]), weights[:1])
        torch.testing.assert_close(alone[0], together[row])


def test_a_target_that_no_path_says_costs_nothing_and_teaches_nothing() -> None:
    scores = torch.randn(2, 2, 3, requires_grad=True)
    answer = Seq(scores, torch.ones(2, 2).bool())
    codes = Seq(torch.tensor([[1, 1], [1, 2]]), torch.ones(2, 2).bool())  # 1 1 needs three frames
    cost = objectives.ctc(PLAIN)(answer, codes, torch.ones(2, 3))
    assert cost[0] == 0
    assert cost[1] > 0
    cost.sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert (scores.grad[0] == 0).all()


def test_ctc_of_no_symbols_is_minus_the_log_of_silence() -> None:
    scores = torch.randn(1, 3, 4)
    nothing = Seq(torch.zeros(1, 1).long(), torch.zeros(1, 1).bool())
    cost = objectives.ctc(PLAIN)(Seq(scores, torch.ones(1, 3).bool()), nothing, torch.ones(1, 4))
    assert cost.item() == pytest.approx(-scores[0].log_softmax(1)[:, 0].sum().item(), rel=1e-5)


def test_token_cross_entropy_is_the_mean_of_minus_the_logs_of_the_symbols() -> None:
    chances = torch.tensor([[[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]]])
    mask = torch.ones(1, 2).bool()
    targets = Seq(torch.tensor([[3, 1]]), mask)
    cost = objectives.token_cross_entropy(PLAIN)(
        Seq(chances.log(), mask), targets, torch.ones(1, 4)
    )
    assert cost.item() == pytest.approx((math.log(1 / 0.4) + math.log(4)) / 2, rel=1e-6)


def test_token_cross_entropy_does_not_look_behind_the_end() -> None:
    logs = torch.randn(2, 3, 5).log_softmax(2)
    mask = several([3, 1], 3)
    loss, weights = objectives.token_cross_entropy(Cost(0.1, 1.0)), torch.ones(2, 5)
    clean = loss(Seq(logs, mask), Seq(torch.tensor([[4, 1, 3], [1, 0, 0]]), mask), weights)
    dirty_logs = logs.masked_fill(~mask[..., None], -50.0)
    dirty = loss(Seq(dirty_logs, mask), Seq(torch.tensor([[4, 1, 3], [1, 4, 4]]), mask), weights)
    torch.testing.assert_close(clean, dirty)


def test_smoothing_shares_a_part_between_all_that_may_be_said() -> None:
    logs = torch.tensor([[[0.1, 0.2, 0.3, 0.4]]]).log()  # padding, unknown, start, end
    one_position = torch.ones(1, 1).bool()
    targets = Seq(torch.tensor([[3]]), one_position)
    loss = objectives.token_cross_entropy(Cost(0.2, 1.0))
    cost = loss(Seq(logs, one_position), targets, torch.ones(1, 4))
    by_hand = 0.8 * -math.log(0.4) + 0.2 * (-math.log(0.4) - math.log(0.2)) / 2
    assert cost.item() == pytest.approx(by_hand, rel=1e-6)


def test_ctc_learns_a_toy_to_near_zero() -> None:
    torch.manual_seed(0)
    codes = torch.tensor([[1, 2], [2, 1], [1, 1], [2, 0]])
    mask = several([2, 2, 2, 1], 2)
    x = torch.randn(4, 6, 8)
    model, loss = nn.Linear(8, 3), objectives.build("transcribe", "auto", PLAIN)
    answer = Seq(torch.zeros(0), torch.ones(4, 6).bool())
    weights = torch.ones(4, 3)
    cost = _fit(model, lambda: loss(answer._replace(x=model(x)), Seq(codes, mask), weights).mean())
    assert cost < 0.02


def test_token_cross_entropy_learns_a_toy_to_near_zero() -> None:
    torch.manual_seed(0)
    targets = Seq(torch.tensor([[4, 5, 3], [5, 3, 0]]), several([3, 2], 3))
    x, weights = torch.randn(2, 3, 8), torch.ones(2, 6)
    model, loss = nn.Linear(8, 6), objectives.build("summarise", "auto", PLAIN)
    cost = _fit(
        model, lambda: loss(Seq(model(x).log_softmax(2), targets.mask), targets, weights).mean()
    )
    assert cost < 0.01


def _fit(model: nn.Module, loss: object) -> float:
    assert callable(loss)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.3)
    for _ in range(200):
        optimiser.zero_grad()
        cost: Tensor = loss()
        cost.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return float(loss().detach())


def said(*rows: list[float]) -> Seq[Tensor]:
    """Raw scores of some rows."""
    return one(torch.tensor(rows))


def test_divergence_from_a_teacher_computed_by_hand() -> None:
    """Two labels: the teacher says 3/4, the student 1/2, at T = 1; T^2 = 4 times that of the
    halved scores at T = 2."""
    teacher, student = said([math.log(3), 0.0]), said([0.0, 0.0])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    soft = objectives.divergence(1.0, objectives.Cost(0.0, 1.0))
    assert float(soft(student, [teacher], torch.ones(1, 2))) == pytest.approx(expected, rel=1e-5)
    warm = objectives.divergence(2.0, objectives.Cost(0.0, 1.0))
    twice = said([2 * math.log(3), 0.0])
    assert float(warm(student, [twice], torch.ones(1, 2))) == pytest.approx(4 * expected, rel=1e-5)


def test_several_teachers_are_the_mean_of_their_probabilities() -> None:
    """One is sure of one label, one of the other: together they know nothing, as the student."""
    soft = objectives.divergence(1.0, objectives.Cost(0.0, 1.0))
    teachers = [said([math.log(3), 0.0]), said([0.0, math.log(3)])]
    cost = soft(said([5.0, 5.0]), teachers, torch.ones(1, 2))
    assert float(cost) == pytest.approx(0, abs=1e-6)


def test_a_label_that_does_not_compete_is_not_distilled() -> None:
    soft = objectives.divergence(1.0, objectives.Cost(0.0, 1.0))
    weights = torch.tensor([[1.0, 1.0, 0.0]])
    cost = soft(said([1.0, 1.0, 9.0]), [said([2.0, 2.0, -9.0])], weights)
    assert float(cost) == pytest.approx(0, abs=1e-6)


def test_divergence_by_position_is_the_mean_over_real_ones() -> None:
    soft = objectives.divergence(1.0, objectives.Cost(0.0, 1.0))
    x = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [7.0, -7.0]]])
    mask = torch.tensor([[True, True, False]])
    told = torch.tensor([[[math.log(3), 0.0], [0.0, 0.0], [-9.0, 9.0]]])
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    found = soft(Seq(x, mask), [Seq(told, mask)], torch.ones(1, 2))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_numbers_are_distilled_in_units_of_their_spread() -> None:
    soft = objectives.distance(1.0, objectives.Cost(0.0, 10.0))
    cost = soft(said([5.0]), [said([20.0]), said([30.0])], torch.ones(1, 1))
    assert float(cost) == pytest.approx(4.0)


def test_every_task_can_be_distilled() -> None:
    assert objectives.DISTILLED.keys() == objectives.LOSSES.keys() == TASKS.keys()
