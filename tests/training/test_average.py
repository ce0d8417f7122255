"""The moving average of weights: by hand, its beginning, and what becomes of counts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tiny import LABELLED

from moodal.training import average, loop
from moodal.training.loop import Job

MakeJob = Callable[..., Job]


def filled(job: Job, value: float) -> Job:
    with torch.no_grad():
        for tensor in job.network.state_dict().values():
            tensor.fill_(value)
    return job


def test_it_is_what_the_formula_says(make_job: MakeJob) -> None:
    job = filled(make_job(LABELLED), 0.0)
    kept = average.begin(job.network)
    filled(job, 1.0)
    average.follow(kept, job.network, decay=0.5, step=0)  # (1 + 0) / (10 + 0) is below 0.5
    for name, tensor in kept.state_dict().items():
        expected = 0.9 if tensor.is_floating_point() else 1
        torch.testing.assert_close(tensor, torch.full_like(tensor, expected), msg=name)
    filled(job, 2.0)
    average.follow(kept, job.network, decay=0.5, step=100)  # 101 / 110 is above it
    for tensor in kept.state_dict().values():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, torch.full_like(tensor, 0.5 * 0.9 + 0.5 * 2.0))


def test_it_learns_nothing_and_changes_nothing_of_the_network(make_job: MakeJob) -> None:
    job = make_job(LABELLED)
    before = {name: t.clone() for name, t in job.network.state_dict().items()}
    kept = average.begin(job.network)
    average.follow(kept, job.network, decay=0.9, step=3)
    assert not any(p.requires_grad for p in kept.parameters())
    assert all(torch.equal(before[name], t) for name, t in job.network.state_dict().items())


def test_what_is_kept_is_the_average_and_it_moves_less_than_the_weights(make_job: MakeJob) -> None:
    def moved(decay: float) -> float:
        job = make_job(LABELLED, epochs=1, average=decay, learning_rate=0.03)
        before = {name: p.detach().clone() for name, p in job.network.named_parameters()}
        loop.fit(job)
        job.network.cpu()
        return sum(
            float((p.detach() - before[name]).abs().sum())
            for name, p in job.network.named_parameters()
        )

    assert 0 < moved(0.9) < moved(0.0)
