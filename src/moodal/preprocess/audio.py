"""Sound files -> samples -> frames. Limits on bytes and seconds come before decoding.

Letters: S frames. Constants and formulas follow the HTK Book 3.4 (Young et al. 2006), chapter 5.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from moodal import config
from moodal.errors import ConfigError, RecordError
from moodal.preprocess.cache import kind_of, name_of, size_bytes
from moodal.types import Media

SAMPLE_RATE = 16_000
"""Hertz, of all sound inside moodal."""
MAX_BYTES = 2_000_000_000
"""Above an hour of 24-bit stereo at 96 kHz (2.1e9 bytes); longer is refused by its seconds."""
RANGE = np.float32(8 * np.log(10))
"""80 dB, as a difference of natural logarithms of power."""
FLOOR = 1e-10
"""Smallest power before the logarithm. Source: whisper/audio.py, log_mel_spectrogram."""
DELTA_FRAMES = 2
"""Frames on each side that a difference looks at. Source: HTK's default DELTAWINDOW."""

ACCEPTED = "wav, flac, mp3 and ogg recordings are read, with the extra `media` opus, m4a and webm"
_BLOCK_FRAMES = 32
"""Frames transformed at a time. The spectrum of 32 x 512 samples is under 128 KiB, which malloc
gives again and again; larger ones come fresh from the kernel, and cost twice the time."""
_UNKNOWN = 2**62  # libsndfile's count of frames where the header does not say
_UNRECOGNISED = 1  # SF_ERR_UNRECOGNISED_FORMAT in sndfile.h
_BLOCK_SAMPLES = 1 << 19  # of each channel at a time, 11 s at 48 kHz: one read for most files
FFMPEG_FORMATS = "aac,amr,asf,caf,flac,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,ogg,wav"
"""Without the list a playlist could make FFmpeg open other files and addresses."""
_NOT_SOUND = ("text file", "picture", "document", "archive")


class _Sound(NamedTuple):
    """rate: hertz. seconds: None = the header does not say. blocks: (n, channels) float32."""

    rate: int
    seconds: float | None
    blocks: Iterator[NDArray[np.float32]]


def decode(source: Media, settings: config.Audio) -> NDArray[np.float32]:
    """A recording as mono at 16 kHz, cut to max_seconds; the rest is not read.

    source: a path or a file's bytes.
    Returns: (n_samples,) float32 in [-1, 1], n_samples at least 1.
    Raises: RecordError naming the file, what it is and what is accepted.
    """
    if not isinstance(source, Path | bytes):
        raise RecordError(
            "samples as an array could be taken for features; give a path or a file's bytes",
            field="audio",
        )
    size_bytes(source, field="audio", limit=MAX_BYTES)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_refusing(source, OSError, soundfile.LibsndfileError))
        sound = _open(source, stack)
        if sound.seconds is not None and sound.seconds > settings.limit_seconds:
            raise RecordError(
                f"{name_of(source)}: lasts {sound.seconds:,.0f} s, at most"
                f" {settings.limit_seconds:,.0f} s are read; cut it, or raise audio.limit_seconds",
                field="audio",
            )
        mono = _mono(sound.blocks, max(1, int(settings.max_seconds * sound.rate)))
    if not len(mono):
        raise RecordError(f"{name_of(source)}: holds no sound; replace it", field="audio")
    if not np.isfinite(mono).all():
        raise RecordError(
            f"{name_of(source)}: holds samples that are not numbers (NaN or infinite); replace it",
            field="audio",
        )
    return np.clip(_at_our_rate(mono, sound.rate), -1, 1)


def wav(samples: NDArray[np.float32]) -> bytes:
    """(n_samples,) in [-1, 1] at 16 kHz -> the bytes of a WAV file, 16 bits a sample."""
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    return file.getvalue()


def n_features(settings: config.Audio) -> int:
    """The width of what frames returns."""
    if settings.feature == "logmel":
        return settings.n_mels
    return settings.n_mfcc * (3 if settings.deltas else 1)


def seconds_per_frame(settings: config.Audio) -> float:
    """From the beginning of one frame to that of the next."""
    return max(1, round(settings.hop_ms * SAMPLE_RATE / 1000)) / SAMPLE_RATE


def n_frames(samples: NDArray[np.float32], settings: config.Audio) -> int:
    """How many rows `frames` returns."""
    length = max(1, round(settings.frame_ms * SAMPLE_RATE / 1000))
    hop = max(1, round(settings.hop_ms * SAMPLE_RATE / 1000))
    return 1 + max(0, len(samples) - length) // hop


