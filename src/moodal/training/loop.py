"""The one training loop, on Hugging Face Accelerate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from moodal.config import Decode, Train
from moodal.errors import ConfigError
from moodal.model.model import Answers, Network
from moodal.runtime import output
from moodal.tasks import Task
from moodal.training import average, checkpoint, mixture, optimise
from moodal.training.examples import Codec
from moodal.training.loader import Batch, Loader
from moodal.training.objectives import SAYS, Lesson, Loss
from moodal.types import Seq

Watch = Callable[[Mapping[str, float], str], None]
"""Told of every epoch once it is judged: its row of the history, and the same in words. What it
raises ends the run."""


def say(row: Mapping[str, float], words: str) -> None:
    output.say(words)


@dataclass(slots=True)
class State:
    """Where a run stands. epoch, step: the next batch. loss_sum: of this epoch's batches."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_score: float | None = None
    best_epoch: int = -1
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is made of. loss: what is validated. lesson: what is learned. decode: how texts
    are searched for. folder: of its checkpoints; None = it keeps none. identity: settings and data,
    which a resumed run must share."""

    network: Network
    loss: Loss
    lesson: Lesson
    codec: Codec
    train: Loader
    valid: Loader
    settings: Train
    decode: Decode
    folder: Path | None
    identity: dict[str, Any]

    @property
    def task(self) -> Task:
        return self.codec.task


def fit(job: Job, *, resume: bool = False, watch: Watch = say) -> list[dict[str, float]]:
    """Train until the score on the validation set stops rising; leave the best weights in place.

    Returns: one row an epoch: epoch, train_loss, valid_loss, score, seconds, loader_share (of
    the time, spent waiting for batches). Raises: ConfigError, CapacityError.
    """
    if not job.settings.epochs:
        raise ConfigError(
            "train.epochs=0: nothing would be learned, which only a run that starts from a trained "
            "model (--from) may ask for; give at least 1"
        )
    torch.manual_seed(job.settings.seed)
    run = _Fit(job, watch)
    if resume:
        run.restore()
    while not run.state.finished:
        run.epoch()
    run.network.load_state_dict(run.best)
    return run.state.history


class _Fit:
    def __init__(self, job: Job, watch: Watch) -> None:
        self.job, self.state, self.watch = job, State(), watch
        settings = job.settings
        for part in job.network.frozen(settings.freeze):
            part.requires_grad_(False)
        # Accelerate keeps one precision for the process; a run has its own.
        AcceleratorState._reset_state()
        # A batch may lack a modality; then its encoder has no gradient in that step.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.accelerator = Accelerator(mixed_precision=settings.precision, kwargs_handlers=[unused])
        self.wrapped, self.optimiser = self.accelerator.prepare(
            job.network, optimise.build(job.network, settings, job.network.depth)
        )
        self.network: Network = self.accelerator.unwrap_model(self.wrapped, keep_fp32_wrapper=False)
        self.judged = average.begin(self.network) if settings.average else self.network
        self.best = _copy(self.judged.state_dict())
        self.saved = time.monotonic()

    def epoch(self) -> None:
        started, waited = time.monotonic(), [0.0]
        n_batches = len(self.job.train)
        bar = tqdm(
            _timed(self._batches(), waited),
            desc=f"epoch {self.state.epoch + 1}/{self.job.settings.epochs}",
            total=n_batches,
            initial=self.state.step,
            unit=" batches",
            delay=2,
            leave=False,
            disable=None if self.accelerator.is_main_process else True,
        )
        self.wrapped.train()
        for part in self.network.frozen(self.job.settings.freeze):
            part.eval()  # nor may its running means move
        for batch in bar:
            self.state.loss_sum += self._step(batch)
            self.state.step += self.accelerator.num_processes
            if time.monotonic() - self.saved > self.job.settings.checkpoint_seconds:
                self.save()
        seconds = time.monotonic() - started
        n_own = max(1, n_batches // self.accelerator.num_processes)
        self._judge(self.state.loss_sum / n_own, seconds, waited[0] / seconds)
        self.save()

    def _batches(self) -> Iterator[Batch]:
        share = (self.accelerator.process_index, self.accelerator.num_processes)
        return self.job.train.batches(self.state.epoch, first=self.state.step, share=share)

    def _step(self, batch: Batch) -> float:
        settings, n_batches = self.job.settings, len(self.job.train)
        step = self.state.epoch * n_batches + self.state.step
        rate = settings.learning_rate
        rate *= optimise.factor(step, settings.epochs * n_batches, settings)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * optimise.rate(group, step / n_batches, settings)
        with self.accelerator.autocast():
            batch = self._here(batch)
            answers = self.wrapped(batch.inputs, batch.keep or None, batch.targets)
            loss = self._loss(answers, batch)
        self.accelerator.backward(loss)
        if settings.clip:
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if settings.average:
            average.follow(self.judged, self.network, decay=settings.average, step=step)
        return float(loss.detach())

    def _loss(self, answers: Answers, batch: Batch) -> Tensor:
        settings, cost = self.job.settings, self.job.loss
        loss = self.job.lesson(answers.answer, batch).mean()
        # One modality alone is the answer itself: its own loss would only repeat it.
        if settings.auxiliary and len(self.network.modalities) > 1:
            for says in answers.auxiliary.values():
                has = (says.mask[:, 0] & batch.targets.mask.any(1)).to(loss)
                own = (cost(says, batch.targets, batch.weights) * has).sum()
                loss = loss + settings.auxiliary * own / has.sum().clamp(min=1.0)
        if settings.l1:
            loss = loss + settings.l1 * optimise.l1(self.network)
        return loss

    def _judge(self, train_loss: float, seconds: float, loader_share: float) -> None:
        """Score the epoch on the validation set; keep its weights if they are the best so far."""
        state, task = self.state, self.job.task
        scores, valid_loss = self._agreed(*self._validate())
        if not math.isfinite(train_loss + valid_loss):
            raise ConfigError(
                f"the loss is {train_loss:.3g} in training and {valid_loss:.3g} in validation "
                f"after epoch {state.epoch + 1}: the run has diverged; lower "
                f"train.learning_rate={self.job.settings.learning_rate:g}, or set train.clip=1"
            )
        valid = self.job.valid
        found = mixture.scores(task, self.job.codec.labels, valid.examples, scores, valid.mixture)
        score = float(np.mean(list(found.values())))
        row = {"epoch": state.epoch + 1, "train_loss": train_loss, "valid_loss": valid_loss}
        row |= {"score": score, "seconds": seconds, "loader_share": loader_share}
        state.history.append(row)
        tell = f"{task.goal} {score:.3f}, loss {train_loss:.3f} (validation {valid_loss:.3f})"
        if self.accelerator.is_main_process:
            name = f"epoch {state.epoch + 1}/{self.job.settings.epochs}"
            sets = "".join(f", {group} {goal:.3f}" for group, goal in found.items() if group)
            self.watch(row, f"{name}: {tell}{sets}, {seconds:.0f} s")
        sign = 1.0 if task.higher_is_better else -1.0
        if state.best_score is None or sign * score > sign * state.best_score:
            state.best_score, state.best_epoch = score, state.epoch
            self.best = _copy(self.judged.state_dict())
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
        out_of_patience = state.epoch - state.best_epoch > self.job.settings.patience
        state.finished = out_of_patience or state.epoch >= self.job.settings.epochs

    def _agreed(
        self, scores: NDArray[np.float64], valid_loss: float
    ) -> tuple[NDArray[np.float64], float]:
        """What the first process found: all must stop, or go on, together."""
        if self.accelerator.num_processes == 1:
            return scores, valid_loss
        device = self.accelerator.device
        found = [torch.from_numpy(scores).to(device), torch.tensor([valid_loss], device=device)]
        agreed, loss = (part.cpu() for part in broadcast(found))
        return agreed.numpy(), float(loss)

    def _validate(self) -> tuple[NDArray[np.float64], float]:
        """Every process scores all of it: it is small, and then none has to wait for another."""
        valid = self.job.valid
        self.judged.eval()
        judged: dict[int, NDArray[Any]] = {}
        total = 0.0
        with torch.inference_mode():
            for rows, made in zip(valid.rows(0), valid.batches(0), strict=True):
                batch = self._here(made)
                answer = self.judged(batch.inputs, None, batch.targets).answer
                total += float(self.job.loss(answer, batch.targets, batch.weights).sum())
                judged |= zip(rows.tolist(), self._judged(rows, batch, answer), strict=True)
        scores = np.stack([judged[row] for row in range(len(judged))])
        return scores, total / len(valid.examples)

    def _judged(
        self, rows: NDArray[np.int64], batch: Batch, answer: Seq[Tensor]
    ) -> list[NDArray[Any]]:
        """What the score needs of each row: (C,) raw scores, or what is counted of a text."""
        job = self.job
        if (says := SAYS.get(job.task.head)) is None:
            return list(answer.x[:, 0].float().cpu().numpy().astype(np.float64))
        texts = says(self.judged, batch, job.codec, job.decode)
        return [
            job.task.judge(job.valid.examples.texts[row], text)
            for row, text in zip(rows.tolist(), texts, strict=True)
        ]

    def _here(self, batch: Batch) -> Batch:
        """The batch on this process's device."""
        device = self.accelerator.device
        move: Callable[[Tensor], Tensor] = lambda t: t.to(device, non_blocking=True)  # noqa: E731
        inputs = {m: type(s)(move(s.x), move(s.mask)) for m, s in batch.inputs.items()}
        keep = {m: move(k) for m, k in batch.keep.items()}
        targets = Seq(*map(move, batch.targets))
        return Batch(inputs, targets, move(batch.weights), keep)

    def save(self) -> None:
        self.saved = time.monotonic()
        if self.job.folder is None or not self.accelerator.is_main_process:
            return
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        if self.judged is not self.network:
            tensors |= {f"average.{k}": v for k, v in self.judged.state_dict().items()}
        tensors |= checkpoint.flatten_optimiser(self.optimiser.optimizer)
        tensors["generator"] = torch.get_rng_state()
        if self.accelerator.device.type == "cuda":
            tensors["generator.cuda"] = torch.cuda.get_rng_state()
        state = asdict(self.state) | {"identity": self.job.identity}
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        checkpoint.save(self.job.folder, tensors, state)

    def restore(self) -> None:
        assert self.job.folder is not None, "what keeps no checkpoints is not resumed"
        tensors, values = checkpoint.load(self.job.folder, self.job.identity)
        self.network.load_state_dict(_part(tensors, "network."))
        self.best = _part(tensors, "best.")
        if self.judged is not self.network:
            self.judged.load_state_dict(_part(tensors, "average."))
        checkpoint.restore_optimiser(self.optimiser.optimizer, tensors)
        torch.set_rng_state(tensors["generator"])
        if "generator.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["generator.cuda"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(values["scaler"])
        known = State.__dataclass_fields__
        self.state = State(**{k: v for k, v in values.items() if k in known})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().cpu().clone() for name, t in weights.items()}


def _timed(batches: Iterator[Batch], waited: list[float]) -> Iterator[Batch]:
    """Pass batches on and add up the seconds spent waiting for them."""
    while True:
        started = time.monotonic()
        batch = next(batches, None)
        waited[0] += time.monotonic() - started
        if batch is None:
            return
        yield batch
