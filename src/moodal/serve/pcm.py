"""The bytes of a live recording -> samples, as they arrive.

A recording has no end yet: it comes in chunks cut anywhere, and what can be heard of it so far is
heard at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from moodal.errors import CapacityError, MoodalError, RecordError
from moodal.preprocess.audio import SAMPLE_RATE

if TYPE_CHECKING:
    from av.container import InputContainer

Samples = NDArray[np.float32]
Format = Literal["pcm16", "webm", "ogg"]

FULL_SCALE = np.float32(1 / 32768)
"""Of a 16-bit sample, as libsndfile has it."""
MUTE_BYTES = 1 << 20
"""A recorder's file holds sound in every few hundred bytes; what holds none in so many is not
recorded speech, and FFmpeg would keep all of it in memory."""
_MAGIC = {b"\x1a\x45\xdf\xa3": "matroska", b"OggS": "ogg"}
"""How a file begins -> FFmpeg's name of its format. Source: RFC 8794, section 11.2.1 (EBML ID);
RFC 3533, section 6."""
_CODECS = ("opus", "libopus", "vorbis")
"""What browsers record in; FFmpeg's other decoders never see bytes from outside."""
_OPTIONS = {"codec_whitelist": ",".join(_CODECS)}
_READ_BYTES = 4096
"""FFmpeg asks for so much at a time, and is given what there is."""


def pcm16(chunks: Iterator[bytes], rate: int) -> Iterator[Samples]:
    """Samples of 16 bits, little-endian, of one channel.

    chunks: cut anywhere, within a sample too; half a sample at the very end is dropped.
    rate: of the samples, in hertz.
    """
    resample, rest = _resampler(rate), b""
    for chunk in chunks:
        whole = rest + chunk
        rest = whole[len(whole) - len(whole) % 2 :]
        codes = np.frombuffer(whole, "<i2", len(whole) // 2)
        yield resample(codes.astype(np.float32) * FULL_SCALE, False)
    yield resample(np.zeros(0, np.float32), True)


def recorded(chunks: Iterator[bytes], rate: int) -> Iterator[Samples]:
    """The file that a browser's recorder writes: Opus or Vorbis in WebM or Ogg.

    rate: of no use, the file says it.
    Raises: RecordError for what is no such file, or is damaged; CapacityError without PyAV; what
        chunks raises.
    """
    try:
        import av
    except ImportError as error:
        raise CapacityError(
            "a recorder's WebM or Ogg cannot be decoded here: pip install 'moodal[media]', or send"
            " the format pcm16"
        ) from error
    file = _Growing(chunks)
    format = file.format()
    try:
        with av.open(file, "r", format, _OPTIONS, buffer_size=_READ_BYTES) as container:
            yield from _decoded(container, file)
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise file.error or RecordError(
            f"the {file.kind} stream cannot be read, it is damaged ({reason}); start a new one",
            field="audio",
        ) from error
    if file.error:
        raise file.error


FORMATS: dict[Format, Callable[[Iterator[bytes], int], Iterator[Samples]]] = {
    "pcm16": pcm16,
    "webm": recorded,
    "ogg": recorded,
}
"""Format -> (chunks, rate) -> (n_samples,) at 16 kHz in [-1, 1], as they come."""


def _decoded(container: InputContainer, file: _Growing) -> Iterator[Samples]:
    import av

    track = next(iter(container.streams.audio), None)
    codec = None if track is None else track.codec_context  # None for a codec FFmpeg lacks
    if track is None or codec is None or codec.name not in _CODECS or not codec.sample_rate:
        found = "no sound track" if codec is None else f"sound as {codec.name}"
        raise file.error or RecordError(
            f"the {file.kind} stream has {found}; record Opus, as browsers do", field="audio"
        )
    resample, to_float = _resampler(codec.sample_rate), av.AudioResampler(format="fltp")
    for frame in itertools.chain(container.decode(track), [None]):  # None: the remainder
        file.mute_bytes = 0
        for part in to_float.resample(frame):
            mono = np.asarray(part.to_ndarray(), np.float32).mean(axis=0)
            if not np.isfinite(mono).all():
                raise RecordError(
                    "the stream holds samples that are not numbers; start a new one", field="audio"
                )
            yield resample(mono, False)
    yield resample(np.zeros(0, np.float32), True)


def _resampler(rate: int) -> Callable[[Samples, bool], Samples]:
    """(samples, whether they are the last) -> samples at 16 kHz, as far as they are certain."""
    if rate == SAMPLE_RATE:
        return lambda samples, last: np.clip(samples, -1, 1)
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    return lambda samples, last: np.clip(stream.resample_chunk(samples, last=last), -1, 1)


class _Growing:
    """A file that FFmpeg reads while it is written; it can neither seek nor know its end."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = filter(None, chunks)  # an empty read would be the end of the file
        self._ready = b""
        self.kind = ""
        self.mute_bytes = 0
        """Read since the last sound."""
        self.error: MoodalError | None = None

    def format(self) -> str:
        """FFmpeg's name of it: told here, so that nothing else is ever tried on unknown bytes."""
        while len(self._ready) < 4 and (chunk := next(self._chunks, b"")):
            self._ready += chunk
        found = _MAGIC.get(self._ready[:4])
        if found is None:
            raise RecordError(
                f"begins with {self._ready[:4].hex(' ') or 'nothing'}, which is neither WebM nor"
                " Ogg; send what the recorder writes from its first chunk on, or the format pcm16",
                field="audio",
            )
        self.kind = "Ogg" if found == "ogg" else "WebM"
        return found

    def read(self, n_bytes: int) -> bytes:
        """b"" at the end, and after an error: what is raised here, FFmpeg would only print."""
        try:
            self._ready = self._ready or next(self._chunks, b"")
        except MoodalError as error:
            self.error = error
        given, self._ready = self._ready[:n_bytes], self._ready[n_bytes:]
        self.mute_bytes += len(given)
        if self.mute_bytes <= MUTE_BYTES:
            return given
        self.error = RecordError(
            f"the {self.kind} stream has gone on for {MUTE_BYTES:,} bytes without a sound;"
            " record sound alone",
            field="audio",
        )
        return b""
