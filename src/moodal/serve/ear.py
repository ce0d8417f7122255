"""A live recording between the event loop that receives it and the thread that listens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from moodal.errors import MoodalError
from moodal.serve.voice import Heard

WAITING_BYTES = 1_000_000
"""That are held for the thread, 30 s of speech; whoever sends more waits, and so does their
connection, until it answers no ping any more."""
CHUNK_BYTES = 100
"""What holding a chunk costs beside its sound."""


class GoneError(MoodalError):
    """Whoever was speaking is not there any more."""


class Ear:
    """A recording that is decoded and listened to in a thread of its own, as far as it goes.

    Everything but `listen` is called on the event loop. An error given to `fail` comes out where
    the ear is iterated, at once: what waits is not listened to any more.

    listen: chunks of the recording -> what is heard; runs in the thread.
    """

    def __init__(self, listen: Callable[[Iterator[bytes]], Generator[Heard, None, None]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: SimpleQueue[bytes | None] = SimpleQueue()
        self._room = asyncio.Event()
        self._n_waiting = 0
        self._error: MoodalError | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="moodal-ear")
        self._heard = listen(self._arriving())

    @property
    def is_behind(self) -> bool:
        """Whether there is sound that was not listened to yet."""
        return self._n_waiting > 0

    async def put(self, chunk: bytes) -> None:
        while self._n_waiting > WAITING_BYTES:
            self._room.clear()
            await self._room.wait()
        self._n_waiting += len(chunk) + CHUNK_BYTES
        self._chunks.put(chunk)

    def _taken(self, chunk: bytes) -> None:
        self._n_waiting -= len(chunk) + CHUNK_BYTES
        self._room.set()

    def end(self) -> None:
        """There will be no more."""
        self._chunks.put(None)

    def fail(self, error: MoodalError) -> None:
        self._error = self._error or error
        self._chunks.put(None)

    def close(self) -> None:
        """Give the thread back, whatever it is doing; it ends by itself."""
        self.fail(GoneError("the stream is closed"))
        self._thread.submit(self._heard.close)
        self._thread.shutdown(wait=False)

    def __aiter__(self) -> Ear:
        return self

    async def __anext__(self) -> Heard:
        heard = await self._loop.run_in_executor(self._thread, next, self._heard, None)
        if heard is None:
            raise StopAsyncIteration
        return heard

    def _arriving(self) -> Iterator[bytes]:
        while (chunk := self._chunks.get()) is not None and self._error is None:
            self._loop.call_soon_threadsafe(self._taken, chunk)
            yield chunk
        if self._error is not None:
            raise self._error
