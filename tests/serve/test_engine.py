"""The engine, with a model whose answers are obvious and which waits when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from moodal.errors import RecordError
from moodal.serve import engine
from moodal.serve.engine import BusyError, Engine, Job, LateError, Size, StoppedError
from moodal.serve.loaded import Loaded
from moodal.types import Record
from tests.serve.conftest import until

PATIENCE = 20.0


@dataclass(eq=False)
class Fake:
    """Answers each record with its own name, in batches that it remembers.

    gate: nothing is answered while it is closed. entered: set when something would be.
    """

    name: str = "first"
    wrong: Callable[[Sequence[str]], bool] = lambda ids: False
    batches: list[list[str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def answer(self, records: Sequence[Record], arrays: Sequence[Any]) -> list[str]:
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        ids = [record.id for record in records]
        self.batches.append(ids)
        if self.wrong(ids):
            raise FloatingPointError("the weights are wrong")
        return ids

    def tell(self, outputs: str, *, explain: bool = False) -> str:
        return f"{self.name}:{outputs}" + ("!" if explain else "")


@dataclass(frozen=True)
class FakeRead:
    record: Record
    arrays: dict[str, Any]


class Bench:
    """An engine and what came out of it, in order."""

    def __init__(self, fake: Fake, size: Size) -> None:
        self.fake, self.done, self.read = fake, list[Job[str]](), list[str]()
        self.told, self.noticed = threading.Condition(), threading.Semaphore(0)
        self.fail_finish = 0
        self.engine = Engine[str](loaded(fake), self._read, self._finish, size=size)

    def _read(self, job: Job[str]) -> None:
        if job.record.id.startswith("bad"):
            raise RecordError("is bad", field="text")
        self.read.append(job.record.id)
        job.read = cast(Any, FakeRead(job.record, {"text": job.record.id}))
        self.noticed.release()

    def _finish(self, jobs: Sequence[Job[str]]) -> None:
        if self.fail_finish:
            self.fail_finish -= 1
            raise OSError("the disk is gone")
        with self.told:
            self.done += jobs
            self.told.notify_all()

    def submit(self, *ids: str, **given: Any) -> list[Job[str]]:
        jobs = [Job(Record(id, text="x"), id, **{"dear": False, **given}) for id in ids]
        self.engine.take(jobs)
        self.engine.put(jobs)
        return jobs

    def wait(self, n: int) -> list[Job[str]]:
        with self.told:
            assert self.told.wait_for(lambda: len(self.done) >= n, PATIENCE)
            return list(self.done)

    def answers(self, n: int) -> dict[str, Any]:
        return {job.ticket: job.error or job.prediction for job in self.wait(n)}


def loaded(fake: Fake) -> Loaded:
    return Loaded(cast(Any, fake), cast(Any, None), fake.name)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(fake: Fake | None = None, *, open: bool = True, **size: Any) -> Bench:
        made.append(Bench(fake or Fake(), Size(**size)))
        if open:
            made[-1].fake.gate.set()
        return made[-1]

    yield make
    for one in made:
        one.fake.gate.set()
        one.engine.close(PATIENCE)


def held_up(one: Bench) -> None:
    """Until the inference thread is busy with a first record, so that what comes next waits."""
    one.submit("0")
    assert one.fake.entered.wait(PATIENCE)


def test_what_waits_is_answered_at_once(bench: Callable[..., Bench]) -> None:
    one = bench(open=False)
    held_up(one)
    one.submit("1")
    one.submit("2", "3")
    one.fake.gate.set()
    assert one.answers(4) == {id: f"first:{id}" for id in "0123"}
    assert one.fake.batches == [["0"], ["1", "2", "3"]]


def test_a_batch_is_no_larger_than_its_setting(bench: Callable[..., Bench]) -> None:
    one = bench(open=False, batch=2)
    held_up(one)
    one.submit(*"12345")
    one.fake.gate.set()
    one.wait(6)
    assert [len(batch) for batch in one.fake.batches] == [1, 2, 2, 1]


def test_short_records_do_not_wait_in_the_place_of_long_ones(bench: Callable[..., Bench]) -> None:
    one = bench(open=False)
    held_up(one)
    short, long = [f"s{n}" for n in range(9)], [f"long-{n:095}" for n in range(9)]
    one.submit(*(id for pair in zip(short, long, strict=True) for id in pair))
    one.fake.gate.set()
    assert one.answers(19) == {id: f"first:{id}" for id in ("0", *short, *long)}
    assert [sorted(batch) for batch in one.fake.batches] == [["0"], short, long]


def test_a_batch_of_long_records_is_answered_in_parts(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MOST", 100)
    one = bench(open=False)
    held_up(one)
    ids = [f"{n:010d}" for n in range(24)]  # ten positions each
    one.submit(*ids)
    one.fake.gate.set()
    one.wait(25)
    assert one.fake.batches[1:] == [ids[:10], ids[10:20], ids[20:]]


@pytest.mark.parametrize("dear", [False, True])
def test_a_bad_record_fails_alone(bench: Callable[..., Bench], dear: bool) -> None:
    one = bench()
    one.submit("1", "bad", "2", dear=dear)
    found = one.answers(3)
    assert isinstance(found.pop("bad"), RecordError)
    assert found == {"1": "first:1", "2": "first:2"}


def test_the_record_that_a_model_cannot_bear_fails_alone(bench: Callable[..., Bench]) -> None:
    one = bench(Fake(wrong=lambda ids: "2" in ids), open=False)
    held_up(one)
    one.submit(*"123")
    one.fake.gate.set()
    found = one.answers(4)
    assert isinstance(found.pop("2"), FloatingPointError)
    assert found == {id: f"first:{id}" for id in "013"}


def test_the_engine_lives_on_after_an_error(bench: Callable[..., Bench]) -> None:
    fake = Fake(wrong=lambda ids: True)
    one = bench(fake)
    one.submit("1")
    one.wait(1)
    fake.wrong = lambda ids: False
    one.submit("2")
    assert one.answers(2)["2"] == "first:2"
    assert one.engine.running


def test_a_full_engine_says_so_at_once(bench: Callable[..., Bench]) -> None:
    one = bench(open=False, queue=3)
    held_up(one)
    one.submit("1", "2")
    with pytest.raises(BusyError, match=r"3 records are in work and at most 3 may be; 1 more"):
        one.submit("3")
    one.fake.gate.set()
    one.wait(3)
    with pytest.raises(BusyError):
        one.submit(*"4567")  # all or none
    assert one.submit("4")
    assert set(one.answers(4)) == set("0124")


def test_what_waited_too_long_is_refused(bench: Callable[..., Bench]) -> None:
    one = bench(wait_seconds=5)
    one.submit("old", since=time.monotonic() - 6)
    one.submit("dear", since=time.monotonic() - 6, dear=True)
    one.submit("new")
    found = one.answers(3)
    assert isinstance(found["old"], LateError)
    assert "at most 5 s are allowed" in str(found["dear"])
    assert found["new"] == "first:new"
    assert one.read == ["new"]


def test_what_is_dear_is_read_while_others_are_answered(bench: Callable[..., Bench]) -> None:
    one = bench(open=False)
    held_up(one)
    one.submit("1", dear=True)
    assert one.noticed.acquire(timeout=PATIENCE)
    assert one.noticed.acquire(timeout=PATIENCE)
    assert one.fake.batches == []
    one.fake.gate.set()
    assert one.answers(2)["1"] == "first:1"


def test_no_more_is_read_ahead_than_two_batches(bench: Callable[..., Bench]) -> None:
    one = bench(open=False, batch=2, threads=8)
    one.submit(*"01234567", dear=True)
    for _ in range(4):
        assert one.noticed.acquire(timeout=PATIENCE)
    assert not one.noticed.acquire(timeout=0.2)
    one.fake.gate.set()
    assert len(one.answers(8)) == 8


def test_another_model_answers_what_comes_after(bench: Callable[..., Bench]) -> None:
    one = bench(open=False)
    held_up(one)
    assert one.noticed.acquire(timeout=PATIENCE)
    one.submit("1", dear=True)
    assert one.noticed.acquire(timeout=PATIENCE)
    one.engine.swap(loaded(Fake("second", gate=one.fake.gate)))
    one.submit("2", dear=True)
    assert one.noticed.acquire(timeout=PATIENCE)
    one.fake.gate.set()
    # What was read by the first is answered by the first, though both are in one batch.
    assert one.answers(3) == {"0": "first:0", "1": "first:1", "2": "second:2"}


def test_an_explanation_holds_nobody_up(bench: Callable[..., Bench]) -> None:
    fake, asked, free = Fake(), threading.Event(), threading.Event()
    tell = fake.tell

    def slow(outputs: str, *, explain: bool = False) -> str:
        if explain:
            asked.set()
            assert free.wait(PATIENCE)
        return tell(outputs, explain=explain)

    fake.tell = slow  # type: ignore[method-assign]
    one = bench(fake)
    one.submit("why", explain=True)
    assert asked.wait(PATIENCE)
    one.submit("2")
    assert one.answers(1) == {"2": "first:2"}
    free.set()
    assert one.answers(2)["why"] == "first:why!"


def test_whoever_waits_hears_of_a_finish_that_failed(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.fail_finish = 1
    one.submit("1")
    assert isinstance(one.answers(1)["1"], OSError)
    one.fail_finish = 2  # even that fails: the engine lives
    one.submit("lost")
    until(lambda: one.engine.held == 0)
    one.submit("2")
    assert one.answers(2)["2"] == "first:2"


def test_a_stop_answers_what_was_taken_and_takes_no_more(bench: Callable[..., Bench]) -> None:
    one = bench(open=False)
    held_up(one)
    one.submit("1", "2")
    one.submit("3", dear=True)
    one.submit("4", explain=True)
    closed: list[bool] = []
    closing = threading.Thread(target=lambda: closed.append(one.engine.close(PATIENCE)))
    closing.start()
    until(lambda: not one.engine.running)
    with pytest.raises(StoppedError, match="stopping"):
        one.submit("5")
    one.fake.gate.set()
    closing.join(PATIENCE)
    assert closed == [True]
    assert set(one.answers(5)) == set("01234")
    assert not one.engine._thread.is_alive()


def test_a_stop_waits_no_longer_than_it_may(bench: Callable[..., Bench]) -> None:
    one = bench(open=False)
    held_up(one)
    assert one.engine.close(0.01) is False
    assert one.engine.held == 1