def frames(samples: NDArray[np.float32], settings: config.Audio) -> NDArray[np.float32]:
    """Log-mel energies, or MFCC with their first and second differences.

    samples: (n_samples,) float32 in [-1, 1] at 16 kHz; shorter than a frame is padded with zeros.
    Returns: (S, n_features) float32; S = 1 + (n_samples - frame) // hop, frame and hop in samples.
    Raises: ConfigError when n_mfcc is above n_mels.
    """
    length = max(1, round(settings.frame_ms * SAMPLE_RATE / 1000))
    hop = max(1, round(settings.hop_ms * SAMPLE_RATE / 1000))
    if len(samples) < length:
        samples = np.pad(samples, (0, length - len(samples)))
    framed = np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]
    logmel = NORMALISE[settings.normalise](_log_mel(framed, settings.n_mels))
    if settings.feature == "logmel":
        return logmel
    mfcc = logmel @ _cosines(settings.n_mels, settings.n_mfcc)
    if not settings.deltas:
        return mfcc
    first = _differences(mfcc)
    return np.concatenate([mfcc, first, _differences(first)], axis=1)


def _audible(logmel: NDArray[np.float32]) -> NDArray[np.float32]:
    """What lies RANGE under the loudest is lifted to it: digital silence is no quieter than a quiet
    room. Source: Radford et al., Whisper (2022), whose log_mel_spectrogram does so at 80 dB."""
    heard: NDArray[np.float32] = np.maximum(logmel, logmel.max() - RANGE)
    return heard


NORMALISE: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "bands": lambda logmel: (heard := _audible(logmel)) - heard.mean(axis=0),
    "level": lambda logmel: (heard := _audible(logmel)) - heard.mean(),
    "none": lambda logmel: logmel,
}
"""Source of bands: Atal, Effectiveness of linear prediction characteristics (JASA 1974), section
III: a fixed filter adds a constant to the log spectrum, which subtracting the mean removes."""


def _log_mel(framed: NDArray[np.float32], n_mels: int) -> NDArray[np.float32]:
    """(S, length) -> (S, n_mels): ln of the power that each mel filter lets through."""
    n_frames, length = framed.shape
    window, filters = _hann(length), mel_filters(length, n_mels)
    energies = np.empty((n_frames, n_mels), np.float32)
    padded = np.zeros((min(n_frames, _BLOCK_FRAMES), _n_fft(length)), np.float32)
    for start in range(0, n_frames, _BLOCK_FRAMES):
        block = framed[start : start + _BLOCK_FRAMES]
        np.multiply(block, window, out=padded[: len(block), :length])
        spectrum = np.fft.rfft(padded[: len(block)])
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        energies[start : start + len(block)] = power.astype(np.float32, copy=False) @ filters
    np.maximum(energies, FLOOR, out=energies)
    return np.log(energies, out=energies)


def _n_fft(length: int) -> int:
    """The next power of two, as HTK and Kaldi do: the transform is fast for any frame."""
    return 1 << (length - 1).bit_length()


@functools.cache
def _hann(length: int) -> NDArray[np.float32]:
    """0.5 - 0.5 cos(2 pi n / length), the periodic form. Source: Harris 1978, equation 27b."""
    n = np.arange(length)
    return (0.5 - 0.5 * np.cos(2 * np.pi * n / length)).astype(np.float32)


@functools.cache
def mel_filters(length: int, n_mels: int) -> NDArray[np.float32]:
    """(n_fft / 2 + 1, n_mels): triangles from 0 Hz to half the rate, their corners equally far
    apart in mel = 2595 log10(1 + hertz / 700), the peak of each 1.

    Source: HTK Book, equation 5.13 and figure 5.3; triangles straight in hertz, as
    torchaudio.functional.melscale_fbanks(norm=None, mel_scale="htk") and librosa(htk=True) do.
    """
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(_n_fft(length), 1 / SAMPLE_RATE)[:, None]
    rising = (hertz - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - hertz) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


@functools.cache
def _cosines(n_mels: int, n_mfcc: int) -> NDArray[np.float32]:
    """(n_mels, n_mfcc): the DCT-II, orthonormal. Source: HTK Book, equation 5.14, with the first
    column scaled by sqrt(1/2) so that the columns are of length 1."""
    if n_mfcc > n_mels:
        raise ConfigError(f"audio.n_mfcc={n_mfcc} is above audio.n_mels={n_mels}; lower it")
    k, n = np.arange(n_mfcc), np.arange(n_mels)[:, None]
    cosines = np.sqrt(2 / n_mels) * np.cos(np.pi / n_mels * k * (n + 0.5))
    cosines[:, 0] *= np.sqrt(0.5)
    return np.asarray(cosines, np.float32)


