"""The loop: learns, keeps the best epoch, stops early, clips, goes on exactly where it stopped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import LABELLED, NUMBERED
from torch import Tensor

from moodal.errors import ConfigError
from moodal.model.model import Network
from moodal.training import loop, objectives
from moodal.training.loop import Job

MakeJob = Callable[..., Job]


class Stopped(Exception):  # noqa: N818
    """As a person's Ctrl-C."""


def scripted(job: Job, scores: Sequence[float]) -> Job:
    """The job, but its epochs score what is written here."""
    left = iter(scores)
    task = replace(job.task, score=lambda codes, answers, labels: {job.task.goal: next(left)})
    return replace(job, codec=replace(job.codec, task=task))


def weights(network: Network) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in network.state_dict().items()}


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("task", [LABELLED, NUMBERED])
def test_it_learns_and_says_how_each_epoch_went(make_job: MakeJob, task: str) -> None:
    job = make_job(task, epochs=6, learning_rate=0.03)
    history = loop.fit(job)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert all(0 <= row["loader_share"] <= 1 and row["seconds"] > 0 for row in history)
    scores = [row["score"] for row in history]
    spread = float(np.std(job.valid.examples.codes))
    assert max(scores) > 0.95 if task == LABELLED else min(scores) < spread / 2


def test_the_weights_left_are_those_of_the_best_epoch(make_job: MakeJob) -> None:
    flat = {"warmup": 0.0, "decay": "none"}  # so that two epochs are the first two of four
    longer = make_job(LABELLED, epochs=4, **flat)
    loop.fit(scripted(longer, [0.1, 0.9, 0.8, 0.9]))
    shorter = make_job(LABELLED, epochs=2, **flat)
    loop.fit(scripted(shorter, [0.1, 0.9]))
    assert equal(weights(longer.network), weights(shorter.network))
    last = make_job(LABELLED, epochs=4, **flat)
    loop.fit(scripted(last, [0.1, 0.2, 0.3, 0.4]))
    assert not equal(weights(longer.network), weights(last.network))


