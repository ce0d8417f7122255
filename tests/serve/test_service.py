"""The service without a protocol: who answers, and where."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from moodal.errors import CapacityError
from moodal.serve import engine
from moodal.serve.account import Ticket
from moodal.serve.engine import Job
from moodal.serve.errors import RefusalError
from moodal.serve.service import Service
from moodal.types import Record, Rejection
from tests.serve.conftest import settings_of, until
from tests.serve.test_asking import GIVEN, PICTURE
from tests.tiny import hear_once

TEXT = Record("0", text="this was great")
Work = Callable[[Service], Awaitable[Any]]


@pytest.fixture
def within(tmp_path: Path) -> Callable[..., Any]:
    """within(work, **settings): what `await work(service)` returns, in a service that runs."""

    def run(work: Work, **settings: Any) -> Any:
        async def whole() -> Any:
            service = Service(settings_of(tmp_path, **settings))
            await service.start()
            try:
                return await work(service)
            finally:
                await service.stop()

        return asyncio.run(whole())

    return run


def batches(service: Service) -> list[tuple[int, bool]]:
    """Of each batch that will be answered: its size, and whether in the event loop."""
    found: list[tuple[int, bool]] = []
    home, answer = threading.get_ident(), service._engine.answer

    def noting(jobs: Sequence[Job[Ticket]]) -> None:
        found.append((len(jobs), threading.get_ident() == home))
        answer(jobs)

    service._engine.answer = noting  # type: ignore[method-assign]
    return found


async def quiet(service: Service) -> None:
    """Until nothing is under way in the engine's threads."""
    await asyncio.to_thread(until, lambda: service._engine.held == 0)
    await asyncio.to_thread(until, lambda: not service._engine.busy)


def test_a_text_that_comes_alone_is_answered_where_it_came(within: Callable[..., Any]) -> None:
    async def work(service: Service) -> None:
        found = batches(service)
        for _ in range(3):
            await service.answer(TEXT, source="http")
        assert found == [(1, True)] * 3

    within(work)


def test_what_comes_together_is_one_batch_of_the_engine(within: Callable[..., Any]) -> None:
    async def work(service: Service) -> None:
        found = batches(service)
        await asyncio.gather(*(service.answer(TEXT, source="http") for _ in range(8)))
        assert sum(size for size, _ in found) == 8
        assert not any(home for _, home in found)
        await quiet(service)
        await service.answer(TEXT, source="http")
        assert found[-1] == (1, False)  # for the last did not come alone
        await quiet(service)
        await service.answer(TEXT, source="http")
        assert found[-1] == (1, True)

    within(work)


def test_what_takes_long_is_not_answered_in_the_event_loop(
    within: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(service: Service) -> None:
        found = batches(service)
        await service.answer(Record("0", image=PICTURE), source="http")
        await service.answer(Record("0", text="good " * 1000), source="http")
        await service.answer(TEXT, source="http", explain=True)
        monkeypatch.setattr(engine, "PROMPT_SECONDS", 0.0)
        await service.answer(TEXT, source="http")
        assert [home for _, home in found] == [False] * 4

    within(work)


def test_an_interim_answer_leaves_no_trace(within: Callable[..., Any], tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        answer = await service.answer(TEXT, source="stream", journal=False)
        assert answer["prediction_id"] == ""
        assert answer["label"] is not None
        assert await asyncio.to_thread(service.spool.flush, 20)
        assert list(service.journal.served()) == []

    within(work, keep_inputs=tmp_path / "inputs")
    assert not [path for path in (tmp_path / "inputs").rglob("*") if path.is_file()]


def test_answers_are_in_the_order_of_the_records(within: Callable[..., Any]) -> None:
    given: list[Record | Rejection] = [
        Record("a", text="good"),
        Rejection("b", "record", "image", "is wrong"),
        Record("c", image=PICTURE),
        Record("d", audio=b"no sound"),
        Record("e", text="bad"),
    ]

    async def work(service: Service) -> None:
        told = await service.answers(given, caller="ann")
        assert [answer["id"] for answer in told] == ["a", "b", "c", "d", "e"]
        assert told[1]["error"] == {"code": "record", "message": "is wrong", "field": "image"}
        assert told[3]["error"]["field"] == "audio"
        assert await asyncio.to_thread(service.spool.flush, 20)
        rows = list(service.journal.served())
        assert {(row.source, row.caller) for row in rows} == {("batch", "ann")}
        assert {row.id for row in rows} == {t["prediction_id"] for t in told if "error" not in t}

    within(work)


def test_whoever_has_gone_is_no_trouble(within: Callable[..., Any]) -> None:
    async def work(service: Service) -> None:
        task = asyncio.create_task(service.answer(Record("0", **GIVEN), source="http"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await service.answer(TEXT, source="http"))["label"] is not None
        await quiet(service)

    within(work)


def test_a_stopped_service_says_so(within: Callable[..., Any]) -> None:
    async def work(service: Service) -> Service:
        return service

    service = within(work)
    with pytest.raises(RefusalError) as caught:
        asyncio.run(service.answer(TEXT, source="http"))
    assert (caught.value.code, caught.value.status) == ("stopping", 503)


def test_speech_is_written_down_where_there_is_a_transcriber(within: Callable[..., Any]) -> None:
    async def work(service: Service) -> Any:
        return await service.answer(Record("0", audio=GIVEN["audio"]), source="http")

    plain = within(work)
    heard = within(work, transcriber=hear_once())
    assert plain["modalities"] == ("audio",)
    assert heard["modalities"] in {("audio",), ("text", "audio")}


def test_a_question_to_an_absent_journal_is_refused_at_once(within: Callable[..., Any]) -> None:
    asked: list[str] = []

    async def work(service: Service) -> None:
        service.spool._error = "it is away"
        with pytest.raises(RefusalError, match="it is away") as caught:
            await service.asks_journal(lambda book: asked.append(book.name))
        assert caught.value.status == 503
        service.spool._error = ""

        def fail(book: Any) -> None:
            raise CapacityError("it went away")

        with pytest.raises(RefusalError, match="it went away"):
            await service.asks_journal(fail)

    within(work)
    assert asked == []


@pytest.mark.parametrize("keep", [False, True])
def test_what_was_said_is_kept_only_where_inputs_are(
    within: Callable[..., Any], tmp_path: Path, keep: bool
) -> None:
    async def work(service: Service) -> Any:
        answer = await service.answer(Record("0", audio=GIVEN["audio"]), source="http")
        assert await asyncio.to_thread(service.spool.flush, 20)
        return answer, service.journal.find(answer["prediction_id"])

    folder = tmp_path / "inputs" if keep else None
    answer, row = within(work, model=hear_once(), keep_inputs=folder)
    assert isinstance(answer["text"], str)
    assert answer["label"] is None
    assert row.said == (answer["text"] if keep else None)
    assert set(row.inputs) == ({"audio"} if keep else set())
