"""What a student learns from a batch: its labels, its teachers' answers, and what these see in it.

Letters: B batch, S source positions, T output positions, D width, C output width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from moodal.compress.plan import Distil
from moodal.model.answers import Frames
from moodal.model.fusion import Fused
from moodal.model.layers import masked_mean
from moodal.model.model import Network
from moodal.training.loader import Batch
from moodal.training.objectives import Cost, Lesson, Loss, Soft
from moodal.types import Seq

Teach = Callable[[Loss, Cost], Lesson]


def likeness(one: Tensor, other: Tensor) -> Tensor:
    """(B, D), (B, D') -> how differently two networks see which rows are alike; a number, 0 =
    alike. Widths need not agree, so no map between them has to be learned, kept and thrown away.

    Source: Tung and Mori, Similarity-Preserving Knowledge Distillation (2019), equations 1 to 4.
    """
    gaps = _alike(one) - _alike(other)
    return gaps.square().sum() / len(one) ** 2


def _alike(x: Tensor) -> Tensor:
    """(B, D) -> (B, B), rows of length 1."""
    return F.normalize(x @ x.T, dim=1)


@contextmanager
def overheard(network: Network) -> Iterator[list[Tensor]]:
    """Filled, at every answer, with one (B, D): what the network has made of its input just before
    it answers."""
    heard: list[Tensor] = []

    def keep(seen: Tensor) -> None:
        heard[:] = [seen]

    def of_fusion(module: Any, given: Any, fused: Fused) -> None:
        keep(fused.summary.x[:, 0])

    def of_frames(module: Any, given: tuple[Tensor, Tensor]) -> None:
        keep(masked_mean(*given))

    answer = network.answer
    if isinstance(answer, Frames):
        hook = answer.register_forward_pre_hook(of_frames)
    else:
        hook = answer.fusion.register_forward_hook(of_fusion)
    try:
        yield heard
    finally:
        hook.remove()


@contextmanager
def given_by(
    teachers: Sequence[Network], student: Network, how: Distil, soft: Callable[[float, Cost], Soft]
) -> Iterator[Teach]:
    """A lesson in which teachers answer the same batch, augmented as it is; a row without a label
    has their answer alone.

    Source of the sum: Hinton et al. (2015), section 2, with weights that sum to 1.
    """
    for teacher in teachers:
        teacher.eval().requires_grad_(False)
    with ExitStack() as stack:
        own = stack.enter_context(overheard(student))
        theirs = [stack.enter_context(overheard(teacher)) for teacher in teachers]

        def teach(loss: Loss, cost: Cost) -> Lesson:
            compare = soft(how.temperature, cost)

            def lesson(answer: Seq[Tensor], batch: Batch) -> Tensor:
                told = [_told(teacher, batch) for teacher in teachers]
                taught = batch.targets.mask.any(1)
                softly = compare(answer, told, batch.weights)
                costs = torch.where(taught, how.soft * softly, softly)
                if taught.any():
                    hard = loss(_rows(answer, taught), *_targets(batch, taught))
                    costs = costs.index_add(0, taught.nonzero()[:, 0], (1 - how.soft) * hard)
                if how.hidden:
                    gaps = [likeness(own[0], heard[0].to(own[0])) for heard in theirs]
                    costs = costs + how.hidden * torch.stack(gaps).mean()
                return costs

            return lesson

        yield teach


def _told(teacher: Network, batch: Batch) -> Seq[Tensor]:
    teacher.to(batch.weights.device)
    with torch.no_grad():
        told: Seq[Tensor] = teacher(batch.inputs, None, batch.targets).answer
    return told


def _rows(seq: Seq[Tensor], rows: Tensor) -> Seq[Tensor]:
    return Seq(seq.x[rows], seq.mask[rows])


def _targets(batch: Batch, rows: Tensor) -> tuple[Seq[Tensor], Tensor]:
    return _rows(batch.targets, rows), batch.weights[rows]
