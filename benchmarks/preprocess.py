"""What one picture and 3 s of sound cost before the model sees them: one thread, median of many.

.venv/bin/python benchmarks/preprocess.py
"""

from __future__ import annotations

import importlib.util
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy reads it

import numpy as np
import soundfile
from numpy.typing import NDArray

from moodal import config
from moodal.preprocess import audio, augment, image
from moodal.preprocess.cache import Cache, content_key

DATA = Path(__file__).parents[2] / "shared" / "data"
RATE = audio.SAMPLE_RATE
SECONDS = 3


def rows(n_times: int = 300) -> list[dict[str, object]]:
    """What was measured, its median in milliseconds, the target where there is one (else None)."""
    found = [*_frames(n_times), *_sound_files(n_times), *_pictures(n_times), *_cache(n_times)]
    return [{"what": what, "ms": round(ms, 3), "target_ms": target} for what, ms, target in found]


Row = tuple[str, float, float | None]


def median_ms(work: Callable[[], object], n_times: int) -> float:
    for _ in range(20):
        work()
    seconds = []
    for _ in range(n_times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def _frames(n: int) -> list[Row]:
    sound, rng = _speech_like(), np.random.default_rng(0)
    logmel, mfcc = config.Audio(), config.Audio(feature="mfcc")
    made = audio.frames(sound, logmel)
    found: list[Row] = [
        ("log-mel, 3 s", median_ms(lambda: audio.frames(sound, logmel), n), 1.0),
        ("MFCC + deltas, 3 s", median_ms(lambda: audio.frames(sound, mfcc), n), 2.0),
    ]
    if importlib.util.find_spec("librosa"):
        found += _librosa(sound, n)
    return [
        *found,
        ("augment sound, 3 s", median_ms(lambda: augment.sound(sound, logmel, rng), n), None),
        ("augment frames, 3 s", median_ms(lambda: augment.mask(made, logmel, rng), n), None),
    ]


def _librosa(sound: NDArray[np.float32], n: int) -> list[Row]:
    import librosa

    settings = config.Audio()
    power = {"n_fft": 512, "win_length": 400, "hop_length": 160, "center": False, "htk": True}

    def logmel() -> NDArray[np.float32]:
        mel = librosa.feature.melspectrogram(
            y=sound, sr=RATE, n_mels=settings.n_mels, norm=None, **power
        )
        return np.asarray(np.log(np.maximum(mel, 1e-10)), np.float32)

    def mfcc() -> NDArray[np.float32]:
        values = librosa.feature.mfcc(S=logmel(), n_mfcc=settings.n_mfcc)
        first = librosa.feature.delta(values, width=5)
        return np.concatenate([values, first, librosa.feature.delta(values, width=5, order=2)])

    return [
        ("librosa: log-mel, 3 s", median_ms(logmel, n), None),
        ("librosa: MFCC + deltas, 3 s", median_ms(mfcc, n), None),
    ]


def _sound_files(n: int) -> list[Row]:
    settings = config.Audio()

    def row(kind: str, rate: int) -> Row:
        file = io.BytesIO()
        soundfile.write(file, _speech_like(rate), rate, format=kind)
        data = file.getvalue()
        return (
            f"decode {kind} {rate / 1000:g} kHz, 3 s",
            median_ms(lambda: audio.decode(data, settings), n),
            None,
        )

    return [row(kind, rate) for kind in ("WAV", "FLAC", "OGG", "MP3") for rate in (RATE, 44_100)]


def _pictures(n: int) -> list[Row]:
    settings, rng = config.Image(), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (settings.size, settings.size, 3), dtype=np.uint8)
    found: list[Row] = [
        (
            "augment picture, 96 px",
            median_ms(lambda: augment.picture(pixels, settings, rng), n),
            0.4,
        )
    ]
    path = next(iter(sorted((DATA / "mvsa-single" / "images").glob("*.jpg"))), None)
    if path is not None:  # real data: only where it stands
        decode = median_ms(lambda: image.decode(path, settings), n)
        found.insert(0, ("decode JPEG 192 px to 96", decode, None))
    return found


def _cache(n: int) -> list[Row]:
    picture = np.zeros((96, 96, 3), np.uint8)
    data = bytes(12_000)
    with tempfile.TemporaryDirectory() as folder, Cache(Path(folder), "bench") as cache:
        cache.put(b"k", picture)
        return [
            ("key of a 12 kB file's bytes", median_ms(lambda: content_key(data), n), None),
            ("cache get, 96 px picture", median_ms(lambda: cache.get(b"k"), n), None),
            ("cache put, 96 px picture", median_ms(lambda: cache.put(b"k", picture), n), None),
        ]


def _speech_like(rate: int = RATE) -> NDArray[np.float32]:
    """A gliding tone with harmonics and a little noise: neither silence nor all noise."""
    n = np.arange(SECONDS * rate) / rate
    phase = 2 * np.pi * (120 * n + 20 * np.sin(2 * np.pi * n))
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    noise = np.random.default_rng(0).normal(0, 0.01, len(n))
    return np.asarray(0.1 * voice + noise, np.float32)


if __name__ == "__main__":
    for row in rows():
        target = f"  (at most {row['target_ms']})" if row["target_ms"] is not None else ""
        print(f"{row['what']:<32}{row['ms']:>9.3f} ms{target}")
