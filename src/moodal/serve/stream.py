"""WS /v1/stream: live speech in, an answer about each second of it, and one over all at the end.

Every message but the sound is JSON; docs/streaming.md shows a conversation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pydantic_core import to_json
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from moodal.errors import MoodalError
from moodal.preprocess.audio import SAMPLE_RATE, wav
from moodal.serve import incoming, logs, voice
from moodal.serve.ear import Ear, GoneError
from moodal.serve.errors import RETRY_SECONDS, RefusalError, busy, refusal_of
from moodal.serve.incoming import LONGER, Said, Start
from moodal.serve.pcm import FORMATS, Samples
from moodal.serve.service import Answer, Service
from moodal.serve.voice import Heard
from moodal.types import Record

CONNECTIONS = 4
"""Times the streams that may be connected, those that have not yet said who they are included."""
TRIES = 3
"""To have the final answer from a full service, RETRY_SECONDS apart; an interim one is let go."""
LATE_SECONDS = 2.0
"""Behind the speech, an interim answer is left out rather than given later still."""
FULL = ("busy", "waited", "rate")
"""Codes of refusals that the next second may not meet."""
CLOSED = 1000
CLOSES = {
    "not_json": 1007,
    "record": 1007,
    "too_large": 1009,
    "internal": 1011,
    **dict.fromkeys(("busy", "waited", "rate", "stopping", "journal", "capacity"), 1013),
}
"""Code of an error -> how the connection is closed; else REFUSED. Source: RFC 6455, section 7.4.1,
and IANA's registry for 1013, try again later."""
REFUSED = 1008

_log = logging.getLogger("moodal.serve")


def routes(service: Service) -> list[BaseRoute]:
    return [WebSocketRoute("/v1/stream", Streams(service).serve)]


