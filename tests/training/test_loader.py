"""Batches: every row once, the same however often the run stopped, each row as if alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import NUMBERED

from moodal.preprocess.batch import Input
from moodal.tasks import TASKS
from moodal.training.examples import Examples
from moodal.training.loader import Batch, Loader

Array = NDArray[Any]
MODALITIES: tuple[Any, ...] = ("text", "image", "audio")


def shaken(array: Array, rng: np.random.Generator) -> Array:
    return (array + rng.normal(0, 1, array.shape)).astype(np.float32)


def cut(array: Array, rng: np.random.Generator) -> Array:
    """Another length: what augmentation of words and sounds does."""
    return array[: int(rng.integers(1, len(array) + 1))]


SHAKEN = Input(
    kind="vectors",
    decode=lambda value: value,
    augment=shaken,
    finish=lambda array: array * 2,
    augment_finished=cut,
)
STILL = Input("vectors", lambda v: v, lambda a, rng: a, lambda a: a, lambda a, rng: a)

TO_A_NUMBER: dict[str, Any] = {"task": TASKS[NUMBERED], "weights": np.ones(1)}

MakeLoader = Callable[..., Loader]


def labelled(codes: Array, arrays: dict[Any, list[Array | None]]) -> Examples:
    """Rows whose answers are numbers: nothing is spelled."""
    return Examples(codes, arrays, spelled=[np.zeros(0, np.int64)] * len(codes))


@pytest.fixture
def loader() -> MakeLoader:
    def make(n: int = 50, *, given: Input = SHAKEN, longest: int = 9, **options: Any) -> Loader:
        rng = np.random.default_rng(7)
        arrays: dict[Any, list[Array | None]] = {m: [] for m in MODALITIES}
        for row in range(n):
            present = [m for m in MODALITIES if rng.random() < 0.6] or [MODALITIES[row % 3]]
            for m in MODALITIES:
                shape = (int(rng.integers(1, longest + 1)), 2)
                arrays[m].append(
                    rng.normal(row, 0.01, shape).astype(np.float32) if m in present else None
                )
        codes = np.arange(n, dtype=np.float64)
        settings = {"batch_size": 8, "seed": 3, "training": True} | TO_A_NUMBER | options
        return Loader(labelled(codes, arrays), dict.fromkeys(MODALITIES, given), **settings)

    return make


def same(left: Batch, right: Batch) -> bool:
    pairs = list(zip(left.targets, right.targets, strict=True))
    pairs += [
        pair for m in left.inputs for pair in zip(left.inputs[m], right.inputs[m], strict=True)
    ]
    pairs += [(left.keep[m], right.keep[m]) for m in left.keep]
    return (
        list(left.inputs) == list(right.inputs)
        and list(left.keep) == list(right.keep)
        and all(torch.equal(a, b) for a, b in pairs)
    )


def codes(batches: list[Batch]) -> list[float]:
    return torch.cat([b.targets.x[:, 0, 0] for b in batches]).tolist()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("n", [1, 8, 50])
def test_an_epoch_holds_every_row_once_in_as_many_batches_as_it_says(
    loader: MakeLoader, n: int, training: bool
) -> None:
    made = loader(n, training=training)
    batches = list(made.batches(0))
    assert sorted(codes(batches)) == list(range(n))
    assert len(batches) == len(made)
    assert sorted(len(b.targets.x) for b in batches)[1:] == [8] * (len(batches) - 1)


def test_batches_are_the_same_when_begun_in_the_middle(loader: MakeLoader) -> None:
    made = loader(modality_dropout=0.4)
    whole = list(made.batches(2))
    for first in (0, 1, 4, len(whole)):
        rest = list(made.batches(2, first=first))
        assert len(rest) == len(whole) - first
        assert all(same(a, b) for a, b in zip(whole[first:], rest, strict=True))


def test_another_epoch_or_seed_is_another_order_and_validation_is_always_one(
    loader: MakeLoader,
) -> None:
    assert codes(list(loader().batches(0))) != codes(list(loader().batches(1)))
    assert codes(list(loader().batches(0))) != codes(list(loader(seed=4).batches(0)))
    still = loader(training=False)
    assert all(same(a, b) for a, b in zip(still.batches(0), still.batches(1), strict=True))


def test_several_processes_share_the_rows_without_overlap(loader: MakeLoader) -> None:
    made = loader(48)
    shared = [row for place in range(3) for row in codes(list(made.batches(1, share=(place, 3))))]
    assert sorted(shared) == list(range(48))


def test_buckets_save_most_of_the_padding(loader: MakeLoader) -> None:
    made = loader(400, given=STILL, longest=100)
    padded, real = 0, 0
    for batch in made.batches(0):
        for seq in batch.inputs.values():
            there = seq.mask.any(1)
            padded += int((~seq.mask[there]).sum())
            real += int(seq.mask.sum())
    lengths = [
        [len(a) for a in column if a is not None] for column in made.examples.arrays.values()
    ]
    unsorted = sum(len(c) * 100 - sum(c) for c in lengths)
    assert padded < 0.6 * unsorted
    assert real == sum(map(sum, lengths))


def test_one_modality_is_hardly_padded_at_all(loader: MakeLoader) -> None:
    rng = np.random.default_rng(0)
    column: list[Array | None] = [
        np.ones((int(rng.integers(1, 101)), 2), np.float32) for _ in range(400)
    ]
    examples = labelled(np.zeros(400), {"text": column})
    made = Loader(examples, {"text": STILL}, 8, 0, training=True, **TO_A_NUMBER)
    masks = [b.inputs["text"].mask for b in made.batches(0)]
    share = sum(float((~m).sum()) for m in masks) / sum(m.numel() for m in masks)
    assert share < 0.02
    widths = [m.shape[1] for m in masks]
    assert widths != sorted(widths), "long and short batches are mixed"


def test_modality_dropout_hides_what_is_there_and_always_leaves_one(loader: MakeLoader) -> None:
    made = loader(400, modality_dropout=0.5)
    hidden = present = 0
    for batch in made.batches(0):
        there = torch.stack([batch.inputs[m].mask.any(1) for m in batch.keep], 1)
        kept = torch.stack(list(batch.keep.values()), 1) & there
        assert kept.any(1).all()
        several = there.sum(1) > 1
        hidden += int((there & ~kept)[several].sum())
        present += int(there[several].sum())
    assert 0.25 < hidden / present < 0.5, "half, less the rows that would have been left with none"


def test_nothing_is_hidden_without_dropout_or_in_validation(loader: MakeLoader) -> None:
    assert not any(b.keep for b in loader(modality_dropout=0.0).batches(0))
    assert not any(b.keep for b in loader(modality_dropout=0.5, training=False).batches(0))


def test_augmentation_depends_on_seed_epoch_and_row_alone(loader: MakeLoader) -> None:
    made = loader()
    alone, among = made.make([3], 1), made.make([9, 3, 20], 1)
    for modality in alone.inputs:
        n = int(alone.inputs[modality].mask.sum())
        assert torch.equal(alone.inputs[modality].x[0, :n], among.inputs[modality].x[1, :n])
        assert int(among.inputs[modality].mask[1].sum()) == n
        for other in (made.make([3], 2), loader(seed=4).make([3], 1)):
            size = min(n, int(other.inputs[modality].mask.sum()))
            assert not torch.equal(
                alone.inputs[modality].x[0, :size], other.inputs[modality].x[0, :size]
            )


def test_equal_rows_are_augmented_each_in_its_own_way() -> None:
    column: list[Array | None] = [np.ones((3, 2), np.float32)] * 6
    examples = labelled(np.zeros(6), {"text": column, "audio": column})
    shaken_alone = Input("vectors", STILL.decode, shaken, STILL.finish, STILL.augment)
    inputs: Any = {"text": shaken_alone, "audio": shaken_alone}
    batch = Loader(examples, inputs, 6, 0, training=True, **TO_A_NUMBER).make(range(6), 0)
    drawn = [row.tobytes() for seq in batch.inputs.values() for row in seq.x.numpy()]
    assert len(set(drawn)) == 12


def test_padding_is_zeros_on_the_right_under_a_false_mask(loader: MakeLoader) -> None:
    for batch in loader(given=STILL).batches(0):
        for x, mask in batch.inputs.values():
            assert (x[~mask] == 0).all()
            assert (mask[:, :-1] | ~mask[:, 1:]).all()
            assert mask.any(1).any(), "a modality that no row has is not computed"


def test_the_decoded_arrays_are_never_written_to(loader: MakeLoader) -> None:
    made = loader()
    before = [None if a is None else a.copy() for a in made.examples.arrays["text"]]
    list(made.batches(0))
    for a, b in zip(before, made.examples.arrays["text"], strict=True):
        assert (a is None and b is None) or np.array_equal(a, b)  # type: ignore[arg-type]


def test_an_error_while_a_batch_is_made_reaches_the_caller() -> None:
    def broken(array: Array) -> Array:
        raise ValueError("cannot be finished")

    examples = labelled(np.zeros(3), {"text": [np.ones((1, 2), np.float32)] * 3})
    given = Input("vectors", STILL.decode, STILL.augment, broken, STILL.augment)
    with pytest.raises(ValueError, match="cannot be finished"):
        list(Loader(examples, {"text": given}, 2, 0, training=True, **TO_A_NUMBER).batches(0))
