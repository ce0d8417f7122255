"""How often drift is told where there is none, and whether it is where there is some.

    python -m recipes.base.drift OUT      # after recipes.base.reference or .train; 4 minutes

A half of the base model's development rows, drawn at random, is the reference. Windows are drawn
from the other half as it is, and with one thing changed. It prints two tables and writes nothing.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

import moodal
from moodal.data import manifest
from moodal.monitor.drift import Drift, Tally
from moodal.runtime import reference
from moodal.runtime.reference import Reference, Seen
from moodal.types import Modality, Record
from recipes.base.reference import seen

SEED = 0
WINDOWS = 1000
SIZES = (100, 200, 500, 1000, 2000)
SMALL = 200
"""Rows of a window in which a change is looked for."""
Change = Callable[[Record, np.random.Generator], Record]


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.base.drift")
    parser.add_argument("out", type=Path)
    rng, model = np.random.default_rng(SEED), moodal.load()
    path = parser.parse_args().out / "joint" / "dev.jsonl"
    rows = [row for row in manifest.read(path) if isinstance(row, Record)]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    half = len(rows) // 2
    held = reference.of(seen(model, iter(rows[:half])))
    rest = list(seen(model, iter(rows[half:])))
    _say("| rows of a window | windows | of these with a false alarm | measures told in one |")
    _say("|---|---|---|---|")
    for size in SIZES:
        found = [_drifts(held, rest, size, rng) for _ in range(WINDOWS)]
        wrong = sum(any(d.state == "drifting" for d in drifts) for drifts in found)
        told = np.mean([sum(d.state != "few" for d in drifts) for drifts in found])
        _say(f"| {size:,} | {WINDOWS:,} | {wrong} | {told:.0f} |")
    _say(f"\n| change | found in windows of {SMALL} | most by |")
    _say("|---|---|---|")
    for words, modality, change in CHANGES:
        there = [row for row in rows[half:] if modality in row.modalities]
        changed = list(seen(model, (change(row, rng) for row in there)))
        found = [_drifts(held, changed, SMALL, rng, modality) for _ in range(WINDOWS)]
        hit = np.mean([any(d.state == "drifting" for d in drifts) for drifts in found])
        whole = max(_drifts(held, changed, len(changed), rng, modality), key=lambda d: d.psi)
        _say(f"| {words} | {hit:.1%} | `{whole.measure}`, PSI {whole.psi:.2f}, KS {whole.ks:.2f} |")


def _drifts(
    held: Reference,
    rows: Sequence[Seen],
    size: int,
    rng: np.random.Generator,
    modality: Modality | None = None,
) -> list[Drift]:
    """Of a window drawn without replacement. modality: of its measures alone."""
    tally = Tally(held)
    for place in rng.choice(len(rows), min(size, len(rows)), replace=False):
        tally.add(rows[place].measures, rows[place].counted)
    return [d for d in tally.drifts() if modality in (None, d.modality)]


def _text(change: Callable[[str, np.random.Generator], str]) -> Change:
    return lambda record, rng: Record(record.id, text=change(str(record.text), rng))


def _picture(change: Callable[[Image.Image], Image.Image]) -> Change:
    def changed(record: Record, rng: np.random.Generator) -> Record:
        file = io.BytesIO()
        with Image.open(str(record.image)) as picture:
            change(picture.convert("RGB")).save(file, "PNG")
        return Record(record.id, image=file.getvalue())

    return changed


def _blurred(picture: Image.Image) -> Image.Image:
    small = picture.resize((max(1, picture.width // 4), max(1, picture.height // 4)))
    return small.resize(picture.size)


def _sound(gain_db: float = 0.0, noise_db: float | None = None) -> Change:
    """noise_db: the sound's power over the noise's."""

    def changed(record: Record, rng: np.random.Generator) -> Record:
        samples, rate = soundfile.read(str(record.audio))
        level = np.sqrt(np.mean(samples**2))
        if noise_db is not None:
            samples = samples + rng.normal(0, level / 10 ** (noise_db / 20), samples.shape)
        file = io.BytesIO()
        louder = np.clip(samples * 10 ** (gain_db / 20), -1, 1)
        soundfile.write(file, louder, rate, format="WAV")
        return Record(record.id, audio=file.getvalue())

    return changed


def _shuffled(text: str, rng: np.random.Generator) -> str:
    return "".join(text[i] for i in rng.permutation(len(text)))


CHANGES: tuple[tuple[str, Modality, Change], ...] = (
    ("texts twice as long", "text", _text(lambda text, rng: f"{text} {text}")),
    ("texts cut in half", "text", _text(lambda text, rng: text[: max(4, len(text) // 2)])),
    ("letters shuffled", "text", _text(_shuffled)),
    ("pictures a fifth darker", "image", _picture(lambda p: p.point(lambda v: v * 0.8))),
    ("pictures blurred to a quarter", "image", _picture(_blurred)),
    ("recordings 3 dB quieter", "audio", _sound(-3.0)),
    ("recordings 6 dB quieter", "audio", _sound(-6.0)),
    ("noise 5 dB under the speech", "audio", _sound(noise_db=5.0)),
)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
