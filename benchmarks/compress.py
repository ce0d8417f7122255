"""What compression costs and gains: a parent is trained, compressed, and both are scored.

    python benchmarks/compress.py ../shared/data WORK [--only chnsenticorp] [--seeds 0,1,2]
        [--steps distil,prune,quantise] [--set key=value]

Of every training part a tenth is held out: the parent chooses its epoch by it, and compression
judges its steps by it. `dev` is scored once, both models on the same rows, with the interval of the
paired bootstrap. WORK keeps the models: what stands there is not trained again, and what was
stopped goes on. --set is for the student and the steps. Prints one line a seed, then the means.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from real import SMALL
from texts import DIGITS, TITLES, digit_strings

from moodal import bundle
from moodal.api import compress, train
from moodal.config import Columns
from moodal.data.manifest import read
from moodal.data.split import split
from moodal.monitor.paired import gather, verdicts
from moodal.runtime.predict import Model


@dataclass(frozen=True)
class Set:
    """settings: of the parent. student: of the student and the steps. columns: our name -> the
    file's. rows: (data, work, seed) -> train, valid, dev; None = a tenth of train is held out."""

    folder: str
    suffix: str
    settings: tuple[str, ...]
    student: tuple[str, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    rows: Callable[[Path, Path, int], tuple[Path, Path, Path]] | None = None
    max_drop: float = 0.01


def strings(data: Path, work: Path, seed: int) -> tuple[Path, Path, Path]:
    folder = digit_strings(data, work, "")
    return folder / "train.csv", folder / "valid.csv", folder / "dev.csv"


SETS = [
    # A parent worth the trouble: filters over words are as good as the default bag, and slower.
    Set(
        "chnsenticorp",
        "parquet",
        ("text_encoder.kind=cnn", "train.epochs=5"),
        ("train.epochs=4", "prune.rounds=3"),
    ),
    # What counts is said by the words: the pictures' half is cut the more.
    Set(
        "mvsa-single",
        "csv",
        SMALL,
        (
            "text_encoder.width=64",
            "image_encoder.width=40",
            "train.learning_rate=0.002",
            "prune.rounds=1",
        ),
    ),
    Set(
        "csl-titles",
        "parquet",
        ("task=summarise", "decode.min_length=14", "decode.max_length=40"),
        ("prune.rounds=1",),
        tuple(TITLES.items()),
        max_drop=0.02,
    ),
    Set(
        "spoken-digits",
        "csv",
        ("task=transcribe",),
        ("prune.rounds=1",),
        tuple(DIGITS.items()),
        rows=strings,
    ),
]


def parts(given: Set, data: Path, work: Path, seed: int) -> tuple[Path, Path, Path]:
    if given.rows:
        return given.rows(data, work, seed)
    folder, out = data / given.folder, work / f"{given.folder}-{seed}"
    train_part, held = (out / f"{part}.{given.suffix}" for part in ("train", "dev"))
    if not held.exists():
        columns = Columns(**dict(given.columns))
        whole = folder / f"train.{given.suffix}"
        split(whole, out, columns=columns, group=None, ratios=(0.9, 0.1, 0), seed=seed)
    return train_part, held, folder / f"dev.{given.suffix}"


def run(given: Set, data: Path, work: Path, seed: int, more: Sequence[str], steps: str) -> Any:
    train_part, held, dev = parts(given, data, work, seed)
    place = work / f"{given.folder}-{seed}"
    parent = place / "parent"
    if not (parent / bundle.INFO).exists():
        named = [f"columns.{ours}={theirs}" for ours, theirs in given.columns]
        settings = [*named, *given.settings, f"train.seed={seed}"]
        train(train_part, valid=held, out=parent, settings=settings)
    started = time.monotonic()
    found = compress(
        parent,
        train=train_part,
        valid=held,
        out=place / "compressed",
        steps=steps.split(","),
        settings=[*given.student, *more],
        renames=dict(given.columns),
        max_drop=given.max_drop,
        seed=seed,
    )
    minutes = (time.monotonic() - started) / 60
    records = read(dev, Columns(**dict(given.columns)))
    pairs = gather(Model(parent), Model(found.model), records)
    scored = next(verdicts(pairs, resamples=1000, seed=0))
    return {
        "set": given.folder,
        "seed": seed,
        "kept": found.kept,
        "parent": scored.old,
        "compressed": scored.new,
        "gain": scored.gain,
        "interval": scored.interval,
        "mb": [found.parent.megabytes, found.measured.megabytes],
        "ms": [found.parent.milliseconds, found.measured.milliseconds],
        "smaller": found.smaller,
        "faster": found.faster,
        "minutes": minutes,
    }


def line(one: dict[str, Any]) -> str:
    mb, ms = ([f"{x:.2f}" for x in one[key]] for key in ("mb", "ms"))
    low, high = one["interval"] or (float("nan"), float("nan"))
    return (
        f"{one['set']} seed {one['seed']}: {mb[0]} -> {mb[1]} MB ({one['smaller']:.1f} x), "
        f"{ms[0]} -> {ms[1]} ms ({one['faster']:.1f} x), dev {one['parent']:.3f} -> "
        f"{one['compressed']:.3f} ({one['gain']:+.3f} [{low:+.3f}, {high:+.3f}]), kept "
        f"{one['kept'] or 'the parent'}, {one['minutes']:.0f} min"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", default="chnsenticorp,mvsa-single")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", default="distil,prune,quantise")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    for chosen in SETS:
        if chosen.folder not in given.only.split(","):
            continue
        found = []
        for seed in map(int, given.seeds.split(",")):
            found.append(run(chosen, given.data, given.work, seed, given.set, given.steps))
            print(line(found[-1]), flush=True)
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
        means = {
            key: (float(np.mean(v)), float(np.std(v)))
            for key in ("smaller", "faster", "parent", "compressed", "gain")
            if (v := [one[key] for one in found])
        }
        print(
            f"{chosen.folder}: "
            + ", ".join(f"{k} {m:.3f} ± {s:.3f}" for k, (m, s) in means.items())
        )


if __name__ == "__main__":
    main()
