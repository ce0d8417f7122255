"""The path of the learning rate by hand; what L1, L2 and each optimiser do in one step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moodal.config import Train
from moodal.training import optimise


def settings(**given: object) -> Train:
    return Train.model_validate(given)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("none", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_the_rate_climbs_then_falls_as_worked_by_hand(decay: str, expected: list[float]) -> None:
    chosen = settings(warmup=1 / 3, decay=decay)
    assert [optimise.factor(s, 6, chosen) for s in range(6)] == pytest.approx(expected)


@pytest.mark.parametrize("decay", optimise.DECAYS)
def test_the_rate_is_a_share_whatever_the_warm_up(decay: str) -> None:
    for warmup in (0.0, 0.05, 0.5, 1.0):
        path = [optimise.factor(s, 40, settings(warmup=warmup, decay=decay)) for s in range(40)]
        assert all(0.0 < share <= 1.0 for share in path)
        top = path.index(max(path))
        assert path[: top + 1] == sorted(path[: top + 1])
        assert path[top:] == sorted(path[top:], reverse=True)


def step(chosen: Train, gradient: float = 0.0) -> tuple[nn.Linear, nn.Linear]:
    """A layer of ones before and after one step with the same gradient everywhere."""
    before, after = nn.Linear(3, 2), nn.Linear(3, 2)
    for layer in (before, after):
        for parameter in layer.parameters():
            nn.init.ones_(parameter)
    optimiser = optimise.build(after, chosen)
    for parameter in after.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    optimiser.step()
    return before, after


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_l2_shrinks_weights_by_rate_times_decay_and_leaves_biases(name: str) -> None:
    _, after = step(settings(optimiser=name, learning_rate=0.1, l2=0.5))
    torch.testing.assert_close(after.weight, torch.full((2, 3), 1 - 0.1 * 0.5))
    torch.testing.assert_close(after.bias, torch.ones(2))


def test_l2_is_part_of_the_gradient_in_adam_so_its_size_does_not_matter() -> None:
    for l2 in (0.1, 5.0):
        _, after = step(settings(optimiser="adam", learning_rate=0.1, l2=l2))
        torch.testing.assert_close(after.weight, torch.full((2, 3), 0.9))


@pytest.mark.parametrize(("name", "moved"), [("sgd", 0.1 * 0.25), ("adam", 0.1), ("adamw", 0.1)])
def test_the_first_step_of_each_optimiser_is_as_published(name: str, moved: float) -> None:
    # Adam's first step is the rate itself, whatever the gradient (Kingma and Ba 2015, section 2.1).
    _, after = step(settings(optimiser=name, learning_rate=0.1, l2=0.0), gradient=0.25)
    torch.testing.assert_close(after.weight, torch.full((2, 3), 1 - moved), atol=1e-6, rtol=0)


def test_momentum_adds_the_last_step_to_the_next() -> None:
    layer = nn.Linear(1, 1)
    nn.init.zeros_(layer.weight)
    optimiser = optimise.build(
        layer, settings(optimiser="sgd", learning_rate=1.0, momentum=0.5, l2=0)
    )
    for _ in range(2):
        layer.weight.grad = torch.ones(1, 1)
        optimiser.step()
    assert layer.weight.item() == pytest.approx(-1.0 - 1.5)


def test_l1_is_the_sum_of_absolute_weights_without_biases() -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0], [0.5, 0.0]]))
        layer.bias.fill_(100.0)
    cost = optimise.l1(layer)
    cost.backward()  # type: ignore[no-untyped-call]
    assert cost.item() == pytest.approx(3.5)
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[1.0, -1.0], [1.0, 0.0]]
    assert layer.bias.grad is None


def test_the_rate_falls_with_depth_and_a_deep_layer_waits() -> None:
    settings = Train(layer_decay=0.5, unfreeze_epochs=1.5)
    head, fusion, stem = {"depth": 0}, {"depth": 1}, {"depth": 3}
    assert [optimise.rate(g, 9.0, settings) for g in (head, fusion, stem)] == [1.0, 0.5, 0.125]
    assert [optimise.rate(g, 0.0, settings) for g in (head, fusion, stem)] == [1.0, 0.0, 0.0]
    assert [optimise.rate(g, 1.5, settings) for g in (head, fusion, stem)] == [1.0, 0.5, 0.0]


def test_groups_are_of_one_depth() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    built = optimise.build(network, Train(l2=0.1), lambda name: 5 if name[0] == "0" else 0)
    found = {(g["depth"], g["weight_decay"], len(g["params"])) for g in built.param_groups}
    assert found == {(5, 0.1, 1), (5, 0.0, 1), (0, 0.1, 1), (0, 0.0, 1)}
