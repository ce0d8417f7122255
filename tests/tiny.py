"""A tiny learnable set of texts, pictures and tones, and one model trained on it once."""

from __future__ import annotations

import atexit
import csv
import functools
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

from moodal.tasks import TASKS

LABELLED = next(name for name, task in TASKS.items() if task.higher_is_better)
NUMBERED = next(name for name, task in TASKS.items() if not task.higher_is_better)
LABELS = ("bad", "fair", "good")
COLUMNS = ("id", "text", "image", "audio", "label", "lang", "group")
N_DEV = 24

WORDS = {
    "bad": ("awful", "boring", "broken", "糟糕", "难看", "失望"),
    "fair": ("okay", "average", "plain", "一般", "普通", "还行"),
    "good": ("great", "lovely", "superb", "精彩", "喜欢", "满意"),
}
COLOURS = {"bad": (200, 40, 40), "fair": (120, 120, 120), "good": (40, 200, 40)}
TONES = {"bad": 300.0, "fair": 1200.0, "good": 4000.0}
NUMBERS = {"bad": -10.0, "fair": 0.0, "good": 10.0}

SETTINGS: tuple[str, ...] = (
    "text.vocabulary=500",
    "text.min_count=1",
    "text.char_ngrams=2",
    "text.max_tokens=24",
    "image.size=24",
    "audio.n_mels=16",
    "audio.max_seconds=1",
    "text_encoder.width=12",
    "image_encoder.width=12",
    "audio_encoder.width=12",
    "text_encoder.layers=1",
    "text_encoder.dropout=0.3",
    "image_encoder.layers=1",
    "audio_encoder.layers=1",
    "fusion.width=8",
    "fusion.heads=2",
    "train.epochs=3",
    "train.batch_size=8",
    "train.learning_rate=0.02",
)

PITCHES = {"a": 300.0, "b": 700.0, "c": 1500.0, " ": 3500.0}
"""What is spoken: each character is a tone of its own."""
LETTER_SECONDS, GAP_SECONDS = 0.15, 0.03

HEARING: tuple[str, ...] = (
    "task=transcribe",
    "audio.n_mels=16",
    "audio.max_seconds=4",
    "audio.augment=0",
    "audio_encoder.kind=cnn",
    "audio_encoder.width=16",
    "audio_encoder.layers=2",
    "audio_encoder.dropout=0",
    "fusion.width=16",
    "head.dropout=0",
    "fusion.dropout=0",
    "train.epochs=15",
    "train.batch_size=4",
    "train.learning_rate=0.02",
    "train.patience=15",
)

WRITING: tuple[str, ...] = (
    "task=summarise",
    "text.symbols=200",
    "text.max_tokens=40",
    "text.word_dropout=0",
    "text_encoder.kind=cnn",
    "text_encoder.width=32",
    "text_encoder.layers=1",
    "text_encoder.dropout=0.3",
    "text_encoder.dropout=0",
    "fusion.width=32",
    "fusion.dropout=0",
    "decoder.dropout=0",
    "decode.beam=2",
    "decode.min_length=1",
    "decode.max_length=8",
    "train.epochs=6",
    "train.batch_size=8",
    "train.learning_rate=0.01",
    "train.label_smoothing=0",
)


def rows(folder: Path, n: int = 48, *, seed: int = 0, numeric: bool = False) -> Path:
    """Write media, train.csv (n rows) and dev.csv (24 rows); return `folder`.

    Every third row or so lacks some modality, none lacks all. numeric: the label is a number in
    about -11 to 11 (spread about 8) instead of bad, fair or good.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part, size in (("train", n), ("dev", N_DEV)):
        rng = np.random.default_rng((seed, size, part == "dev"))
        labels = rng.permutation([LABELS[i % len(LABELS)] for i in range(size)])
        written = [
            _row(folder, f"{part}-{i}", str(label), rng, numeric=numeric)
            for i, label in enumerate(labels)
        ]
        write(folder / f"{part}.csv", written)
    return folder


def write(path: Path, written: list[dict[str, str]]) -> Path:
    """Rows to a CSV with the columns of COLUMNS; cells that a row lacks are empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(written)
    return path


def sentence(label: str, rng: np.random.Generator) -> tuple[str, str]:
    """(text, language): one telling word among neutral ones."""
    place = int(rng.integers(6))
    word = WORDS[label][place]
    if place < 3:
        neutral = rng.choice(["this film", "the room", "my order", "that song"])
        return f"{neutral} was {word} on day {rng.integers(30)}", "en"
    neutral = rng.choice(["这部电影", "这个房间", "我的订单", "那首歌"])
    return f"{neutral}真的很{word}", "zh"


def picture(label: str, rng: np.random.Generator, *, side: int = 24) -> NDArray[np.uint8]:
    """(side, side, 3) uint8: one colour a label, with noise."""
    noise = rng.normal(0, 20, (side, side, 3))
    return np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)


