"""What each means against overfitting does, alone and together: docs/regularisation.md.

    python benchmarks/regularise.py ../shared/data OUT [--only SET] [--rows 1500] [--seeds 0,1,2]

Each run learns from --rows rows of a set's training part, drawn by the seed; a tenth of
them chooses the epoch, `dev` is scored once. OUT/runs.jsonl has a line a run, and a run that is
there is not done again; OUT/SET.svg shows the losses by epoch, and the table is printed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from moodal.api import evaluate, train
from moodal.config import Columns
from moodal.data.copying import copy_rows
from moodal.data.manifest import read
from moodal.data.split import split
from moodal.evaluation.plots import BLUE, ORANGE, svg
from moodal.types import Rejection

EPOCHS = 15
VOCABULARY = "text.vocabulary=20000"  # enough for so few rows, and quicker
SETS = {
    "chnsenticorp": ("parquet", (VOCABULARY,)),
    "mvsa-single": (
        "csv",
        (VOCABULARY, "image.size=32", "image_encoder.width=32", "fusion.width=64"),
    ),
}
NOTHING = (
    *("train.l1=0", "train.l2=0", "train.label_smoothing=0", "train.modality_dropout=0"),
    *("text_encoder.dropout=0", "image_encoder.dropout=0", "fusion.dropout=0", "head.dropout=0"),
    "text.word_dropout=0",
)
DROPOUT = (
    *("text_encoder.dropout=0.5", "image_encoder.dropout=0.3", "fusion.dropout=0.1"),
    "head.dropout=0.3",
)
MEANS: dict[str, tuple[str, ...]] = {
    "nothing": NOTHING,
    "L1 1e-6": (*NOTHING, "train.l1=1e-6"),
    "L1 1e-5": (*NOTHING, "train.l1=1e-5"),
    "L2 0.01": (*NOTHING, "train.l2=0.01"),
    "L2 0.3": (*NOTHING, "train.l2=0.3"),
    "dropout": (*NOTHING, *DROPOUT),
    "word dropout 0.2": (*NOTHING, "text.word_dropout=0.2"),
    "label smoothing 0.1": (*NOTHING, "train.label_smoothing=0.1"),
    "modality dropout 0.3": (*NOTHING, "train.modality_dropout=0.3"),
    "weights averaged 0.99": (*NOTHING, "train.average=0.99"),
    "defaults": (),
    "all, stronger": (
        *("text_encoder.dropout=0.75", "image_encoder.dropout=0.5", "head.dropout=0.5"),
        *("text.word_dropout=0.2", "train.modality_dropout=0.3", "train.l2=0.1"),
    ),
}


def run(data: Path, folder: str, means: str, *, rows: int, seed: int) -> dict[str, Any]:
    suffix, own = SETS[folder]
    whole, columns = data / folder / f"train.{suffix}", Columns()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        n = sum(not isinstance(row, Rejection) for row in read(whole, columns))
        part_of = np.ones(n, np.uint8)
        part_of[np.random.default_rng(seed).permutation(n)[:rows]] = 0
        drawn = scratch / f"drawn.{suffix}"
        copy_rows(whole, [drawn, scratch / f"rest.{suffix}"], part_of=part_of, columns=columns)
        split(drawn, scratch / "parts", columns=columns, ratios=(0.9, 0.1, 0.0), seed=seed)
        model = train(
            scratch / "parts" / f"train.{suffix}",
            valid=scratch / "parts" / f"dev.{suffix}",
            out=scratch / "model",
            settings=[f"train.seed={seed}", f"train.epochs={EPOCHS}", f"train.patience={EPOCHS}",
                      *own, *MEANS[means]],
        )  # fmt: skip
        report = evaluate(data / folder / f"dev.{suffix}", model=model).to_dict()
        return {
            "set": folder,
            "means": means,
            "rows": rows,
            "seed": seed,
            "macro_f1": report["macro_f1"],
            "calibration_error": report["calibration_error"],
            "history": list(model.info.history),
        }


def table(found: list[dict[str, Any]]) -> None:
    """Mean and standard deviation over the seeds. gap: validation less training loss, at the end.
    stopped: macro-F1 on the validation rows at the best epoch less that at the last."""
    print(
        f"{'means':<24}{'macro-F1 on dev':>18}{'gap of loss':>14}{'best epoch':>12}{'stopped':>10}"
    )
    for means in MEANS:
        runs = [one for one in found if one["means"] == means]
        if not runs:
            continue
        scores = np.array([one["macro_f1"] for one in runs])
        last = [one["history"][-1] for one in runs]
        best = [max(one["history"], key=lambda row: row["score"]) for one in runs]
        gap = np.mean([row["valid_loss"] - row["train_loss"] for row in last])
        gained = np.mean([b["score"] - e["score"] for b, e in zip(best, last, strict=True)])
        told = f"{scores.mean():.3f} ± {scores.std():.3f}"
        epoch = np.mean([row["epoch"] for row in best])
        print(f"{means:<24}{told:>18}{gap:>14.2f}{epoch:>12.1f}{gained:>10.3f}")


def curves(found: list[dict[str, Any]]) -> str:
    """Loss by epoch, of training and validation, a panel for each means; the mean over seeds."""
    shown = [means for means in MEANS if any(one["means"] == means for one in found)]

    def draw(axes: Any) -> None:
        figure = axes.figure
        axes.remove()
        grid = figure.subplots(-(-len(shown) // 4), 4, sharex=True, sharey=True, squeeze=False)
        for place, panel in enumerate(grid.flat):
            if place >= len(shown):
                panel.remove()
                continue
            runs = [one["history"] for one in found if one["means"] == shown[place]]
            for key, colour in (("train_loss", BLUE), ("valid_loss", ORANGE)):
                values = np.mean([[row[key] for row in history] for history in runs], 0)
                panel.plot(range(1, EPOCHS + 1), values, color=colour)
            panel.set_title(shown[place], fontsize=10)
            panel.grid()
        figure.supxlabel("epoch · 轮次")
        figure.supylabel("loss: training (blue), validation (orange) · 训练与验证损失")

    return svg(draw, (10.0, 2.4 * -(-len(shown) // 4)), "curves")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=tuple(SETS))
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--seeds", default="0,1,2")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "runs.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for folder in [given.only] if given.only else SETS:
        for seed in map(int, given.seeds.split(",")):
            for means in MEANS:
                key = {"set": folder, "means": means, "rows": given.rows, "seed": seed}
                if not any(key.items() <= one.items() for one in done):
                    done.append(run(given.data, folder, means, rows=given.rows, seed=seed))
                    with kept.open("a") as lines:
                        lines.write(json.dumps(done[-1]) + "\n")
        found = [one for one in done if (one["set"], one["rows"]) == (folder, given.rows)]
        print(f"\n{folder}, {given.rows:,} rows")
        table(found)
        (given.out / f"{folder}.svg").write_text(curves(found), encoding="utf-8")


if __name__ == "__main__":
    main()
