"""A tiny learnable set, made on the spot: texts in two languages, drawn faces, speech-like sound.

Each modality shows the row's label most of the time and another label else, independently of the
others: so that each alone is right about four times in five, and all three together more often.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from moodal.data.toy_words import sentence
from moodal.errors import DataError

LABELS = ("negative", "neutral", "positive")
COLUMNS = ("id", "text", "image", "audio", "label", "lang", "group")
SAMPLE_RATE = 16_000
HONEST = 0.88
"""The chance that a modality shows the row's own label."""
ABSENT = 0.12
"""The chance that a modality is absent (one is always left)."""
_PARTS = (("train", 0.8), ("dev", 0.9), ("test", 1.0))
_SPEAKERS = 20
_SIDE = 96
_STEP = 80
_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
"""First three formants in Hz. Source: Peterson & Barney, 1952 (men: a, i, u, e)."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice and a face."""

    name: str
    pitch_hz: float
    skin: tuple[int, int, int]


def toy(folder: Path, *, rows: int = 600, seed: int = 0) -> dict[str, Any]:
    """Write train.csv, dev.csv and test.csv (80 / 10 / 10) and their media into a folder.

    Labels are positive, neutral and negative in equal parts; half of the rows are Chinese, half
    English; `group` is the speaker, and no speaker is in two parts.
    rows: in all, at least 30. Returns {"train": {"path", "rows"}, ...}.
    Same rows and seed: the same bytes. Raises: DataError, for too few rows.
    """
    if rows < 30:
        raise DataError(f"rows={rows}: a toy set needs at least 30, for three parts")
    rng = np.random.default_rng(seed)
    speakers = [_speaker(i, rng) for i in range(_SPEAKERS)]
    for name in ("images", "audio"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    start = 0
    for part, share in _PARTS:
        end = round(rows * share)
        cast = speakers[round(_SPEAKERS * start / rows) : round(_SPEAKERS * end / rows)]
        path = folder / f"{part}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            for i in range(start, end):
                writer.writerow(_row(folder, i, cast[i % len(cast)], rng))
        report[part] = {"path": str(path), "rows": end - start}
        start = end
    return report


def _speaker(i: int, rng: np.random.Generator) -> Speaker:
    tone = int(rng.integers(150, 240))
    skin = (tone, int(tone * 0.82), int(tone * 0.66))
    return Speaker(f"s{i:02d}", float(rng.uniform(95, 230)), skin)


def _row(folder: Path, i: int, speaker: Speaker, rng: np.random.Generator) -> dict[str, str]:
    label = i % len(LABELS)
    lang = ("en", "zh")[i // len(LABELS) % 2]
    name = f"toy-{i:05d}"
    present = rng.random(3) >= ABSENT
    present[rng.integers(3)] = True
    shown = [
        label if rng.random() < HONEST else int(label + rng.integers(1, 3)) % len(LABELS)
        for _ in range(3)
    ]
    row = {"id": name, "label": LABELS[label], "lang": lang, "group": speaker.name}
    if present[0]:
        row["text"] = sentence(shown[0], lang, rng)
    if present[1]:
        kind = ("jpg", "png")[i % 2]
        row["image"] = f"images/{name}.{kind}"
        face(shown[1], speaker, rng).save(folder / row["image"], quality=88)
    if present[2]:
        row["audio"] = f"audio/{name}.wav"
        _write_wav(folder / row["audio"], voice(shown[2], speaker, rng))
    return row


# ---- pictures ----------------------------------------------------------------------------------


def face(label: int, speaker: Speaker, rng: np.random.Generator) -> Image.Image:
    """A face (_SIDE, _SIDE): smiling in the light, frowning in the dark, or straight in between."""
    mood = label - 1
    light = 128 + 38 * mood + rng.normal(0, 20)
    ground = tuple(int(np.clip(light + rng.normal(0, 12), 0, 255)) for _ in range(3))
    picture = Image.new("RGB", (_SIDE, _SIDE), ground)
    draw = ImageDraw.Draw(picture)
    x, y = (_SIDE / 2 + rng.normal(0, 3) for _ in range(2))
    radius = rng.uniform(30, 36)
    shade = np.clip(light / 128, 0.55, 1.15)
    skin = tuple(min(255, int(tone * shade)) for tone in speaker.skin)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=skin, outline=(30, 30, 30))
    for side in (-1, 1):
        eye_x, eye_y = x + side * radius * 0.4, y - radius * 0.25
        draw.ellipse((eye_x - 3, eye_y - 4, eye_x + 3, eye_y + 4), fill=(20, 20, 30))
        brow = eye_y - 9
        draw.line(
            (eye_x - side * 6, brow - mood * 3, eye_x + side * 6, brow + mood * 3), (20,) * 3, 2
        )
    bend = radius * (0.28 * mood + rng.normal(0, 0.05))
    across = np.linspace(-1, 1, 15)
    mouth = [(x + t * radius * 0.5, y + radius * 0.45 + bend * (0.5 - t * t)) for t in across]
    draw.line(mouth, fill=(140, 20, 40), width=3)
    return _grainy(picture, rng)


def _grainy(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(picture, dtype=np.float32)
    noisy = pixels + rng.normal(0, 8, pixels.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


# ---- sound -------------------------------------------------------------------------------------


def voice(label: int, speaker: Speaker, rng: np.random.Generator) -> NDArray[np.float32]:
    """Syllables of a voice, (n,) samples of 1.0 to 1.6 s: high, lively, loud and quick when glad;
    low, falling, soft and slow when sad.

    A sum of harmonics of a moving pitch, each as strong as the vowel's formants make it.
    """
    mood = label - 1
    seconds = rng.uniform(1.0, 1.6)
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rate = 3.8 + 0.9 * mood + rng.normal(0, 0.3)  # syllables a second
    swing = 0.10 + 0.06 * mood + rng.normal(0, 0.02)  # share of the pitch
    slope = 0.25 * mood + rng.normal(0, 0.07)
    base = speaker.pitch_hz * (1 + 0.10 * mood + rng.normal(0, 0.05))
    contour = 1 + slope * (t / seconds - 0.5) + swing * np.sin(2 * np.pi * rate / 2 * t)
    pitch = base * contour  # Hz
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    vowel = (t * rate).astype(int)
    formants = np.array(_VOWELS)[rng.integers(len(_VOWELS), size=vowel[-1] + 1)][vowel]  # (n, 3)
    loud = np.clip(np.sin(np.pi * (t * rate % 1)), 0, 1) ** 0.6
    wave = _harmonics(phase, pitch, formants) * loud
    gain_db = -22 + 6 * mood + rng.normal(0, 2.5)
    wave *= 10 ** (gain_db / 20) / np.sqrt(np.mean(wave**2))
    wave += rng.normal(0, 0.004, wave.shape)
    return np.clip(wave, -1, 1).astype(np.float32)


def _harmonics(
    phase: NDArray[np.float64], pitch: NDArray[np.float64], formants: NDArray[np.int_]
) -> NDArray[np.float64]:
    wave = np.zeros_like(phase)
    sine, before, twice_cosine = np.sin(phase), np.zeros_like(phase), 2 * np.cos(phase)
    for k in range(1, 21):
        # A mouth moves slowly: one strength for every _STEP samples.
        peaks = (k * pitch[::_STEP, None] - formants[::_STEP]) / (80, 110, 160)  # half widths, Hz
        strength = (1 / (1 + peaks**2) * (1.0, 0.5, 0.25)).sum(axis=1) + 0.01
        wave += np.repeat(strength / k, _STEP)[: len(wave)] * sine
        sine, before = twice_cosine * sine - before, sine  # sin((k + 1) phase)
    return wave


def _write_wav(path: Path, samples: NDArray[np.float32]) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    path.write_bytes(buffer.getvalue())