class Streams:
    """The live streams of one worker."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limits = service.settings.limits
        self.n_connected = 0
        self.n_open = 0

    async def serve(self, socket: WebSocket) -> None:
        """One stream, from its first message to its close."""
        headers = dict(socket.scope["headers"])
        logs.REQUEST.set(logs.request_id(headers.get(b"x-request-id", b"")))
        self.n_connected += 1
        try:
            await socket.accept()
            if self.n_connected > CONNECTIONS * self._limits.streams:
                raise busy(f"{self.n_connected - 1} streams are connected; come back in a while")
            await self._converse(socket)
            await socket.close(CLOSED)
        except (WebSocketDisconnect, GoneError):
            return
        except MoodalError as error:
            await self._refuse(socket, refusal_of(error))
        except Exception as error:  # noqa: BLE001 - the server's edge: whoever speaks is told
            _log.exception("a stream failed")
            await self._refuse(socket, refusal_of(error))
        finally:
            self.n_connected -= 1

    async def _converse(self, socket: WebSocket) -> None:
        """Raises: MoodalError, WebSocketDisconnect."""
        start = await incoming.first(socket, self._limits)
        self._admit(socket, start)
        self._check_hearing()
        with self._place():
            said = Said(start, start.text)
            ear = Ear(lambda chunks: self._listen(chunks, start))
            reader = asyncio.create_task(incoming.read(socket, ear, said, self._limits))
            try:
                async for heard in ear:
                    late = _late(heard, said) if ear.is_behind else 0.0
                    await _send(socket, await self._told(socket, heard, said, late))
                await reader
            finally:
                reader.cancel()
                ear.close()

    def _admit(self, socket: WebSocket, start: Start) -> str:
        """The caller's name. Raises: RefusalError, for each answer anew: keys are taken back."""
        headers = dict(socket.scope["headers"])
        if start.key is not None:
            headers.pop(b"authorization", None)
            headers[b"x-api-key"] = start.key.encode("utf-8")
        client = socket.client.host if socket.client else ""
        return self._service.caller(headers, client)

    def _check_hearing(self) -> None:
        """Raises: RefusalError, when no model here hears."""
        reads = self._service.model.info.modalities
        if "audio" not in reads and self._service.settings.transcriber is None:
            raise RefusalError(
                "invalid", f"this model reads {', '.join(reads)} and no speech; POST /v1/predict"
            )

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the streams at a time. Raises: RefusalError."""
        if self.n_open >= self._limits.streams:
            raise busy(
                f"{self.n_open} streams are open, at most {self._limits.streams} at a time are "
                "served; come back in a while"
            )
        self.n_open += 1
        self._service.metrics.streams.inc()
        try:
            yield
        finally:
            self.n_open -= 1
            self._service.metrics.streams.dec()

    def _listen(self, chunks: Iterator[bytes], start: Start) -> Generator[Heard, None, None]:
        """In the ear's thread."""
        limits, info = self._limits, self._service.model.info
        sound = FORMATS[start.format](chunks, start.sample_rate)
        yield from voice.listen(
            _bounded(sound, LONGER * limits.seconds),
            most_seconds=min(info.audio.max_seconds, limits.seconds),
            detect=voice.detector(),
        )

    async def _told(self, socket: WebSocket, heard: Heard, said: Said, late: float) -> Answer:
        """The message about one second, or about the end. late: seconds behind the speech."""
        seconds = heard.speech_seconds
        about = {"at": heard.at, "speech": heard.speech is not None, "speech_seconds": seconds}
        if heard.last:
            return {"type": "final", **about, **await self._final(socket, heard, said)}
        if heard.speech is None:
            return {"type": "silence", **about}
        try:
            answer = await self._interim(socket, heard, said, late)
        except RefusalError as error:
            if error.code not in FULL:
                raise
            return {"type": "busy", **about, **error.to_dict()}
        return {"type": "answer", **about, **answer}

    async def _interim(self, socket: WebSocket, heard: Heard, said: Said, late: float) -> Answer:
        if late > LATE_SECONDS:
            raise busy(f"answers are {late:.0f} s behind the speech; this second has none")
        caller = self._admit(socket, said.start)
        record = _record(heard, said)
        return await self._service.answer(record, source="stream", caller=caller, journal=False)

    async def _final(self, socket: WebSocket, heard: Heard, said: Said) -> Answer:
        """Of nothing there is none."""
        if heard.speech is None and not said.text:
            return {}
        for attempt in range(TRIES):
            try:
                return await self._service.answer(
                    _record(heard, said),
                    source="stream",
                    caller=self._admit(socket, said.start),
                    explain=said.start.explain,
                )
            except RefusalError as error:
                if error.code not in FULL or attempt == TRIES - 1:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
        raise AssertionError("the last try has returned or raised")

    async def _refuse(self, socket: WebSocket, refusal: RefusalError) -> None:
        """Say why, and close. Whoever has gone is not told."""
        self._service.metrics.error(refusal.code)
        with suppress(WebSocketDisconnect):
            await _send(socket, {"type": "error", **refusal.to_dict()})
            await socket.close(CLOSES.get(refusal.code, REFUSED))


def _late(heard: Heard, said: Said) -> float:
    """Seconds since this could first have been heard; below 0 of a recording sent faster."""
    return time.monotonic() - said.began - heard.at


def _record(heard: Heard, said: Said) -> Record:
    audio = None if heard.speech is None else wav(heard.speech)
    return Record(said.start.id, text=said.text or None, audio=audio, source="stream")


def _bounded(sound: Iterator[Samples], most_seconds: float) -> Iterator[Samples]:
    n_samples = 0
    for block in sound:
        n_samples += len(block)
        if n_samples > most_seconds * SAMPLE_RATE:
            raise RefusalError(
                "too_large",
                f"the stream has gone on for more than {most_seconds:,.0f} s; start a new one",
                "audio",
            )
        yield block


async def _send(socket: WebSocket, values: dict[str, Any]) -> None:
    await socket.send_text(to_json(values).decode("utf-8"))
