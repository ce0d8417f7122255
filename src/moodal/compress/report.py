"""A compression for people (one self-contained page, a table) and for programs (report.json)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from moodal import metrics
from moodal.bundle import writing
from moodal.compress import plots
from moodal.compress.judge import RESAMPLES, Measured
from moodal.compress.result import BUDGETS, Compressed, Step, verdict
from moodal.evaluation import page
from moodal.evaluation.report import METRICS, NUMBERS, PAGE, aligned

TEMPLATE = "report.html.jinja"
STEPS = {
    "": ("as it was", "原模型"),
    "distil": ("distilled", "蒸馏"),
    "prune": ("pruned", "剪枝"),
    "prune-weights": ("single weights pruned", "权重剪枝"),
    "quantise": ("quantised", "量化"),
}


def write(found: Compressed, out: Path) -> Path:
    """Write report.json and report.html into the folder, both or neither. Returns: the page's path.

    Raises: CapacityError when the extra `report` is missing or the disk is full.
    """
    numbers = json.dumps(found.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
    html = render(found)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        page.write(out, {NUMBERS: numbers + "\n", PAGE: html})
    return out / PAGE


def render(found: Compressed) -> str:
    """The page as HTML. Everything from the data is escaped; no script, nothing is fetched."""
    values = {
        "found": found,
        "verdict": verdict(found),
        "metric": METRICS[found.metric],
        "rows": [_row(found, name, step) for name, step in _all(found)],
        "level": metrics.LEVEL,
        "resamples": RESAMPLES,
        "budgets": [
            (words, form.format(limit))
            for name, (form, words) in BUDGETS.items()
            if (limit := found.budgets[name]) is not None
        ],
        "steps": found.steps,
        "titles": STEPS,
        "figures": {
            "size": plots.against(found, "megabytes"),
            "speed": plots.against(found, "milliseconds"),
        },
    }
    return page.render(TEMPLATE, values, package="moodal.compress", filters=FILTERS)


def table(found: Compressed) -> str:
    """For a terminal: a row a step, then the verdict."""
    rows = [["", "MB", "ms alone", "parameters", found.metric, "drop", "interval", ""]]
    for name, step in _all(found):
        row = _row(found, name, step)
        rows.append([row["name"][0], row["mb"], row["ms"], row["parameters"], row["score"],
                     row["drop"], row["interval"], row["fate"][0]])  # fmt: skip
    return "\n".join([*aligned(rows), "", verdict(found)[0], f"model: {found.model}"])


def _all(found: Compressed) -> Iterator[tuple[str, Step | None]]:
    yield "", None
    for step in found.steps:
        yield step.name, step


def _row(found: Compressed, name: str, step: Step | None) -> dict[str, Any]:
    measured: Measured = step.measured if step else found.parent
    fate = ("", "")
    if name == found.kept:
        fate = ("handed on", "已采用")
    elif step and not step.stands:
        fate = ("loses too much", "损失过大")
    return {
        "name": STEPS[name],
        "mb": f"{measured.megabytes:.2f}",
        "ms": f"{measured.milliseconds:.2f}",
        "parameters": f"{measured.parameters:,}",
        "score": page.number(measured.score),
        "drop": f"{measured.drop:+.3f}",
        "interval": page.interval(measured.interval),
        "fate": fate,
    }


def _said(value: Any) -> str:
    """A fact as people read it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and len(value) == 2:
        return " → ".join(map(_said, value))
    return ", ".join(map(_said, value)) if isinstance(value, list) else str(value)


FILTERS: dict[str, Callable[..., str]] = {"said": _said}
