"""Learning curves: from scratch beside from a trained model, on part of a set's training rows.

    python benchmarks/curves.py ../shared/data mvsa-single --base base [--sizes 100,300,1000,0]

Sizes are rows drawn from the training part, 0 = all; a tenth of them is held out to choose the
epoch (by macro F1) and the temperatures by, and `dev` is scored once. Prints a line a size and
score: mean and standard deviation over seeds. A base that has seen these very rows flatters itself:
give one made without the set (`python -m recipes.base.train DATA OUT --without SET`).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from moodal.api import evaluate, train
from moodal.config import Columns
from moodal.data.copying import copy_rows
from moodal.data.manifest import read
from moodal.data.split import split
from moodal.types import Rejection

SCRATCH = ("train.epochs=20", "train.patience=6", "train.batch_size=32")
FROM = (*SCRATCH, "train.learning_rate=3e-4")
SMALL = ("image.size=48",)
SCORES = ("accuracy", "weighted_f1", "macro_f1")


def score(
    data: Path, size: int, seed: int, start: list[str], settings: list[str]
) -> dict[str, float]:
    """SCORES on dev."""
    suffix = "csv" if (data / "train.csv").is_file() else "parquet"
    whole, columns = data / f"train.{suffix}", Columns()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        n = sum(not isinstance(row, Rejection) for row in read(whole, columns))
        drawn = np.random.default_rng(seed).permutation(n)[: size or n]
        part_of = np.ones(n, np.uint8)
        part_of[drawn] = 0
        outs = [scratch / f"{name}.{suffix}" for name in ("drawn", "rest")]
        copy_rows(whole, outs, part_of=part_of, columns=columns)
        ratios = (0.9, 0.1, 0.0) if len(drawn) > 500 else (0.8, 0.2, 0.0)
        split(outs[0], scratch / "parts", columns=columns, ratios=ratios, seed=seed)
        model = train(
            scratch / "parts" / f"train.{suffix}",
            valid=scratch / "parts" / f"dev.{suffix}",
            out=scratch / "model",
            start=start,
            settings=[f"train.seed={seed}", *settings],
        )
        report = evaluate(data / f"dev.{suffix}", model=model).to_dict()
        return {name: float(report[name]) for name in SCORES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder")
    parser.add_argument("--base", default="base")
    parser.add_argument("--sizes", default="100,300,1000,0")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    given = parser.parse_args()
    for size in map(int, given.sizes.split(",")):
        found = {
            name: [
                score(given.data / given.folder, size, seed, start, [*own, *given.settings])
                for seed in map(int, given.seeds.split(","))
            ]
            for name, start, own in (
                ("scratch", [], [*SCRATCH, *SMALL]),
                ("base", [given.base], list(FROM)),
            )
        }
        for name in SCORES:
            line: dict[str, object] = {"set": given.folder, "rows": size or "all", "score": name}
            for start, seeds in found.items():
                values = [scores[name] for scores in seeds]
                line[start] = f"{np.mean(values):.3f} ± {np.std(values):.3f}"
            print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
