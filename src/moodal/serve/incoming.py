"""What a client of the stream sends: checked, counted and timed, before anything listens to it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic
from pydantic import Field
from starlette.websockets import WebSocket, WebSocketDisconnect

from moodal.errors import MoodalError
from moodal.preprocess.audio import SAMPLE_RATE
from moodal.serve.ear import Ear, GoneError
from moodal.serve.errors import RefusalError
from moodal.serve.limits import MEGABYTE
from moodal.serve.pcm import Format
from moodal.serve.schema import Body, Name, parsed, refused
from moodal.serve.settings import Limits

LONGER = 10
"""Times the seconds of one recording, and the bytes of one body, that a stream may have."""


class Start(Body):
    """The first message."""

    type: Literal["start"]
    format: Format = "pcm16"
    sample_rate: Annotated[int, Field(ge=8_000, le=192_000)] = SAMPLE_RATE
    """Of pcm16, in hertz."""
    text: str | None = None
    key: str | None = None
    """An API key, for browsers: their WebSockets send no headers."""
    explain: bool = False
    """Also say which words moved the final answer."""
    id: Name = "stream"


class Text(Body):
    """Words beside the speech, from now on."""

    type: Literal["text"]
    text: str | None


class End(Body):
    type: Literal["end"]


Later = pydantic.TypeAdapter[Text | End](Annotated[Text | End, Field(discriminator="type")])


@dataclass(slots=True)
class Said:
    """What is known of a stream beside its sound. began: by time.monotonic, its first sound."""

    start: Start
    text: str | None
    n_bytes: int = 0
    began: float = 0.0


async def first(socket: WebSocket, limits: Limits) -> Start:
    """Raises: RefusalError."""
    message = await _receive(socket, limits)
    if isinstance(message, bytes):
        raise RefusalError("invalid", 'sound comes after the message {"type": "start"}', "type")
    return parsed(Start, message.encode("utf-8"))


async def read(socket: WebSocket, ear: Ear, said: Said, limits: Limits) -> None:
    """Everything that comes, until it ends; what is wrong with it comes out of the ear."""
    try:
        async with asyncio.timeout(LONGER * limits.seconds + limits.idle_seconds):
            while await _take(await _receive(socket, limits), ear, said, limits):
                pass
    except TimeoutError:
        most = LONGER * limits.seconds
        ear.fail(RefusalError("too_slow", f"the stream was open for more than {most:,.0f} s"))
    except MoodalError as error:
        ear.fail(error)
    except WebSocketDisconnect:
        ear.fail(GoneError("whoever was speaking has gone"))
    finally:
        ear.end()


async def _take(message: str | bytes, ear: Ear, said: Said, limits: Limits) -> bool:
    """Whether there will be more. Raises: RefusalError."""
    if isinstance(message, bytes):
        said.began = said.began or time.monotonic()
        said.n_bytes += len(message)
        if said.n_bytes > (most := LONGER * limits.megabytes * MEGABYTE):
            raise RefusalError(
                "too_large", f"the stream has more than {most:,.0f} bytes; start a new one", "audio"
            )
        await ear.put(message)
        return True
    try:
        later = Later.validate_json(message)
    except pydantic.ValidationError as error:
        raise refused(error) from None
    if isinstance(later, Text):
        said.text = later.text
    return isinstance(later, Text)


async def _receive(socket: WebSocket, limits: Limits) -> str | bytes:
    """The next message; one over limits.chunk_kilobytes was refused by the server before.

    Raises: RefusalError, when it does not come; WebSocketDisconnect.
    """
    try:
        async with asyncio.timeout(limits.idle_seconds):
            message = await socket.receive()
    except TimeoutError:
        raise RefusalError(
            "too_slow",
            f"nothing came for {limits.idle_seconds:g} s; send sound, silence too, or the end",
        ) from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text: str | None = message.get("text")
    sound: bytes = message.get("bytes") or b""
    return sound if text is None else text
