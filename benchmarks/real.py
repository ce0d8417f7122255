"""Real results: train on the data sets of a folder, score on parts that training never saw.

    python benchmarks/real.py ../shared/data [--only mvsa-single] [--seeds 0,1,2] [--set key=value]
        [--without-copies]

Of every training part a tenth is held out (by group where there is one) to choose the epoch and
the temperatures by; `dev`, or the fold's own groups, is scored once. Sets without a dev part are
scored by folds, or on a fifth that is drawn once, stratified by label. Prints one line a subset:
mean and standard deviation over seeds (and folds). --without-copies: rows of training whose text or
picture stands in dev are left out, so that nothing is scored that was learned by heart (sets with
a dev part alone).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from moodal import config
from moodal.api import evaluate, train
from moodal.config import Columns
from moodal.data.copying import copy_rows
from moodal.data.manifest import read
from moodal.data.split import hold_out, split, write_parts
from moodal.types import Record, Rejection


@dataclass(frozen=True)
class Set:
    """columns: our name -> the file's. group: of folds, and of the held-out tenth.
    folds: 0 = score on dev. fifth: there is no dev; score on a fifth of the rows, always the same.
    settings: what this set wants beside the defaults."""

    folder: str
    suffix: str
    columns: dict[str, str]
    folds: int = 0
    fifth: bool = False
    settings: tuple[str, ...] = ()


# Few rows and two modalities that learn at different speeds: hold the text back.
SMALL = (
    "text_encoder.dropout=0.75",
    "text.word_dropout=0.2",
    "image_encoder.dropout=0.5",
    "image.size=64",
    "head.dropout=0.5",
    "train.modality_dropout=0.3",
    "train.label_smoothing=0.1",
    "train.epochs=12",
    "train.patience=12",
)
# Macro recall is what SemEval ranks by: the classes count alike.
TWEETS = ("train.class_weights=1", "train.batch_size=64", "train.epochs=4")
SPEECH = ("train.epochs=20", "train.patience=20", "train.batch_size=16")
SETS = [
    Set("mosi-features", "parquet", {"group": "video_id"}, folds=5),
    Set("ravdess", "csv", {"label": "emotion", "group": "speaker"}, settings=SPEECH),
    Set("casia", "csv", {"label": "emotion", "group": "speaker"}, folds=3, settings=SPEECH),
    Set("chnsenticorp", "parquet", {}, settings=("train.epochs=6",)),
    Set("mvsa-single", "csv", {}, settings=SMALL),
    Set("cats-dogs", "csv", {}, fifth=True),
    Set("semeval2017", "parquet", {}, settings=TWEETS),
]


def parts(
    given: Set, data: Path, scratch: Path, *, without_copies: bool
) -> Iterator[tuple[Path, Path]]:
    """(training, scored) manifests: one pair, or one a fold."""
    folder = data / given.folder
    whole = folder / f"train.{given.suffix}"
    if given.fifth:
        fifth = hold_out(whole, columns=Columns(**given.columns), share=0.2)
        yield write_parts(fifth, scratch, columns=Columns(**given.columns))
        return
    columns = Columns(**given.columns)
    if not given.folds:
        dev = folder / f"dev.{given.suffix}"
        yield _without_copies(whole, dev, scratch, columns) if without_copies else whole, dev
        return
    rows = [r for r in read(whole, columns) if not isinstance(r, Rejection)]
    groups = sorted({r.group for r in rows})
    np.random.default_rng(0).shuffle(groups)
    fold_of = {group: i % given.folds for i, group in enumerate(groups)}
    for fold in range(given.folds):
        part_of = np.array([fold_of[r.group] == fold for r in rows], np.uint8)
        outs = [scratch / f"{name}{fold}.{given.suffix}" for name in ("rest", "fold")]
        copy_rows(whole, outs, part_of=part_of, columns=columns)
        yield outs[0], outs[1]


def _without_copies(whole: Path, dev: Path, scratch: Path, columns: Columns) -> Path:
    """The rows of a manifest of which no text and no picture stands in dev."""
    scored = {c for row in read(dev, columns) for c in _contents(row)}
    part_of = np.array([bool(scored & _contents(row)) for row in read(whole, columns)], np.uint8)
    outs = [scratch / f"{name}{whole.suffix}" for name in ("kept", "copies")]
    copy_rows(whole, outs, part_of=part_of, columns=columns)
    print(f"# {whole}: {part_of.sum()} copies left out", file=sys.stderr)
    return outs[0]


def _contents(row: Record | Rejection) -> set[str]:
    """A text without width, case and white space; the hash of a picture's bytes."""
    if isinstance(row, Rejection):
        return set()
    found = set[str]()
    if isinstance(row.text, str):
        found.add("".join(unicodedata.normalize("NFKC", row.text).lower().split()))
    if isinstance(row.image, Path):
        found.add(hashlib.sha256(row.image.read_bytes()).hexdigest())
    return found


def run(
    given: Set, data: Path, seeds: list[int], settings: list[str], *, without_copies: bool
) -> dict[str, Any]:
    columns = Columns(**given.columns)
    renamed = [f"columns.{ours}={theirs}" for ours, theirs in given.columns.items()]
    found: dict[str, list[dict[str, float]]] = {}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        pairs = parts(given, data, scratch, without_copies=without_copies)
        for fold, (whole, scored) in enumerate(pairs):
            for seed in seeds:
                out = scratch / f"{fold}-{seed}"
                by_group = given.columns.get("group") if given.folder != "casia" else None
                split(whole, out, columns=columns, group=by_group, ratios=(0.9, 0.1, 0), seed=seed)
                run_settings = config.load(
                    settings=[*renamed, f"train.seed={seed}", *given.settings, *settings]
                )
                model = train(
                    out / f"train.{given.suffix}",
                    valid=out / f"dev.{given.suffix}",
                    out=out / "model",
                    run=run_settings,
                )
                report = evaluate(scored, model=model).to_dict()
                for subset, scores in {**report["subsets"], "whole": report}.items():
                    found.setdefault(subset, []).append(scores)
                epochs = len(model.info.history)
                print(
                    f"# {given.folder} fold {fold} seed {seed}: {epochs} epochs, "
                    + ", ".join(f"{s} {v[-1]['accuracy']:.3f}" for s, v in found.items()),
                    file=sys.stderr,
                    flush=True,
                )
    names = ("accuracy", "macro_f1", "weighted_f1", "macro_recall", "calibration_error")
    table = {
        subset: {
            name: [float(np.mean(v)), float(np.std(v))]
            for name in names
            if (v := [s[name] for s in scores])
        }
        for subset, scores in found.items()
    }
    return {"set": given.folder, "minutes": (time.monotonic() - started) / 60, "scores": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--without-copies", action="store_true")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    for chosen in SETS:
        if given.only and chosen.folder not in given.only.split(","):
            continue
        result = run(chosen, given.data, seeds, given.set, without_copies=given.without_copies)
        print(f"\n{result['set']}  ({result['minutes']:.1f} min)")
        for subset, scores in result["scores"].items():
            line = "  ".join(f"{k} {m:.3f} ± {s:.3f}" for k, (m, s) in scores.items())
            print(f"  {subset:18} {line}", flush=True)
        print(json.dumps(result), file=sys.stderr)


if __name__ == "__main__":
    main()