def _differences(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, D) -> (S, D): the slope of each value over 2 DELTA_FRAMES + 1 frames; the first and last
    frame stand for those outside. Source: HTK Book, equation 5.16."""
    n_frames = len(values)
    padded = np.pad(values, ((DELTA_FRAMES, DELTA_FRAMES), (0, 0)), "edge")
    slope = np.zeros_like(values)
    for step in range(1, DELTA_FRAMES + 1):
        after = padded[DELTA_FRAMES + step : DELTA_FRAMES + step + n_frames]
        before = padded[DELTA_FRAMES - step : DELTA_FRAMES - step + n_frames]
        slope += step * (after - before)
    slope /= 2 * sum(step**2 for step in range(1, DELTA_FRAMES + 1))
    return slope


def _at_our_rate(mono: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    if rate == SAMPLE_RATE:
        return mono
    resampled = soxr.resample(mono, rate, SAMPLE_RATE)
    return resampled if len(resampled) else np.zeros(1, np.float32)


def _mono(blocks: Iterator[NDArray[np.float32]], n_samples: int) -> NDArray[np.float32]:
    """The channels' mean, at most n_samples of it."""
    parts = [np.zeros(0, np.float32)]
    left = n_samples
    while left > 0 and (block := next(blocks, None)) is not None:
        with np.errstate(over="ignore", invalid="ignore"):  # infinite samples are refused later
            parts.append((block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))[:left])
        left -= len(block)
    return np.concatenate(parts)


@contextlib.contextmanager
def _refusing(source: Path | bytes, *errors: type[Exception]) -> Iterator[None]:
    """A decoder's errors become a RecordError."""
    try:
        yield
    except errors as error:
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", str(error))
        raise RecordError(
            f"{name_of(source)}: is {kind_of(source)} that cannot be read, damaged or cut short"
            f" ({reason}); replace it; {ACCEPTED}",
            field="audio",
        ) from error


def _open(source: Path | bytes, stack: contextlib.ExitStack) -> _Sound:
    """libsndfile where it knows the format, else FFmpeg; `stack` closes what is opened."""
    file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    stack.enter_context(file)
    # By its number a file has no name for libsndfile to guess from ("x.raw" needs a rate, it says).
    handle = file if isinstance(source, bytes) else file.fileno()
    try:
        sound = stack.enter_context(soundfile.SoundFile(handle, closefd=False))
    except soundfile.LibsndfileError as error:
        if error.code != _UNRECOGNISED:
            raise
        sound = None
    if sound is None or sound.frames >= _UNKNOWN:  # soundfile cannot read to an unknown end
        file.seek(0)
        return _open_with_ffmpeg(source, file, stack)
    seconds = sound.frames / sound.samplerate
    return _Sound(sound.samplerate, seconds, _libsndfile_blocks(sound))


def _libsndfile_blocks(sound: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    while len(block := sound.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
        yield np.asarray(block, np.float32)


def _open_with_ffmpeg(source: Path | bytes, file: BinaryIO, stack: contextlib.ExitStack) -> _Sound:
    kind = kind_of(source)
    if kind.endswith(_NOT_SOUND):
        raise RecordError(
            f"{name_of(source)}: is {kind}, not a recording; {ACCEPTED}", field="audio"
        )
    try:
        import av
    except ImportError as error:
        raise RecordError(
            f"{name_of(source)}: is {kind}; to read opus, m4a, webm and the like:"
            " pip install 'moodal[media]'",
            field="audio",
        ) from error
    # av's errors must become ours before they leave this function: only here is av known.
    with _refusing(source, av.FFmpegError, ValueError):
        container = stack.enter_context(
            av.open(
                file, "r", metadata_errors="ignore", options={"format_whitelist": FFMPEG_FORMATS}
            )
        )
    track = next(iter(container.streams.audio), None)
    codec = None if track is None else track.codec_context  # None for a codec FFmpeg lacks
    if codec is None or not codec.sample_rate:
        raise RecordError(
            f"{name_of(source)}: is {kind} without a readable sound track; {ACCEPTED}",
            field="audio",
        )
    duration = container.duration
    seconds = None if duration is None or duration < 0 else duration / 1_000_000  # AV_TIME_BASE

    def blocks() -> Iterator[NDArray[np.float32]]:
        with _refusing(source, av.FFmpegError, ValueError):
            to_float = av.AudioResampler(format="fltp")
            for frame in itertools.chain(container.decode(track), [None]):  # None: the remainder
                for part in to_float.resample(frame):
                    yield np.asarray(part.to_ndarray().T, np.float32)

    return _Sound(codec.sample_rate, seconds, blocks())