def tone(label: str, rng: np.random.Generator, *, seconds: float = 0.3) -> NDArray[np.float32]:
    """(n_samples,) float32 at 16 kHz: one pitch a label, with noise."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    wave = 0.3 * np.sin(2 * np.pi * TONES[label] * rng.uniform(0.95, 1.05) * time)
    return (wave + rng.normal(0, 0.01, len(time))).astype(np.float32)


def spoken(text: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """(n_samples,) float32 at 16 kHz: the characters' tones with short gaps, and noise."""
    time = np.arange(round(LETTER_SECONDS * 16_000)) / 16_000
    gap = np.zeros(round(GAP_SECONDS * 16_000))
    parts = [gap]
    for character in text:
        parts += [0.3 * np.sin(2 * np.pi * PITCHES[character] * time), gap]
    wave = np.concatenate(parts)
    return (wave + rng.normal(0, 0.003, len(wave))).astype(np.float32)


def utterance(rng: np.random.Generator) -> str:
    """One or two words of one to three letters."""
    words = [
        "".join(rng.choice(list("abc"), rng.integers(1, 4))) for _ in range(rng.integers(1, 3))
    ]
    return " ".join(words)


def speech(folder: Path, n: int = 40) -> Path:
    """Write recordings, train.csv (n rows) and dev.csv (12 rows); return `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, size in (("train", n), ("dev", 12)):
        rng = np.random.default_rng((size, part == "dev"))
        written = []
        for i in range(size):
            said = utterance(rng)
            (folder / f"{part}-{i}.wav").write_bytes(wav(spoken(said, rng)))
            written.append({"id": f"{part}-{i}", "audio": f"{part}-{i}.wav", "label": said})
        write(folder / f"{part}.csv", written)
    return folder


NAMES = ("anna", "ben", "carla", "dora", "emil", "frida")
THINGS = ("rice", "tea", "bread", "milk", "fish", "cake")


def article(rng: np.random.Generator) -> tuple[str, str]:
    """(text, what it says in short): what was bought, among other words."""
    who, what = rng.choice(NAMES), rng.choice(THINGS)
    before = rng.choice(["today", "as we hear", "in the town"])
    return f"{before} , {who} went out and bought {what} there .", f"some {what}"


def articles(folder: Path, n: int = 64) -> Path:
    """Write train.csv (n rows) and dev.csv (16 rows); return `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, size in (("train", n), ("dev", 16)):
        rng = np.random.default_rng((size, part == "dev"))
        pairs = [article(rng) for _ in range(size)]
        written = [
            {"id": f"{part}-{i}", "text": text, "label": short}
            for i, (text, short) in enumerate(pairs)
        ]
        write(folder / f"{part}.csv", written)
    return folder


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def wav(samples: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16_000, format="WAV")
    return buffer.getvalue()


@functools.cache
def train_once() -> Path:
    """The folder of a model trained with SETTINGS; `rows` stands in `data` beside it.

    One for the whole test run: read it, never write to it (copy it with shutil.copytree first).
    """
    from moodal import api

    home = Path(tempfile.mkdtemp(prefix="moodal-tiny-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    data = rows(home / "data")
    settings = (*SETTINGS, f"cache={home / 'cache'}")
    api.train(data / "train.csv", valid=data / "dev.csv", out=home / "model", settings=settings)
    return home / "model"


@functools.cache
def hear_once() -> Path:
    """As train_once, of HEARING on `speech`."""
    return _text_once(speech, HEARING)


@functools.cache
def write_once() -> Path:
    """As train_once, of WRITING on `articles`."""
    return _text_once(articles, WRITING)


def _text_once(make: Callable[[Path], Path], settings: tuple[str, ...]) -> Path:
    from moodal import api

    home = Path(tempfile.mkdtemp(prefix="moodal-tiny-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    data = make(home / "data")
    settings = (*settings, f"cache={home / 'cache'}")
    api.train(data / "train.csv", valid=data / "dev.csv", out=home / "model", settings=settings)
    return home / "model"


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """As train_once. Import it into a test module to use it there, or call train_once."""
    return train_once()


def _row(
    folder: Path, name: str, label: str, rng: np.random.Generator, *, numeric: bool
) -> dict[str, str]:
    text, lang = sentence(label, rng)
    (folder / f"{name}.png").write_bytes(png(picture(label, rng)))
    (folder / f"{name}.wav").write_bytes(wav(tone(label, rng)))
    cells = {"text": text, "image": f"{name}.png", "audio": f"{name}.wav"}
    absent = rng.random(3) < 0.2
    if not absent.all():
        cells = {
            m: "" if gone else cell for (m, cell), gone in zip(cells.items(), absent, strict=True)
        }
    target = f"{NUMBERS[label] + rng.uniform(-1, 1):.3f}" if numeric else label
    group = f"speaker-{rng.integers(6)}"
    return {"id": name, **cells, "label": target, "lang": lang, "group": group}
