"""A bundle in 8-bit integers: its weights all, and its arithmetic where that is faster and does not
hurt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load as tensors_of
from safetensors.torch import save as tensors_bytes
from tqdm import tqdm

from moodal import bundle
from moodal.compress import calibration, choose, weights
from moodal.compress.choose import Chosen, Compute
from moodal.compress.plan import Plan
from moodal.config import Columns
from moodal.data import manifest
from moodal.errors import ConfigError
from moodal.evaluation.result import Report
from moodal.evaluation.score import evaluate
from moodal.runtime.predict import Model
from moodal.runtime.session import Sessions
from moodal.tasks import TASKS
from moodal.training import card
from moodal.types import Record, Rejection


@dataclass(frozen=True, slots=True)
class Rows:
    """train: what ranges are taken from; no label is needed. valid: what the score is measured on.
    columns: their names in these; None = those the model was trained with, where they are there.
    seed: of the rows that are drawn from train."""

    train: Path
    valid: Path
    columns: Columns | None = None
    seed: int = 0

    def scored(self, model: Model) -> Report:
        columns = self.columns or manifest.columns_in(self.valid, model.info.columns)
        rows = _told(manifest.read(self.valid, columns), "scoring")
        return evaluate(model, rows, bootstrap=0, name=self.valid.name)


def step(plan: Plan, folder: Path, out: Path) -> dict[str, Any]:
    """Quantise `folder`, within what may be lost of the score of plan.model; see `compute`."""
    rows = Rows(plan.train, plan.valid, plan.columns, plan.seed)
    name = bundle.load(folder).name
    facts = compute(folder, out, rows, max_drop=plan.max_drop, parent=plan.model)
    return facts | {"name": name}


def quantise(folder: Path, out: Path) -> bundle.Info:
    """Write the bundle in `folder` to `out`, its weights as 8-bit integers and its sums as before.

    Raises: ModelError for what is no bundle; ConfigError when it is quantised already;
    CapacityError when the disk is full.
    """
    info, files = _read(folder)
    graphs = {n: weights.graph(c) for n, c in files.items() if n.endswith(".onnx")}
    return _save(out, info.model_copy(update={"weights": "int8"}), files | graphs)


def compute(
    folder: Path,
    out: Path,
    rows: Rows,
    *,
    max_drop: float = 0.01,
    mode: Compute = "auto",
    parent: Path | None = None,
) -> dict[str, Any]:
    """Write the bundle in `folder` to `out`, its weights as 8-bit integers, its arithmetic as well
    where that is faster on this machine and the score on rows.valid falls by at most max_drop.

    parent: the model whose score may fall by so much; None = the one in `folder`.
    mode: "int8" = wherever it can be, however fast; "float32" = nowhere.
    Its scores are measured anew, through the run-time; temperatures and threshold are kept.
    Returns: what was quantised how, layer by layer, and why not; the rows; the scores.
    Raises: ModelError; ConfigError when it is quantised already; DataError when no row can be read,
        or none holds a modality of the model; CapacityError.
    """
    info, files = _read(folder)
    bundle.check_target(out)
    graphs = {name: content for name, content in files.items() if name.endswith(".onnx")}
    seen = calibration.see(folder, rows.train, columns=rows.columns, seed=rows.seed)
    before = rows.scored(Model(folder))
    first = before if parent in (None, folder) else rows.scored(Model(parent))

    def drop(tried: Mapping[str, bytes]) -> float:
        return _lost(first, rows.scored(_with(folder, info, tried)))

    chosen = choose.choose(graphs, seen.feeds, drop, compute=mode, max_drop=max_drop)
    after = rows.scored(_with(folder, info, chosen.graphs))
    info = info.model_copy(
        update={
            "weights": "int8",
            "arithmetic": "int8" if chosen.computes else "float32",
            "scores": {**after.subsets, "all": after.scores},
            "name": out.name,
        }
    )
    files |= chosen.graphs
    files[bundle.CARD] = card.write(info).encode("utf-8")
    _save(out, info, files)
    return _facts(info, seen, chosen, before, after)


def _told(records: Iterable[Record | Rejection], doing: str) -> Iterable[Record | Rejection]:
    return tqdm(records, doing, unit=" rows", delay=2, leave=False, disable=None)


def _read(folder: Path) -> tuple[bundle.Info, dict[str, Any]]:
    """Raises: ModelError; ConfigError when it is quantised already."""
    info = bundle.verify(folder)
    if info.weights == "int8":
        raise ConfigError(
            f"{folder}: its weights are 8-bit integers already; give the model it was made from"
        )
    return info, {name: bundle.read(folder, info, name) for name in info.files}


def _save(out: Path, info: bundle.Info, files: dict[str, Any]) -> bundle.Info:
    graphs = {name: content for name, content in files.items() if name.endswith(".onnx")}
    left, graphs = weights.share(weights.pack(tensors_of(files[bundle.WEIGHTS])), graphs)
    info = info.model_copy(update={"name": out.name})
    return bundle.save(out, info, files | graphs | {bundle.WEIGHTS: tensors_bytes(left)})


def _with(folder: Path, info: bundle.Info, graphs: Mapping[str, bytes]) -> Model:
    """The model with other graphs in the place of its own."""
    sessions = Sessions(folder, info.model_copy(update={"arithmetic": "int8"}))
    for name, content in graphs.items():
        sessions.put(name, content)
    return Model(folder, sessions=sessions)


def _lost(before: Report, after: Report) -> float:
    """How much worse, in units of the score."""
    task = TASKS[before.task]
    sign = 1.0 if task.higher_is_better else -1.0
    return float(sign * (before.scores[task.goal] - after.scores[task.goal]))


def _facts(
    info: bundle.Info, seen: calibration.Seen, chosen: Chosen, before: Report, after: Report
) -> dict[str, Any]:
    """For the report."""
    goal = TASKS[info.task].goal
    return {
        "weights": info.weights,
        "arithmetic": info.arithmetic,
        **chosen.to_dict(),
        "calibration": {
            "rows": seen.n,
            "n_rejected": seen.rejected.n,
            "rejected": [rejection.to_dict() for rejection in seen.rejected.first],
        },
        "score": {
            "metric": goal,
            "n": after.scores["n"],
            "before": before.scores[goal],
            "after": after.scores[goal],
            "drop": _lost(before, after),
        },
    }
