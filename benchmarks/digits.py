"""Strings of spoken digits from a set of single ones: a small data set for transcription.

    python benchmarks/digits.py ../shared/data/spoken-digits OUT [--leave-out george] [--rows 3000]

Each row is 1 to 7 digits of one speaker with pauses between them, in faint room noise, as 16 kHz
FLAC. `train.csv` is made of the set's training clips and `dev.csv` of its dev clips, so no clip is
in both; `--leave-out SPEAKER` trains without that speaker and makes `dev.csv` of that one alone.
The same command makes the same samples.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000
MAX_DIGITS = 7
"""A telephone number without its area code."""
PAUSE_SECONDS = (0.05, 0.4)
LEVEL_DB = 3.0
"""Each digit is this much louder or softer than the string, at most."""
NOISE_SNR_DB = (25.0, 45.0)
"""Speech over room noise: a quiet office to a quiet bedroom."""
COLUMNS = ("id", "audio", "transcript", "speaker", "group", "lang")


class Clip(NamedTuple):
    """One digit. samples: (n,) at 16 kHz."""

    word: str
    samples: Samples


Voices = Mapping[str, Sequence[Clip]]
"""Speaker -> clips."""


def read_clips(manifest: Path) -> Voices:
    voices: dict[str, list[Clip]] = defaultdict(list)
    with manifest.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            samples, rate = soundfile.read(manifest.parent / row["audio"], dtype="float32")
            at_our_rate = np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32)
            voices[row["speaker"]].append(Clip(row["transcript"], at_our_rate))
    return voices


def spoken(clips: Sequence[Clip], rng: np.random.Generator) -> Samples:
    """Silence, digit, silence, ..., digit, silence, all in one room. Returns: (n,) in [-1, 1]."""
    pauses = rng.uniform(*PAUSE_SECONDS, len(clips) + 1)
    parts = [np.zeros(round(seconds * SAMPLE_RATE), np.float32) for seconds in pauses]
    for place, clip in enumerate(clips):
        gain = np.float32(10 ** (rng.uniform(-LEVEL_DB, LEVEL_DB) / 20))
        parts.insert(2 * place + 1, clip.samples * gain)
    string = np.concatenate(parts)
    string += room(string, rng)
    return np.asarray(string / max(1.0, float(np.abs(string).max())), np.float32)


def room(string: Samples, rng: np.random.Generator) -> Samples:
    """Noise that falls by 6 dB an octave above 200 Hz, at a random distance under the speech.

    string: (n,), with its pauses. Returns: (n,).
    """
    loud = float(np.sqrt(np.mean(np.square(string[string != 0]))))
    spectrum = np.fft.rfft(rng.standard_normal(len(string)))
    spectrum /= np.maximum(1.0, np.fft.rfftfreq(len(string), 1 / SAMPLE_RATE) / 200.0)
    noise = np.fft.irfft(spectrum, len(string))
    wanted = loud * 10 ** (-rng.uniform(*NOISE_SNR_DB) / 20)
    return np.asarray(noise * (wanted / noise.std()), np.float32)


def write(out: Path, *, part: str, voices: Voices, n_rows: int, rng: np.random.Generator) -> None:
    """`out`/part.csv and its recordings, the speakers and lengths in turn."""
    folder = out / "audio"
    folder.mkdir(parents=True, exist_ok=True)
    speakers = sorted(voices)
    with (out / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in range(n_rows):
            speaker = speakers[row % len(speakers)]
            picked = rng.integers(len(voices[speaker]), size=rng.integers(1, MAX_DIGITS + 1))
            clips = [voices[speaker][place] for place in picked]
            name = f"{part}-{row:05d}"
            soundfile.write(folder / f"{name}.flac", spoken(clips, rng), SAMPLE_RATE)
            words = " ".join(clip.word for clip in clips)
            table.writerow([name, f"audio/{name}.flac", words, speaker, speaker, "en"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--leave-out", metavar="SPEAKER")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--dev-rows", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    voices = {part: read_clips(given.data / f"{part}.csv") for part in ("train", "dev")}
    if (left := given.leave_out) is not None:
        if left not in voices["train"]:
            parser.error(f"--leave-out {left}: the set has {', '.join(sorted(voices['train']))}")
        voices["dev"] = {left: [*voices["train"][left], *voices["dev"][left]]}
        voices["train"] = {name: clips for name, clips in voices["train"].items() if name != left}
    for part, n_rows in (("train", given.rows), ("dev", given.dev_rows)):
        rng = np.random.default_rng([given.seed, part == "dev"])
        write(given.out, part=part, voices=voices[part], n_rows=n_rows, rng=rng)
        print(f"{given.out / part}.csv: {n_rows} rows, {', '.join(sorted(voices[part]))}")


if __name__ == "__main__":
    main()
