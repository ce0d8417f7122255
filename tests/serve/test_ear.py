"""Between event loop and thread: nothing lost, nothing hoarded, nothing left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

from moodal.errors import ConfigError
from moodal.serve.ear import WAITING_BYTES, Ear, GoneError
from moodal.serve.voice import Heard

Listen = Callable[[Iterator[bytes]], Generator[Heard, None, None]]


def lengths(chunks: Iterator[bytes]) -> Generator[Heard, None, None]:
    """Hears how long each chunk is."""
    for chunk in chunks:
        yield Heard(float(len(chunk)), None)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60))
    for thread in threading.enumerate():
        if thread.name.startswith("moodal-ear"):
            thread.join(60)
            assert not thread.is_alive()


def test_all_that_is_put_is_heard_in_its_order() -> None:
    async def work() -> None:
        ear = Ear(lengths)
        for n_bytes in range(1, 200):
            await ear.put(bytes(n_bytes))
        ear.end()
        assert [heard.at async for heard in ear] == list(range(1, 200))
        ear.close()

    run(work)


def test_whoever_puts_more_than_is_held_waits_until_it_is_listened_to() -> None:
    async def work() -> None:
        gate = threading.Event()

        def slowly(chunks: Iterator[bytes]) -> Generator[Heard, None, None]:
            gate.wait()
            yield from lengths(chunks)

        ear = Ear(slowly)
        n_put = 0

        async def putting() -> None:
            nonlocal n_put
            for _ in range(50):
                await ear.put(bytes(WAITING_BYTES // 10))
                n_put += 1
            ear.end()

        task = asyncio.create_task(putting())
        first = asyncio.create_task(anext(ear))
        await asyncio.sleep(0)  # to where they wait
        n_put_before = n_put
        assert ear.is_behind
        gate.set()
        assert n_put_before <= 12
        await first
        assert len([heard async for heard in ear]) == 49
        await task
        assert not ear.is_behind
        ear.close()

    run(work)


@pytest.mark.parametrize("waiting", [0, 3])
def test_an_error_comes_out_at_once(waiting: int) -> None:
    async def work() -> None:
        ear = Ear(lengths)
        for _ in range(waiting):
            await ear.put(b"x")
        ear.fail(ConfigError("first"))
        ear.fail(ConfigError("second"))
        with pytest.raises(ConfigError, match="first"):
            await anext(ear)
        ear.close()

    run(work)


def test_closing_wakes_a_thread_that_waits_for_sound() -> None:
    async def work() -> None:
        ear = Ear(lengths)
        waiting = asyncio.create_task(anext(ear))
        await asyncio.sleep(0)
        ear.close()
        with pytest.raises(GoneError):
            await waiting

    run(work)


def test_closing_ends_a_recording_in_its_middle() -> None:
    ended = threading.Event()

    def attentive(chunks: Iterator[bytes]) -> Generator[Heard, None, None]:
        try:
            yield from lengths(chunks)
        finally:
            ended.set()

    async def work() -> None:
        ear = Ear(attentive)
        await ear.put(b"x")
        await ear.put(b"x")
        await anext(ear)
        ear.close()

    run(work)
    assert ended.wait(60)
