"""What one caller may ask: bytes while they arrive, pixels and seconds before they are decoded."""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import soundfile
from PIL import Image

from moodal.errors import RecordError
from moodal.preprocess import audio, image
from moodal.serve.errors import RefusalError, busy
from moodal.serve.settings import Limits
from moodal.types import MODALITIES, Record

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MEGABYTE = MEGAPIXEL = 1_000_000
CHANNELS, HERTZ = 16, 384_000
"""Of a recording, at most: a block of it is decoded for all channels at once."""
_UNKNOWN = 2**62
"""libsndfile's count of frames where the header does not say."""


class Room:
    """For all bodies that are in work at a time, in the event loop alone."""

    def __init__(self, megabytes: float) -> None:
        self._most = int(megabytes * MEGABYTE)
        self._held = 0

    def enter(self, n_bytes: int) -> None:
        """Raises: RefusalError (503); then nothing entered."""
        if self._held + n_bytes > self._most:
            raise busy(
                f"{self._held:,} bytes of requests are in work, at most {self._most:,} may be; "
                "come again"
            )
        self._held += n_bytes

    def leave(self, n_bytes: int) -> None:
        self._held -= n_bytes


async def body(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    limits: Limits,
    *,
    enter: Callable[[int], None] = lambda n_bytes: None,
) -> bytes:
    """All of a request's body, counted while it arrives.

    enter: told of each part's size; may raise.
    Raises: RefusalError (400, 408, 413).
    """
    most = int(limits.megabytes * MEGABYTE)
    said = headers.get(b"content-length", b"")
    if said.isdigit() and int(said) > most:
        raise _too_large(most, int(said))
    parts = bytearray()
    try:
        async with asyncio.timeout(limits.read_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RefusalError("bad_request", "the connection ended before the body did")
                part = message.get("body", b"")
                if len(parts) + len(part) > most:
                    raise _too_large(most)
                enter(len(part))
                parts += part
                if not message.get("more_body", False):
                    return bytes(parts)
    except TimeoutError:
        raise RefusalError(
            "too_slow",
            f"the body did not arrive within {limits.read_seconds:g} s; send it faster, or less",
            headers={"connection": "close"},
        ) from None


def _too_large(most: int, found: int | None = None) -> RefusalError:
    size = f"more than {most:,}" if found is None else f"{found:,}"
    return RefusalError(
        "too_large",
        f"the body has {size} bytes, at most {most:,} are read; send less at a time",
    )


def check(record: Record, limits: Limits) -> None:
    """Of one record, what can be told without decoding it. Raises: RecordError."""
    if isinstance(record.text, str):
        check_text(record.text, limits)
    if isinstance(record.image, bytes):
        _check_pixels(record.image, limits)
    if isinstance(record.audio, bytes):
        _check_sound(record.audio, limits)
    for modality in MODALITIES:
        value = getattr(record, modality)
        if isinstance(value, np.ndarray) and value.ndim == 2:
            _at_most(len(value), limits.vectors, "vectors", modality)


def check_text(text: str, limits: Limits) -> None:
    """Raises: RecordError."""
    _at_most(len(text), limits.characters, "characters", "text")


def _at_most(found: float, most: float, unit: str, field: str) -> None:
    if found > most:
        raise RecordError(
            f"has {found:,.0f} {unit}, at most {most:,.0f} are read; send less", field=field
        )


def _check_pixels(content: bytes, limits: Limits) -> None:
    """What cannot be opened is refused where it is decoded, with the reason."""
    size = 0
    with suppress(Exception), Image.open(io.BytesIO(content), formats=image.FORMATS) as picture:
        size = picture.width * picture.height
    _at_most(size, limits.megapixels * MEGAPIXEL, "pixels", "image")


class _Sound(NamedTuple):
    """What a header says."""

    rate: int
    channels: int
    seconds: float


def _check_sound(content: bytes, limits: Limits) -> None:
    """As _check_pixels."""
    sound = _wav(content) or _by_libsndfile(content)
    if sound is None:
        sound = _Sound(0, 0, _packets_seconds(content, limits.seconds))
    _at_most(sound.seconds, limits.seconds, "seconds", "audio")
    _at_most(sound.channels, CHANNELS, "channels", "audio")
    _at_most(sound.rate, HERTZ, "samples a second", "audio")


def _wav(content: bytes) -> _Sound | None:
    """The usual header at a glance: opening a file takes 100 us, a hundredth of an answer. Whoever
    lies about his bytes a second is found out where the file is decoded.

    Source: Multimedia Programming Interface and Data Specifications 1.0, "WAVE" (1991).
    """
    if content[8:16] != b"WAVEfmt " or len(content) < 32:
        return None
    channels, rate, bytes_a_second = struct.unpack_from("<HII", content, 22)
    return _Sound(rate, channels, len(content) / bytes_a_second) if bytes_a_second else None


def _by_libsndfile(content: bytes) -> _Sound | None:
    """None where it does not know the format, or the header does not say how long it is."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            rate, channels, n_samples = sound.samplerate, sound.channels, sound.frames
    except soundfile.LibsndfileError:
        return None
    return None if n_samples >= _UNKNOWN else _Sound(rate, channels, n_samples / rate)


def _packets_seconds(content: bytes, most: float) -> float:
    """How long a file of FFmpeg's formats lasts, by its packets, since what browsers record says
    nothing of it in its header; no further than `most` is looked."""
    lasts = 0.0
    with suppress(Exception):  # what cannot be read is refused where it is decoded
        import av

        options = {"format_whitelist": audio.FFMPEG_FORMATS}
        with av.open(io.BytesIO(content), "r", metadata_errors="ignore", options=options) as file:
            track = file.streams.audio[0]
            for packet in file.demux(track):
                if packet.pts is not None and packet.time_base is not None:
                    lasts = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                if lasts > most:
                    break
    return lasts