@pytest.mark.parametrize(
    ("task", "scores", "n_epochs"),
    [
        (LABELLED, [0.5, 0.4, 0.4, 0.9, 0.9], 3),
        (LABELLED, [0.5, 0.5, 0.5, 0.9, 0.9], 3),  # as good is not better
        (LABELLED, [0.5, 0.4, 0.6, 0.5, 0.5, 0.9], 5),
        (NUMBERED, [0.5, 0.6, 0.4, 0.5, 0.5, 0.1], 5),
        (NUMBERED, [0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 6),
    ],
)
def test_it_stops_after_patience_epochs_without_a_better_score(
    make_job: MakeJob, task: str, scores: list[float], n_epochs: int
) -> None:
    job = make_job(task, epochs=6, patience=2)
    assert len(loop.fit(scripted(job, scores))) == n_epochs


def test_whoever_watches_is_told_every_epoch_and_ends_the_run_by_raising(
    make_job: MakeJob,
) -> None:
    told: list[tuple[float, str]] = []

    def watch(row: Mapping[str, float], words: str) -> None:
        told.append((row["score"], words))
        if len(told) == 3:
            raise Stopped

    job = replace(make_job(LABELLED, epochs=9), folder=None)
    with pytest.raises(Stopped):
        loop.fit(scripted(job, [0.5, 0.25, 0.75, 1.0]), watch=watch)
    assert [score for score, _ in told] == [0.5, 0.25, 0.75]
    assert told[1][1].startswith(f"epoch 2/9: {job.task.goal} 0.250, loss ")


def test_a_run_without_a_folder_keeps_no_checkpoint_and_learns_the_same(
    make_job: MakeJob,
) -> None:
    kept = make_job(LABELLED)
    unkept = replace(make_job(LABELLED), folder=None)
    history = loop.fit(unkept)
    assert kept.folder is not None
    assert not kept.folder.exists()
    assert [row["score"] for row in loop.fit(kept)] == [row["score"] for row in history]
    assert kept.folder.is_dir()
    assert equal(weights(kept.network), weights(unkept.network))


def one_step(make_job: MakeJob, **settings: Any) -> dict[str, Tensor]:
    """How far each parameter goes in one step of plain gradient descent at a rate of 1."""
    given = {"optimiser": "sgd", "momentum": 0, "learning_rate": 1, "l2": 0, "warmup": 0}
    job = make_job(LABELLED, epochs=1, decay="none", **(given | settings))
    # The head starts near zero: let it say enough for its gradients to be worth clipping.
    for parameter in job.network.answer.head.parameters():
        torch.nn.init.constant_(parameter, 1.0)
    job = replace(job, train=replace(job.train, batch_size=100))
    before = {name: p.detach().clone() for name, p in job.network.named_parameters()}
    loop.fit(job)
    job.network.cpu()
    return {name: p.detach() - before[name] for name, p in job.network.named_parameters()}


def norm(moved: dict[str, Tensor]) -> float:
    return float(torch.cat([m.flatten() for m in moved.values()]).norm())


def test_clipping_bounds_the_norm_of_the_whole_gradient(make_job: MakeJob) -> None:
    free = one_step(make_job, clip=0)
    clipped = one_step(make_job, clip=0.01)
    assert norm(free) > 0.02
    assert norm(clipped) == pytest.approx(0.01, rel=1e-3)
    share = 0.01 / norm(free)
    for name, moved in free.items():  # shorter, in the same direction
        torch.testing.assert_close(clipped[name], moved * share, atol=1e-6, rtol=1e-3)


def test_a_small_gradient_is_not_clipped(make_job: MakeJob) -> None:
    free, roomy = one_step(make_job, clip=0), one_step(make_job, clip=1e6)
    assert all(torch.equal(free[name], roomy[name]) for name in free)


def test_l1_and_l2_shrink_the_weights(make_job: MakeJob) -> None:
    sizes = {}
    cases: dict[str, dict[str, float]]
    cases = {"none": {"l2": 0}, "l1": {"l2": 0, "l1": 0.05}, "l2": {"l2": 5}}
    for name, given in cases.items():
        job = make_job(LABELLED, epochs=3, **given)
        loop.fit(job)
        parameters = [p for p in job.network.parameters() if p.ndim > 1]
        sizes[name] = sum(float(p.detach().abs().sum()) for p in parameters)
    assert sizes["l1"] < 0.9 * sizes["none"]
    assert sizes["l2"] < 0.9 * sizes["none"]


def test_the_loss_grows_with_the_weight_of_what_each_modality_says_alone(
    make_job: MakeJob,
) -> None:
    losses = []
    for weight in (0.0, 0.5, 1.0):
        job = make_job(LABELLED, epochs=1, auxiliary=weight)
        # One batch: the loss is that of the weights as they were drawn.
        losses.append(loop.fit(replace(job, train=replace(job.train, batch_size=100)))[0])
    none, half, full = (row["train_loss"] for row in losses)
    assert half > none + 0.1
    assert full - none == pytest.approx(2 * (half - none), rel=1e-5)


def dying(job: Job, calls: int) -> Job:
    """The job, until a loss has been asked for this often."""
    left = [calls]

    def deadly(*given: Any) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped
        return job.loss(*given)

    return replace(job, loss=deadly, lesson=objectives.by_targets(deadly))


@pytest.mark.parametrize(
    ("optimiser", "average", "calls"),
    [("adamw", 0, 2), ("adamw", 0, 16), ("sgd", 0, 13), ("adamw", 0.9, 12)],
)
def test_a_run_stopped_anywhere_and_resumed_ends_in_the_same_weights(
    make_job: MakeJob, tmp_path: Path, optimiser: str, average: float, calls: int
) -> None:
    # One call of the loss a batch: 5 training and 3 validation batches an epoch.
    given = {"epochs": 3, "auxiliary": 0, "optimiser": optimiser, "average": average}
    whole = make_job(LABELLED, folder=tmp_path / "whole", **given)
    history = loop.fit(whole)
    given["checkpoint_seconds"] = 1e-9  # a state after every batch
    first = make_job(LABELLED, folder=tmp_path / "stopped", **given)
    with pytest.raises(Stopped):
        loop.fit(dying(first, calls))
    second = make_job(LABELLED, folder=tmp_path / "stopped", **given)
    torch.manual_seed(99)
    resumed = loop.fit(second, resume=True)
    assert equal(weights(second.network), weights(whole.network))
    for mine, its in zip(resumed, history, strict=True):
        for name in ("epoch", "train_loss", "valid_loss", "score"):
            assert mine[name] == its[name], name


def test_a_finished_run_resumed_trains_no_more(make_job: MakeJob) -> None:
    job = make_job(LABELLED)
    history = loop.fit(job)
    again = make_job(LABELLED)
    assert loop.fit(dying(again, 0), resume=True) == history
    assert equal(weights(again.network), weights(job.network))


def test_a_run_that_diverges_says_so_and_what_to_lower(make_job: MakeJob) -> None:
    job = make_job(NUMBERED, learning_rate=1e30, optimiser="sgd", clip=0, loss="mse")
    with pytest.raises(ConfigError, match=r"diverged; lower train\.learning_rate=1e\+30"):
        loop.fit(job)


def test_after_mixed_precision_the_network_is_whole_again_and_other_runs_are_not_held_to_it(
    make_job: MakeJob,
) -> None:
    job = make_job(LABELLED, precision="bf16")
    loop.fit(job)
    fresh = copy.deepcopy(make_job(LABELLED).network)
    fresh.load_state_dict(job.network.state_dict())
    batch = next(job.valid.batches(0))
    with torch.inference_mode():
        learned = job.network.cpu().eval()
        half, full = learned(batch.inputs).answer.x, fresh.eval()(batch.inputs).answer.x
    assert half.dtype == torch.float32
    assert torch.equal(half, full), "validated and exported as it will answer: in float32"
    loop.fit(make_job(LABELLED, precision="no"))


def test_mixed_precision_learns_as_well(make_job: MakeJob) -> None:
    history = loop.fit(make_job(LABELLED, precision="bf16", epochs=6, learning_rate=0.03))
    assert max(row["score"] for row in history) > 0.95
