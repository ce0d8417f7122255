"""A voice out of a formula, which a voice activity detector takes for one; and what records it."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from moodal.preprocess.audio import SAMPLE_RATE

Samples = NDArray[np.float32]

_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
"""Formants of a, i, u, e in hertz. Source: Peterson and Barney (JASA 1952), table II, men."""
_BANDWIDTHS = (80, 100, 150)


def say(seconds: float, seed: int = 0) -> Samples:
    """Syllables at 16 kHz: a burst of noise and a vowel each, their pitch rising and falling."""
    rng = np.random.default_rng(seed)
    parts = [np.zeros(0)]
    while sum(map(len, parts)) < seconds * SAMPLE_RATE:
        burst = 0.1 * np.diff(rng.standard_normal(rng.integers(500, 1100)), prepend=0)
        parts += [burst, _vowel(_VOWELS[rng.integers(len(_VOWELS))], rng)]
    return (0.3 * np.concatenate(parts)[: round(seconds * SAMPLE_RATE)]).astype(np.float32)


def silence(seconds: float) -> Samples:
    """A quiet room."""
    noise = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    return (0.0005 * noise).astype(np.float32)


def pcm(samples: Samples) -> bytes:
    return np.rint(samples * 32767).astype("<i2").tobytes()


def recorded(samples: Samples, format: str = "webm", codec: str = "libopus") -> bytes:
    """As a browser's recorder writes it, to a stream that cannot be sought in.

    format: webm (Chromium), ogg (Firefox), or another that FFmpeg writes.
    """
    import av

    class Sink:
        def __init__(self) -> None:
            self.file = io.BytesIO()

        def write(self, data: bytes) -> int:
            return self.file.write(data)

    sink = Sink()
    with av.open(sink, "w", format=format) as container:
        stream = container.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        for start in range(0, len(samples), SAMPLE_RATE):
            codes = np.frombuffer(pcm(samples[start : start + SAMPLE_RATE]), "<i2")
            frame = av.AudioFrame.from_ndarray(codes[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return sink.file.getvalue()


def cut(data: bytes, n_bytes: int) -> list[bytes]:
    return [data[start : start + n_bytes] for start in range(0, len(data), n_bytes)]


def _vowel(formants: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Glottal pulses through one resonator a formant.

    Source: Klatt, Software for a cascade/parallel formant synthesizer (JASA 1980), section II.
    """
    n_samples = int(rng.integers(2000, 4000))
    seconds = np.arange(n_samples) / SAMPLE_RATE
    hertz = rng.uniform(100, 140) * (1 + 0.1 * np.sin(2 * np.pi * 2 * seconds))
    pulses = np.diff(np.floor(np.cumsum(hertz) / SAMPLE_RATE), prepend=0)
    voiced = np.convolve(pulses, np.exp(-np.arange(64) / 8), "same")
    voiced += 0.01 * rng.standard_normal(n_samples)
    for formant, bandwidth in zip(formants, _BANDWIDTHS, strict=True):
        voiced = _resonator(voiced, formant, bandwidth)
    voiced *= np.minimum(1, np.minimum(seconds, seconds[::-1]) / 0.03)
    return voiced / np.abs(voiced).max()


def _resonator(x: NDArray[np.float64], hertz: float, bandwidth: float) -> NDArray[np.float64]:
    """Klatt 1980, equation 2."""
    c = -np.exp(-2 * np.pi * bandwidth / SAMPLE_RATE)
    b = 2 * np.exp(-np.pi * bandwidth / SAMPLE_RATE) * np.cos(2 * np.pi * hertz / SAMPLE_RATE)
    y, last, before = np.zeros_like(x), 0.0, 0.0
    for n, value in enumerate((1 - b - c) * x):
        y[n] = value + b * last + c * before
        last, before = float(y[n]), last
    return y
