"""Lines for programs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from moodal.serve import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    names = ("moodal", "uvicorn")
    before = [(n, logging.getLogger(n).handlers, logging.getLogger(n).propagate) for n in names]
    stream = io.StringIO()
    logs.set_up(stream)
    yield stream
    for name, handlers, propagate in before:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(logging.NOTSET)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_with_its_request(stream: io.StringIO) -> None:
    token = logs.REQUEST.set("abc")
    logging.getLogger("moodal.serve").error("first\nsecond %s", "好")
    logging.getLogger("moodal.serve").info("own", extra={"request": "def"})
    logs.REQUEST.reset(token)
    logging.getLogger("uvicorn.error").warning("of none")
    first, own, none = lines(stream)
    assert (first["event"], first["level"], first["request"]) == (
        "first\nsecond 好",
        "error",
        "abc",
    )
    assert own["request"] == "def"
    assert "request" not in none
    assert str(first["at"]).endswith("+00:00")


def test_an_error_brings_where_it_came_from(stream: io.StringIO) -> None:
    try:
        raise ZeroDivisionError("so it is")
    except ZeroDivisionError:
        logging.getLogger("moodal.serve").exception("failed")
    [line] = lines(stream)
    assert "ZeroDivisionError: so it is" in str(line["error"])


def test_requests_are_gathered_and_written_at_once() -> None:
    class Counting(io.StringIO):
        written = 0

        def write(self, text: str) -> int:
            self.written += 1
            return super().write(text)

    stream = Counting()

    async def ask() -> None:
        requests = logs.Requests(stream)
        for status in (200, 404):
            requests.add({"request": "abc", "status": status})
        assert stream.getvalue() == ""
        requests.flush()
        requests.flush()

    asyncio.run(ask())
    assert stream.written == 1
    assert [line["status"] for line in lines(stream)] == [200, 404]
    assert {line["event"] for line in lines(stream)} == {"request"}


def test_requests_are_written_by_themselves() -> None:
    stream = io.StringIO()

    async def ask() -> None:
        logs.Requests(stream).add({"status": 200})
        while not stream.getvalue():
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(ask(), 20))
    assert len(lines(stream)) == 1
