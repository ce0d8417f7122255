"""Examples to batches of tensors: bucketed by length, augmented, made one step ahead.

Every random choice is drawn from (seed, epoch, row): a batch is the same however often the run
was stopped, and whichever process makes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moodal.preprocess import batch
from moodal.preprocess.batch import Array, Inputs
from moodal.preprocess.symbols import END
from moodal.tasks import Task
from moodal.training import denoise
from moodal.training.examples import Examples
from moodal.training.mixture import Mixture
from moodal.types import Modality, Seq

BUCKET_BATCHES = 50
"""Batches whose rows are sorted by length together: enough to save padding, few enough to mix."""
AHEAD = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """inputs: modality -> Seq of tensors, for the modalities some row has. targets: (B, 1, C), or
    (B, T) codes of a text's symbols. weights: (B, C) of the outputs, 0 = does not compete. keep:
    modality -> (B,) bool, False where modality dropout hides it."""

    inputs: dict[Modality, Seq[Tensor]]
    targets: Seq[Tensor]
    weights: Tensor
    keep: dict[Modality, Tensor]


@dataclass(frozen=True, slots=True)
class Loader:
    """weights: (C,) of the outputs, where no mixture says otherwise. training: augment, shuffle and
    drop modalities. windows: modality -> positions read of it. hides: the text of
    each symbol, where a clause of each text is hidden and is its target; () = the targets are."""

    examples: Examples
    inputs: Inputs
    batch_size: int
    seed: int
    task: Task
    weights: Array
    training: bool
    modality_dropout: float = 0.0
    mixture: Mixture | None = None
    windows: Mapping[Modality, int] = field(default_factory=dict)
    hides: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Batches in an epoch."""
        n_rows = len(self.examples)
        if self.training and self.mixture is not None:
            n_rows = sum(self.mixture.drawn.values())
        return math.ceil(n_rows / self.batch_size)

    def rows(self, epoch: int) -> list[NDArray[np.int64]]:
        """The rows of each batch."""
        lengths = self._lengths()
        if not self.training:
            return self._cut(np.argsort(lengths, kind="stable"))
        rng = np.random.default_rng((self.seed, epoch))
        order = self._order(rng)
        size = self.batch_size * BUCKET_BATCHES
        buckets = [order[i : i + size] for i in range(0, len(order), size)]
        # Batches are cut within a bucket, so only the last of all is short.
        batches = self._cut(
            np.concatenate([b[np.argsort(lengths[b], kind="stable")] for b in buckets])
        )
        return [batches[i] for i in rng.permutation(len(batches))]

    def batches(
        self, epoch: int, *, first: int = 0, share: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """Batches from number `first` on; share = (this process, processes)."""
        place, n = share
        rows = self.rows(epoch)[first:]
        # Processes step together, so each must have as many batches as any other.
        rows = rows[: len(rows) - len(rows) % n][place::n]
        with ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(self.make, r, epoch) for r in rows[:AHEAD]]
            for following in range(AHEAD, len(rows) + AHEAD):
                made = waiting.pop(0).result()
                if following < len(rows):
                    waiting.append(pool.submit(self.make, rows[following], epoch))
                yield made

    def make(self, rows: Sequence[int] | NDArray[np.int64], epoch: int) -> Batch:
        items = [self._item(int(row), epoch) for row in rows]
        targets = self._hide(items, rows, epoch) if self.hides else self._targets(rows)
        inputs: dict[Modality, Seq[Tensor]] = {}
        for modality, column in self.examples.arrays.items():
            if any(modality in item for item in items):
                empty = _empty_like(next(a for a in column if a is not None), self, modality)
                x, mask = batch.pad([item.get(modality, empty) for item in items])
                inputs[modality] = Seq(torch.from_numpy(x), torch.from_numpy(mask))
        places = np.asarray(rows)
        weights = np.broadcast_to(self.weights, (len(places), len(self.weights)))
        if self.mixture is not None:
            groups = [self.examples.groups[row] for row in places]
            weights = self.mixture.weigh(groups, len(self.weights))
        return Batch(
            inputs,
            targets,
            torch.from_numpy(weights.astype(np.float32)),
            self._keep(inputs, rows, epoch),
        )

    def _targets(self, rows: Sequence[int] | NDArray[np.int64]) -> Seq[Tensor]:
        x, mask = self.examples.targets(np.asarray(rows), self.task, len(self.weights))
        targets = torch.from_numpy(x)
        return Seq(targets if x.dtype == np.int64 else targets.float(), torch.from_numpy(mask))

    def _hide(
        self,
        items: list[dict[Modality, Array]],
        rows: Sequence[int] | NDArray[np.int64],
        epoch: int,
    ) -> Seq[Tensor]:
        """Hide a part of each text; what is hidden is the target."""
        targets = []
        for row, item in zip(rows, items, strict=True):
            rng = np.random.default_rng((self.seed, epoch, int(row), 98))
            codes = item["text"][:, 0]
            stops = denoise.ends([self.hides[code] for code in codes])
            source, target = denoise.hide(codes, stops, rng)
            item["text"] = source.astype(np.int32)[:, None]
            targets.append(np.append(target, END).astype(np.int64))
        x, mask = batch.pad(targets)
        return Seq(torch.from_numpy(x), torch.from_numpy(mask))

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        if self.mixture is not None:
            return self.mixture.order(self.examples.groups, rng)
        return rng.permutation(len(self.examples))

    def _item(self, row: int, epoch: int) -> dict[Modality, Array]:
        item: dict[Modality, Array] = {}
        for place, (modality, column) in enumerate(self.examples.arrays.items()):
            if (decoded := column[row]) is None:
                continue
            given, window = self.inputs[modality], self.windows.get(modality)
            if not self.training:
                item[modality] = given.finish(decoded)[:window]
                continue
            rng = np.random.default_rng((self.seed, epoch, row, place))
            finished = given.finish(given.augment(decoded, rng))[:window]
            item[modality] = given.augment_finished(finished, rng)
        return item

    def _keep(
        self,
        inputs: dict[Modality, Seq[Tensor]],
        rows: Sequence[int] | NDArray[np.int64],
        epoch: int,
    ) -> dict[Modality, Tensor]:
        """Hide present modalities by chance; a row left with none keeps them all."""
        if not self.training or not self.modality_dropout:
            return {}
        rng = np.random.default_rng((self.seed, epoch, int(rows[0]), 99))
        present = np.stack([s.mask.any(1).numpy() for s in inputs.values()], 1)  # (B, modalities)
        kept = present & (rng.random(present.shape) >= self.modality_dropout)
        kept |= ~kept.any(1, keepdims=True)
        return {m: torch.from_numpy(kept[:, i].copy()) for i, m in enumerate(inputs)}

    def _lengths(self) -> NDArray[np.int64]:
        """The longest sequence of each row; pictures are all of one length."""
        lengths = np.zeros(len(self.examples), np.int64)
        for column in self.examples.arrays.values():
            sizes = np.array([0 if a is None else len(a) for a in column])
            # Samples and tokens are compared as shares of the longest of their kind.
            lengths += (1000 * sizes) // max(1, sizes.max())
        return lengths

    def _cut(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]


def _empty_like(decoded: Array, loader: Loader, modality: Modality) -> Array:
    """No positions at all: what an absent modality is before padding."""
    return loader.inputs[modality].finish(decoded)[:0]
