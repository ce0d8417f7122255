"""Limits that are told from headers, before anything is decoded."""

from __future__ import annotations

import asyncio
import io
from collections.abc import MutableMapping
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from moodal.errors import RecordError
from moodal.runtime.predict import Model
from moodal.serve import limits
from moodal.serve.errors import RefusalError
from moodal.serve.settings import Limits
from moodal.types import Record
from tests.tiny import train_once


def webm(seconds: float, *, format: str = "webm") -> bytes:
    """As a browser records it: Opus, and a header that says nothing of its length."""
    file = io.BytesIO()
    with av.open(file, "w", format=format, options={"live": "1"}) as container:
        stream = container.add_stream("libopus", rate=48_000)
        for start in range(0, int(seconds * 48_000), 960):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 48_000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_a_recording_without_a_length_is_measured_by_its_packets() -> None:
    content = webm(6.0)
    limits.check(Record("0", audio=content), Limits(seconds=7))
    with pytest.raises(RecordError, match=r"has [56] seconds, at most 5 are read"):
        limits.check(Record("0", audio=content), Limits(seconds=5))


def test_what_cannot_be_opened_is_left_to_whoever_decodes_it() -> None:
    for content in (b"x", b"\x1aE\xdf\xa3" + b"\0" * 100, b"\x89PNG\r\n\x1a\n"):
        limits.check(Record("0", image=content, audio=content), Limits())


def test_a_header_that_lies_is_found_out_by_whoever_decodes() -> None:
    """Says that a second takes a thousand times as many bytes as it does."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(2 * 8000), 8000, format="WAV")
    content = bytearray(file.getvalue())
    content[28:32] = (16_000_000).to_bytes(4, "little")
    limits.check(Record("0", audio=bytes(content)), Limits(seconds=1))
    model = Model(train_once(), limit_seconds=1)
    with pytest.raises(RecordError, match="lasts 2 s, at most 1 s are read"):
        model.read(Record("0", audio=bytes(content)))


def test_every_limit_is_inclusive() -> None:
    limits.check_text("x" * 10, Limits(characters=10))
    with pytest.raises(RecordError, match="has 11 characters, at most 10 are read"):
        limits.check_text("x" * 11, Limits(characters=10))
    rows = np.zeros((3, 2), np.float32)
    limits.check(Record("0", text=rows), Limits(vectors=3))
    with pytest.raises(RecordError, match="has 3 vectors"):
        limits.check(Record("0", text=rows), Limits(vectors=2))


def test_room_is_let_go_of() -> None:
    room = limits.Room(0.001)
    room.enter(600)
    with pytest.raises(RefusalError, match=r"600 bytes .* at most 1,000"):
        room.enter(401)
    room.enter(400)
    room.leave(1000)
    room.enter(1000)


class Sender:
    """Sends the parts of a body, then waits for ever."""

    def __init__(self, *parts: bytes, last: bool = True) -> None:
        self.parts, self.last = list(parts), last

    async def __call__(self) -> MutableMapping[str, Any]:
        if not self.parts:
            await asyncio.Event().wait()
        part = self.parts.pop(0)
        return {
            "type": "http.request",
            "body": part,
            "more_body": bool(self.parts) or not self.last,
        }


def test_a_body_is_read_whole() -> None:
    assert asyncio.run(limits.body(Sender(b"ab", b"", b"c"), {}, Limits())) == b"abc"


def test_a_body_that_does_not_end_is_given_up() -> None:
    sender = Sender(b"ab", last=False)
    with pytest.raises(RefusalError, match=r"within 0\.05 s") as caught:
        asyncio.run(limits.body(sender, {}, Limits(read_seconds=0.05)))
    assert caught.value.status == 408


def test_a_body_is_counted_while_it_comes() -> None:
    sender = Sender(*[b"x" * 400] * 10)
    with pytest.raises(RefusalError, match=r"more than 1,000 bytes, at most 1,000"):
        asyncio.run(limits.body(sender, {}, Limits(megabytes=0.001)))
    assert len(sender.parts) == 7


@pytest.mark.parametrize("said", [b"1001", b"9" * 30])
def test_a_body_that_says_it_is_too_large_is_not_read(said: bytes) -> None:
    sender = Sender(b"x")
    with pytest.raises(RefusalError) as caught:
        asyncio.run(limits.body(sender, {b"content-length": said}, Limits(megabytes=0.001)))
    assert caught.value.status == 413
    assert sender.parts
