"""Two settings on the same rows: gains by hand, and their interval where they are the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tiny import LABELLED, NUMBERED

from moodal.errors import DataError
from moodal.monitor.paired import LEAST_ROWS
from moodal.tuning import compare as comparing
from moodal.tuning.compare import compare
from moodal.types import Record, Rejection


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "RESAMPLES", 300)


@dataclass(frozen=True)
class Info:
    task: str
    labels: tuple[str, ...] = ()
    name: str = "fake"
    modalities: Any = ("text",)


@dataclass(frozen=True)
class Answered:
    record: Record
    scores: Any


@dataclass(frozen=True)
class Fake:
    """Answers a row with what stands here for its id; None = it cannot."""

    info: Info
    answers: Any

    def outputs(self, records: Iterable[Record | Rejection]) -> Iterator[Any]:
        for record in records:
            assert isinstance(record, Record)
            answer = self.answers(record)
            if answer is None:
                yield Rejection(record.id, record.source, "text", "is too long")
            else:
                yield Answered(record, {("text",): answer})


def numbered(off: float) -> Fake:
    """Answers each number too high by this much."""
    return Fake(Info(NUMBERED), lambda r: np.array([float(r.target) + off]))


def labelled(wrong: Sequence[str]) -> Fake:
    """Answers all rows rightly but these."""

    def answer(record: Record) -> np.ndarray[Any, Any]:
        right = int((record.target == "good") != (record.id in wrong))
        return np.eye(2)[right]

    return Fake(Info(LABELLED, ("bad", "good")), answer)


def rows(n: int, *, numeric: bool = False, groups: int = 0) -> list[Record]:
    return [
        Record(
            str(i),
            text="a",
            target=str(i) if numeric else ("bad", "good")[i % 2],
            group=f"g{i % groups}" if groups else "",
        )
        for i in range(n)
    ]


def told(defaults: Sequence[Fake], best: Sequence[Fake], given: Sequence[Record]) -> Any:
    seeds = tuple(range(len(defaults)))
    models: Any = defaults, best
    return compare(*models, lambda: iter(given), seeds=seeds, seed=0)


def test_the_gain_is_the_mean_over_the_seeds_and_lower_may_be_better() -> None:
    found = told([numbered(3), numbered(2)], [numbered(1), numbered(-1)], rows(40, numeric=True))
    assert found.metric == "mae"
    assert found.defaults == pytest.approx((3, 2))
    assert found.best == pytest.approx((1, 1))
    assert found.gain == pytest.approx((2 + 1) / 2)
    assert found.interval == pytest.approx((1.5, 1.5)), "every row gains the same"
    assert found.is_better
    assert not told([numbered(1)], [numbered(3)], rows(40, numeric=True)).is_better


def test_of_labels_the_gain_is_that_of_the_score_of_the_task() -> None:
    wrong = ["0", "1", "2", "3"]  # two of each label: F1 0.9 each
    found = told([labelled(wrong)], [labelled([])], rows(40))
    assert found.metric == "macro_f1"
    assert (found.defaults, found.best) == (pytest.approx((0.9,)), (1.0,))
    assert found.gain == pytest.approx(0.1)
    low, high = found.interval
    assert 0 < low < 0.1 < high < 0.3
    assert found.is_better


def test_the_same_answers_are_no_gain_on_any_resample() -> None:
    """Paired: both are scored on the same resamples, whose own spread falls out."""
    found = told([labelled(["1", "2"])], [labelled(["1", "2"])], rows(60))
    assert found.gain == 0
    assert found.interval == (0, 0)
    assert not found.is_better


def test_a_gain_of_one_row_is_not_surely_one() -> None:
    found = told([labelled(["1", "2"])], [labelled(["1"])], rows(60))
    assert found.gain > 0
    assert found.interval is not None
    assert found.interval[0] <= 0
    assert not found.is_better


def test_one_lucky_seed_is_not_enough() -> None:
    bad, good = labelled([str(i) for i in range(20)]), labelled([])
    found = told([labelled(["0", "1"])] * 3, [good, bad, bad], rows(60))
    assert max(found.best) > max(found.defaults)
    assert found.gain < 0
    assert not found.is_better


def test_whole_groups_are_drawn_where_rows_have_them() -> None:
    """The gain lies in one group of twelve: it is often not drawn at all."""
    given = rows(60, groups=12)
    wrong = [r.id for r in given if r.group == "g0"]
    grouped = told([labelled(wrong)], [labelled([])], given)
    assert grouped.resampled == "groups"
    assert grouped.interval[0] == 0
    assert not grouped.is_better
    alone = told([labelled(wrong)], [labelled([])], rows(60))
    assert alone.resampled == "rows"
    assert alone.is_better


def test_a_few_rows_decide_nothing() -> None:
    found = told([labelled(["0", "1", "2", "3"])], [labelled([])], rows(LEAST_ROWS - 1))
    assert found.gain > 0
    assert found.interval is None
    assert not found.is_better


def test_rows_that_cannot_be_compared_are_counted() -> None:
    given = [*rows(40), Record("x", text="a"), Record("y", text="a", target="unheard of")]
    short = Fake(
        Info(LABELLED, ("bad", "good")),
        lambda r: None if r.id in ("3", "5") else np.eye(2)[int(r.target == "good")],
    )
    found = told([labelled([])], [short], given)
    assert (found.n, found.n_rejected, found.n_unlabelled) == (38, 3, 1)
    with pytest.raises(DataError, match=r"could be compared by .* \(2 without a label, 0 rej"):
        told([labelled([])], [labelled([])], [Record("x", text="a"), Record("y", text="b")])


def test_the_same_seed_draws_the_same_resamples() -> None:
    once, again = (
        told([labelled(["1", "2"])], [labelled(["1"])], rows(60)).interval for _ in range(2)
    )
    assert once == again
