"""The gate lets a better model in and none that is worse on a slice: by hand, and of every task."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pytest
from tiny import LABELLED, NUMBERED

from moodal.errors import DataError, ModelError
from moodal.monitor import gate, paired
from moodal.preprocess.batch import subsets
from moodal.tasks import TASKS, Task
from moodal.types import MODALITIES, Record, Rejection, Said, Subset

LABELS = ("bad", "good")
WORDS = ("today we sing", "he went home")


@dataclass
class Info:
    task: str = LABELLED
    labels: tuple[str, ...] = LABELS
    modalities: Subset = MODALITIES
    name: str = "model"


@dataclass
class Outputs:
    record: Record
    scores: Mapping[Subset, Any]


@dataclass
class Model:
    """Answers as it is told: says(record, subset) is the target it names."""

    says: Callable[[Record, Subset], str]
    info: Info = field(default_factory=Info)
    refuses: Callable[[Record], bool] = lambda record: False

    def outputs(self, records: Iterable[Record | Rejection]) -> Iterator[Outputs | Rejection]:
        source = iter(records)
        while chunk := list(islice(source, 32)):
            for record in chunk:
                if isinstance(record, Rejection) or self.refuses(record):
                    yield Rejection(record.id, record.source, "text", "is not for me")
                else:
                    yield Outputs(
                        record, {s: self._answer(record, s) for s in subsets(record.modalities)}
                    )

    def _answer(self, record: Record, subset: Subset) -> Any:
        task, said = TASKS[self.info.task], self.says(record, subset)
        if task.head != "summary":
            return Said(said, (), 0.9)
        labels = self.info.labels
        code = np.array([task.encode_target(said, labels)])
        return task.targets(code, [], task.n_outputs(labels)).x[0, 0]


def truth(record: Record, subset: Subset) -> str:
    return record.target or ""


def other(record: Record, subset: Subset) -> str:
    return LABELS[1 - LABELS.index(record.target or "")]


def where(condition: Callable[[Record, Subset], bool]) -> Callable[[Record, Subset], str]:
    """Wrong there, right elsewhere."""
    return lambda record, subset: (other if condition(record, subset) else truth)(record, subset)


def every(n: int) -> Callable[[Record, Subset], str]:
    """Wrong on every nth row."""
    return where(lambda record, subset: int(record.id) % n == 0)


def rows(n: int, **given: Any) -> list[Record]:
    return [
        Record(str(i), **({"text": "a day", "target": LABELS[i // 2 % 2]} | given))
        for i in range(n)
    ]


def decide(
    old: Model, new: Model, records: Iterable[Record | Rejection], **to: Any
) -> gate.Decision:
    return gate.decide(old, new, records, **{"resamples": 100, **to})


def verdict(decision: gate.Decision, name: str) -> paired.Verdict:
    (found,) = [v for v in decision.verdicts if v.name == name]
    return found


def test_the_better_model_passes_and_the_worse_and_the_same_do_not() -> None:
    good, bad = Model(every(10)), Model(every(3))
    up, down, same = (
        decide(bad, good, rows(300)),
        decide(good, bad, rows(300)),
        decide(good, good, rows(300)),
    )
    assert up.passed
    assert [v.name for v in up.verdicts] == ["all rows", "en", "text"]
    assert not down.passed
    assert "better in 0.0% of the resamples, 90.0% are asked for" in down.reasons[0]
    assert not same.passed
    whole = verdict(same, "all rows")
    assert (whole.gain, whole.interval, whole.better, whole.worse) == (0, [0, 0], 0, 0)
    whole, mirrored = verdict(up, "all rows"), verdict(down, "all rows")
    assert (whole.better, whole.worse) == (mirrored.worse, mirrored.better)
    assert whole.gain == pytest.approx(-(mirrored.gain or 0))


def numbers(errors: Callable[[int], float]) -> Model:
    """Answers the target and an error."""
    says = lambda record, subset: str(float(record.target or "") + errors(int(record.id)))  # noqa: E731
    return Model(says, Info(NUMBERED, ()))


def test_the_share_of_resamples_is_what_can_be_computed_by_hand() -> None:
    """One row of 40 mended: the new model is better whenever that row is drawn, with probability
    1 - (1 - 1/40) ** 40 = 0.637; never worse."""
    records = [Record(str(i), text="a day", target="1") for i in range(40)]
    decision = gate.decide(numbers(lambda i: float(i == 7)), numbers(lambda i: 0), records)
    whole = verdict(decision, "all rows")
    assert (whole.old, whole.new, whole.gain) == (pytest.approx(1 / 40), 0, pytest.approx(1 / 40))
    assert whole.better == pytest.approx(1 - (39 / 40) ** 40, abs=0.05)
    assert whole.worse == 0
    assert whole.interval is not None
    assert whole.interval[0] == 0
    sure = {"sure": 0.6}
    assert decide(numbers(lambda i: float(i == 7)), numbers(lambda i: 0), records, **sure).passed


def test_groups_are_drawn_whole() -> None:
    """All of one group of ten mended: better where that group is drawn, 1 - 0.9 ** 10 = 0.651;
    row by row it would be nearly always."""
    records = [
        Record(str(i), text="a day", target="1", group=f"speaker {i // 30}") for i in range(300)
    ]
    old, new = numbers(lambda i: float(i // 30 == 2)), numbers(lambda i: 0)
    whole = verdict(gate.decide(old, new, records), "all rows")
    assert whole.better == pytest.approx(1 - 0.9**10, abs=0.05)
    assert whole.resampled == "groups"
    few = [Record(r.id, text=r.text, target=r.target, group=str(int(r.id) // 60)) for r in records]
    whole = verdict(decide(old, new, few), "all rows")
    assert (whole.resampled, whole.better) == ("rows", 1.0), "of five groups few resamples differ"


def test_the_same_test_gives_the_same_numbers() -> None:
    asked = rows(200)
    twice = [decide(Model(every(7)), Model(every(8)), asked).to_dict() for _ in range(2)]
    assert twice[0] == twice[1]
    json.dumps(twice[0], allow_nan=False)


def mixed(n: int = 320) -> list[Record]:
    """Half in Chinese; a quarter with a picture and no text, a quarter with both."""
    records = []
    for i in range(n):
        text = None if i % 4 == 0 else "真的很好" if i // 4 % 2 else "a day"
        picture = b"jpg" if i % 4 in (0, 1) else None
        records.append(Record(str(i), text=text, image=picture, target=LABELS[i // 8 % 2]))
    return records


SLICES: dict[str, Callable[[Record, Subset], bool]] = {
    "zh": lambda record, subset: record.text == "真的很好" and "text" in subset,
    "image": lambda record, subset: subset == ("image",),
    "text+image": lambda record, subset: subset == ("text", "image"),
}


@pytest.mark.parametrize("name", SLICES)
def test_a_model_that_is_worse_on_a_slice_is_refused_however_good_it_is(name: str) -> None:
    inside = SLICES[name]
    old = Model(where(lambda record, subset: not inside(record, subset) and odd(record, 2)))
    new = Model(where(lambda record, subset: inside(record, subset) and odd(record, 4)))
    decision = decide(old, new, mixed())
    assert (verdict(decision, "all rows").better or 0) > 0.9
    assert [reason.split(":")[0] for reason in decision.reasons] == [name]
    assert "worse in 100.0% of the resamples" in decision.reasons[0]


def odd(record: Record, n: int) -> bool:
    return int(record.id) // 16 % n == 0


def test_a_slice_of_few_rows_decides_nothing() -> None:
    records = [*rows(200), *rows(29, text="真的很好")]
    new = Model(where(lambda record, subset: record.text == "真的很好"))
    decision = decide(Model(every(2)), new, records)
    zh = verdict(decision, "zh")
    assert (zh.n, zh.old, zh.new, zh.better, zh.interval) == (
        29,
        pytest.approx(zh.old),
        0,
        None,
        None,
    )
    assert decision.passed
    one_more = [*records, Record("0", text="真的很好", target="good")]
    assert not decide(Model(every(2)), new, one_more).passed
    with_few = decide(Model(other), Model(truth), rows(29))
    assert with_few.reasons == ("29 rows could be compared; fewer than 30 decide nothing",)


def test_the_language_of_a_row_is_what_it_says_or_its_script() -> None:
    records = [
        *rows(20),
        *rows(20, lang="de"),
        *rows(20, text="真的很好"),
        *rows(20, text=None, image=b"jpg"),
    ]
    decision = decide(Model(every(2)), Model(truth), records)
    languages = {v.name: v.n for v in decision.verdicts if v.kind == "language"}
    assert languages == {"de": 20, "en": 20, "zh": 20}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_gate(name: str) -> None:
    task: Task = TASKS[name]
    targets = (
        WORDS if task.head != "summary" else LABELS if task.n_outputs(LABELS) > 1 else ("1", "5")
    )
    info = Info(name, LABELS if targets == LABELS else ())

    def wrong(n: int) -> Callable[[Record, Subset], str]:
        def say(record: Record, subset: Subset) -> str:
            place = targets.index(record.target or "")
            return targets[1 - place] if int(record.id) % n == 0 else targets[place]

        return say

    modality: dict[str, Any] = {task.reads[0]: "a day" if task.reads[0] == "text" else b"wav"}
    records = [Record(str(i), target=targets[i // 2 % 2], **modality) for i in range(100)]
    good, bad = Model(wrong(20), info), Model(wrong(3), info)
    up, down = decide(bad, good, records), decide(good, bad, records)
    assert (up.passed, down.passed) == (True, False)
    assert (up.metric, up.higher_is_better) == (task.goal, task.higher_is_better)
    whole = verdict(up, "all rows")
    assert (whole.gain or 0) > 0, "a gain is for the better, whichever way the score goes"
    assert ((whole.new or 0) > (whole.old or 0)) == task.higher_is_better


def test_what_cannot_take_the_others_place_is_not_compared() -> None:
    here = Model(truth)
    for there, message in (
        (Info(NUMBERED, ()), "has task="),
        (Info(labels=("bad", "fair")), "the same labels"),
        (Info(modalities=("text",)), "no longer reads image, audio"),
    ):
        with pytest.raises(ModelError, match=message):
            decide(here, Model(truth, there), rows(40))
    turned = Model(truth, Info(labels=LABELS[::-1]))
    assert verdict(decide(Model(every(2)), turned, rows(40)), "all rows").new == 1, "in any order"
    more = Model(truth)
    assert decide(Model(every(2), Info(modalities=("text",))), more, rows(40)).passed
    with pytest.raises(DataError, match="could be compared"):
        decide(here, here, rows(40, target=None))


def test_texts_may_be_spelled_with_other_symbols() -> None:
    name = next(name for name, task in TASKS.items() if task.head == "frames")
    gate.check(Info(name, ("a", "b")), Info(name, ("a", "b", "c")))


def test_rows_that_cannot_be_compared_are_counted_and_named() -> None:
    records: list[Record | Rejection] = [
        *rows(40),
        Rejection("gone", "test.csv row 41", "image", "there is no such file"),
        Record("what", text="a day", target="purple"),
        Record("blank", text="a day"),
        Record("1000", text="a day", target="good"),
        Record("1001", text="a day", target="good"),
        Record("1002", text="a day", target="good"),
    ]
    old = Model(every(2), refuses=lambda record: record.id in ("1000", "1002"))
    new = Model(truth, refuses=lambda record: record.id in ("1001", "1002"))
    decision = decide(old, new, records)
    assert verdict(decision, "all rows").n == 40
    assert [r.id for r in decision.rejected] == ["gone", "what", "1000", "1001", "1002"]
    assert (decision.n_rejected, decision.unlabelled) == (5, 1)
    assert (decision.lost, decision.gained) == (1, 1)
    assert decision.reasons == ("1 rows that the old model answers, the new one cannot read",)
    lucky = decide(old, Model(truth), records)
    assert lucky.passed, "a row more than before is no loss"


def test_memory_does_not_grow_with_media() -> None:
    def heavy(n: int) -> Iterator[Record]:
        for i in range(n):
            yield Record(str(i), image=bytes(100_000), target=LABELS[i % 2])

    peaks = []
    for n in (200, 800):
        tracemalloc.start()
        try:
            decide(Model(every(2)), Model(truth), heavy(n), resamples=2)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 3_000_000, f"bytes: {peaks}"


def test_the_table_says_what_decided() -> None:
    text = gate.table(decide(Model(truth), Model(every(3)), mixed()))
    lines = text.splitlines()
    assert lines[0].split() == ["macro_f1", "n", "old", "new", "gain", "better", "worse"]
    assert lines[1].startswith("all rows")
    assert any(line.startswith("refused: macro_f1 1.000 -> ") for line in lines)
    assert any(line.startswith("refused: zh: ") for line in lines)
