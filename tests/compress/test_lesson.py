"""A student's lesson: its teacher's answers, what both see in a batch, and the labels there are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from moodal.compress.lesson import given_by, likeness, overheard
from moodal.compress.plan import Distil
from moodal.model.model import Network
from moodal.training import objectives
from moodal.training.loader import Batch
from moodal.training.objectives import Cost
from moodal.types import Seq

TEXT, SOUND = {"text": "tokens"}, {"audio": "frames"}
COST = Cost(0.0, 1.0)
Made = Callable[..., tuple[Network, Any]]


def test_likeness_computed_by_hand() -> None:
    """Two rows at right angles in one network, the same in the other: [[1, 0], [0, 1]] against
    [[r, r], [r, r]], r = 1 / sqrt(2), over B^2 = 4."""
    apart, same = torch.eye(2), torch.ones(2, 3)
    r = 1 / math.sqrt(2)
    expected = (2 * (1 - r) ** 2 + 2 * r**2) / 4
    assert float(likeness(apart, same)) == pytest.approx(expected, rel=1e-5)


def test_likeness_knows_no_axes_and_no_scale() -> None:
    x = torch.randn(5, 4)
    turned, _ = torch.linalg.qr(torch.randn(4, 4))
    assert float(likeness(x, 3 * x @ turned)) == pytest.approx(0, abs=1e-6)
    assert float(likeness(x, torch.randn(5, 7))) > 0.01


@pytest.mark.parametrize(("kinds", "settings"), [(TEXT, ()), (SOUND, ("task=transcribe",))])
def test_what_a_network_sees_is_overheard_while_it_lasts(
    kinds: Any, settings: tuple[str, ...], make: Made
) -> None:
    network, feed = make(kinds, *settings)
    with overheard(network) as heard:
        network(feed)
    assert heard[0].shape == (3, network.width)
    before = heard[0].clone()
    network({m: Seq(seq.x[:1], seq.mask[:1]) for m, seq in feed.items()})
    torch.testing.assert_close(heard[0], before)


def batch_of(feed: Any, codes: list[int | None]) -> Batch:
    """Three rows of three labels; None = unlabelled."""
    targets = torch.zeros(3, 1, 3)
    mask = torch.tensor([[code is not None] for code in codes])
    for row, code in enumerate(codes):
        if code is not None:
            targets[row, 0, code] = 1
    return Batch(feed, Seq(targets, mask), torch.ones(3, 3), {})


def learned(teachers: list[Network], student: Network, batch: Batch, how: Distil) -> Tensor:
    loss = objectives.build("classify", "auto", COST)
    with given_by(teachers, student, how, objectives.divergence) as teach:
        answer = student(batch.inputs).answer
        costs: Tensor = teach(loss, COST)(answer, batch)
    return costs


def test_a_student_that_answers_as_its_teacher_has_nothing_to_learn(make: Made) -> None:
    network, feed = make(TEXT)
    how = Distil(soft=1, hidden=1)
    costs = learned([network], network, batch_of(feed, [0, 1, 2]), how)
    torch.testing.assert_close(costs, torch.zeros(3), atol=1e-5, rtol=0)


def test_an_unlabelled_row_has_its_teachers_alone(make: Made) -> None:
    """Whatever its target holds; a labelled one has both, by the weight."""
    teacher, feed = make(TEXT)
    student, _ = make(TEXT, "text_encoder.width=8")
    with torch.no_grad():
        student.bias.copy_(torch.tensor([1.0, -1.0, 0.5]))
    how = Distil(soft=0.25, hidden=0)
    batch = batch_of(feed, [0, None, 2])
    costs = learned([teacher], student, batch, how)
    soft = learned([teacher], student, batch, how.model_copy(update={"soft": 1.0}))
    hard = objectives.build("classify", "auto", COST)(
        student(feed).answer, batch.targets, batch.weights
    )
    torch.testing.assert_close(costs[1], soft[1])
    torch.testing.assert_close(costs[[0, 2]], (0.25 * soft + 0.75 * hard)[[0, 2]])
    other = replace(batch, targets=Seq(batch.targets.x + 5, batch.targets.mask))
    torch.testing.assert_close(learned([teacher], student, other, how)[1], costs[1])


def test_a_batch_without_any_label_teaches(make: Made) -> None:
    teacher, feed = make(TEXT)
    student, _ = make(TEXT, "text_encoder.width=8")
    with torch.no_grad():
        student.bias.copy_(torch.tensor([1.0, -1.0, 0.5]))
    costs = learned([teacher], student, batch_of(feed, [None] * 3), Distil())
    assert bool((costs > 0).all())
    costs.sum().backward()  # type: ignore[no-untyped-call]


def test_a_teacher_learns_nothing(make: Made) -> None:
    teacher, feed = make(TEXT)
    student, _ = make(TEXT, "text_encoder.width=8")
    learned([teacher], student, batch_of(feed, [0, 1, 2]), Distil()).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in teacher.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


def test_hooks_are_gone_after_the_lesson(make: Made) -> None:
    teacher, feed = make(TEXT)
    learned([teacher], teacher, batch_of(feed, [0, 1, 2]), Distil())
    fusion: Any = teacher.answer.fusion  # type: ignore[union-attr]
    assert not fusion._forward_hooks
