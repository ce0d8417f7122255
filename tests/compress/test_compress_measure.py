"""Size, speed and memory: of the files as they lie, of work done in turn, of a process alone."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
from tiny import hear_once, tiny_model, train_once, write_once  # noqa: F401

from moodal import bundle
from moodal.compress import measure
from moodal.config import Columns
from moodal.data import manifest
from moodal.errors import CapacityError, DataError
from moodal.types import Record, Rejection


def records(model: Path, n: int = 4) -> list[Record | Rejection]:
    return list(manifest.read(model.parent / "data" / "dev.csv"))[:n]


def test_size_is_that_of_all_files(tiny_model: Path) -> None:  # noqa: F811
    expected = sum(path.stat().st_size for path in tiny_model.iterdir()) / 1e6
    assert measure.size_mb(tiny_model) == pytest.approx(expected)
    assert measure.parameters(tiny_model) == bundle.load(tiny_model).parameters


@pytest.mark.parametrize("make", [train_once, hear_once, write_once])
def test_the_model_alone_takes_less_than_end_to_end(make: object) -> None:
    assert callable(make)
    model = make()
    alone, whole = (f(model, records(model), rounds=2) for f in (measure.alone, measure.end_to_end))
    assert 0 < alone.p50_ms < whole.p50_ms
    assert alone.per_second > 0
    assert alone.faster == whole.faster == 1


def test_work_is_done_in_turn_and_another_is_first_in_each_round() -> None:
    done: list[str] = []
    works = [[partial(done.append, f"{m}{u}") for u in range(2)] for m in "ab"]
    seconds = measure.interleaved(works, rounds=2)
    assert seconds.shape == (2, 2, 2)
    warm = ["a0", "a1", "b0", "b1"]
    assert done == [*warm, "a0", "a1", "b0", "b1", "b0", "b1", "a0", "a1"]


def test_a_ratio_is_of_times_taken_side_by_side(tiny_model: Path) -> None:  # noqa: F811
    def work(folder: Path, given: object, batch_size: int) -> list[measure.Work]:
        return [partial(time.sleep, 0.002 if folder == tiny_model else 0.008)] * 3

    other = hear_once()
    rows = [Record("1", audio=next(r.audio for r in records(other) if isinstance(r, Record)))]
    first, second = measure.side_by_side([tiny_model, other], rows, work=work)
    assert first.faster == 1
    assert 0.1 < second.faster < 0.7, "a sleep of a quarter, and what a busy machine adds"
    assert second.p50_ms >= 8


def test_only_rows_that_all_can_read_are_timed(tiny_model: Path) -> None:  # noqa: F811
    from moodal.runtime.predict import Model

    models = [Model(tiny_model), Model(hear_once())]
    rows = records(tiny_model, 24)
    found = measure.readable(models, rows)
    assert found
    assert all(record.audio is not None for record in found)
    with pytest.raises(DataError, match=r"no row can be read by .*time them on rows that hold"):
        measure.readable(models, [Record("1", text="good")])


def test_memory_is_that_of_a_process_which_has_answered(tiny_model: Path) -> None:  # noqa: F811
    used = measure.memory_mb(tiny_model, tiny_model.parent / "data" / "dev.csv", Columns())
    assert used is not None
    assert 30 < used < 400  # Python, numpy and ONNX Runtime are most of it; torch would be more


def test_a_process_that_fails_is_told(tiny_model: Path) -> None:  # noqa: F811
    with pytest.raises(CapacityError, match=r"memory could not be measured: .*missing\.csv"):
        measure.memory_mb(tiny_model, Path("missing.csv"), Columns())
