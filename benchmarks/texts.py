"""Real results of answers that are texts: titles of abstracts, strings of spoken digits.

    python benchmarks/texts.py ../shared/data [--only titles] [--seeds 0,1,2] [--set key=value]

titles: csl-titles, pre-trained on the unlabelled abstracts, then fine-tuned; beside it the first 30
characters of the text. digits: spoken-digits joined to strings by digits.py, WER by speaker, and
with each speaker left out in turn. A tenth of the training rows chooses the epoch; dev is scored
once. Prints one line a score: mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from moodal import text_metrics
from moodal.api import evaluate, train
from moodal.data.manifest import read
from moodal.types import Record

LEAD = 30
"""Characters of the baseline."""
TITLES = {"label": "summary"}
DIGITS = {"label": "transcript"}
TASK = ("task=summarise", "decode.min_length=14", "decode.max_length=40")
"""Nine titles in ten have 11 to 30 symbols."""
PRACTICE = (
    *TASK,
    "train.denoise=true",
    "train.learning_rate=0.002",
    "train.label_smoothing=0",
    "text_encoder.dropout=0.1",
    "decoder.dropout=0.1",
)
TITLE = re.compile(r"[.。．;；!！?？…”\")）] (?=\S)")


def records(path: Path, columns: dict[str, str]) -> list[Record]:
    from moodal.config import Columns

    return [r for r in read(path, Columns(**columns)) if isinstance(r, Record)]


def titles(data: Path, folder: Path, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    part = data / "csl-titles"
    warm = train(
        unlabelled(part, folder),
        out=folder / f"warm-{seed}",
        settings=[*PRACTICE, f"train.seed={seed}", *settings],
    )
    model = train(
        part / "train.parquet",
        out=folder / f"titles-{seed}",
        start=[warm.folder],
        settings=[
            *TASK,
            "columns.label=summary",
            "text_encoder.dropout=0.3",
            "decoder.dropout=0.3",
            "train.epochs=8",
            f"train.seed={seed}",
            *settings,
        ],
    )
    return {"all": evaluate(part / "dev.parquet", model=model, renames=TITLES).scores}


def unlabelled(part: Path, folder: Path) -> Path:
    """The abstracts alone, without those of dev. Two rows in three of the file end with their
    title, which is an answer, and is cut off."""
    judged = {str(record.text) for record in records(part / "dev.parquet", TITLES)}
    rows = records(part / "unlabelled.parquet", {})
    texts = dict.fromkeys(without_title(str(record.text)) for record in rows)
    path = folder / "unlabelled.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            if not any(text.startswith(known) or known.startswith(text) for known in judged):
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return path


def without_title(text: str) -> str:
    """What stands before the last sentence's end that a space and something short follow."""
    ends = [m.start() + 1 for m in TITLE.finditer(text) if len(text) - m.end() < 70]
    return text[: ends[0]] if ends else text


def lead(data: Path) -> dict[str, Any]:
    rows = records(data / "csl-titles" / "dev.parquet", TITLES)
    judged = [text_metrics.summary_row(r.target or "", str(r.text)[:LEAD], 0.0) for r in rows]
    return {f"first {LEAD} characters": text_metrics.summaries(None, np.stack(judged))}


def digits(
    data: Path, folder: Path, seed: int, settings: Sequence[str], left_out: str = ""
) -> dict[str, Any]:
    strings = digit_strings(data, folder, left_out)
    model = train(
        strings / "train.csv",
        valid=strings / "valid.csv",
        out=folder / f"ears-{left_out}-{seed}",
        settings=["task=transcribe", "columns.label=transcript", f"train.seed={seed}", *settings],
    )
    report = evaluate(strings / "dev.csv", model=model, renames=DIGITS)
    return {left_out or "all": report.scores} | ({} if left_out else report.groups)


def digit_strings(data: Path, folder: Path, left_out: str) -> Path:
    """Where the strings stand, made if they do not: train.csv, valid.csv, dev.csv."""
    strings = folder / f"digits-{left_out or 'all'}"
    if not strings.exists():
        command = [sys.executable, str(Path(__file__).with_name("digits.py"))]
        more = ["--leave-out", left_out] if left_out else []
        subprocess.run([*command, str(data / "spoken-digits"), str(strings), *more], check=True)
        tenth(strings / "train.csv")
    return strings


def tenth(path: Path) -> None:
    """Every tenth row to valid.csv."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    for name, kept in (
        ("train.csv", [r for i, r in enumerate(rows) if i % 10]),
        ("valid.csv", rows[::10]),
    ):
        with path.with_name(name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *kept])


def show(what: str, found: Sequence[dict[str, Any]]) -> None:
    for part in found[0]:
        for score in ("rouge1", "rouge2", "rougeL", "wer", "cer", "exact", "calibration_error"):
            if score in found[0][part]:
                values = [one[part][score] for one in found]
                line = f"{what:<8} {part:<22} {score:<18} {np.mean(values):.3f}"
                print(f"{line} ± {np.std(values):.3f}  ({len(values)})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", choices=("titles", "digits", "speakers"))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    with tempfile.TemporaryDirectory() as name:
        to = given.data, Path(name)
        if given.only in (None, "titles"):
            show("titles", [lead(given.data)])
            show("titles", [titles(*to, seed, given.settings) for seed in seeds])
        if given.only in (None, "digits"):
            show("digits", [digits(*to, seed, given.settings) for seed in seeds])
        if given.only == "speakers":
            voices = ("george", "jackson", "lucas", "nicolas", "yweweler")
            for voice in voices:
                show("unseen", [digits(*to, seed, given.settings, voice) for seed in seeds])


if __name__ == "__main__":
    main()
