"""A compression for people (one self-contained page, a table) and for programs (report.json)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moodal import metrics
from moodal.bundle import writing
from moodal.compress import plots
from moodal.compress.judge import Measured
from moodal.compress.result import BUDGETS, Compressed, Step, verdict
from moodal.evaluation import page
from moodal.evaluation.report import METRICS, NUMBERS, PAGE, aligned
from moodal.monitor.paired import RESAMPLES

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
        "steps": [(step.name, list(_tables(step.facts))) for step in found.steps],
        "titles": STEPS,
        "figures": {
            "size": plots.against(found, "megabytes"),
            "speed": plots.against(found, "milliseconds"),
        },
    }
    return page.render(TEMPLATE, values, package="moodal.compress", filters={})


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


CHANGES = ("parameters", "packed", "settings", "widths")
"""Facts, or tables of facts, whose pairs are what was before and what is now."""

Table = tuple[str, list[str], list[list[str]]]
"""A title, the heads of columns, rows."""


def _tables(facts: Mapping[str, Any], title: str = "") -> Iterator[Table]:
    """What a step says of itself: what is one value first, then whatever holds several."""
    plain = {k: v for k, v in facts.items() if not _is_nested(v)}
    if plain:
        inside = title.rpartition(" · ")[2] in CHANGES
        rows = [[k, _changed(v) if inside or k in CHANGES else _said(v)] for k, v in plain.items()]
        yield title, ["", ""], rows
    for name, value in facts.items():
        here = f"{title} · {name}".removeprefix(" · ")
        if isinstance(value, Mapping):
            yield from _tables(value, here)
        elif _is_nested(value) and any(map(_is_nested, value[0].values())):
            for number, one in enumerate(value, 1):
                yield from _tables(one, f"{here} {number}")
        elif _is_nested(value):
            heads = list(value[0])
            yield here, heads, [[_said(row.get(head, "")) for head in heads] for row in value]


def _is_nested(value: Any) -> bool:
    rows = isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    return rows or (isinstance(value, Mapping) and bool(value))


def _said(value: Any) -> str:
    """A fact as people read it."""
    if value is None or value in ([], {}):
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(_said, value)) if isinstance(value, list) else str(value)


def _changed(value: Any) -> str:
    """A pair of what was before and is now, or a fact like others."""
    pair = isinstance(value, list) and len(value) == 2
    return " → ".join(map(_said, value)) if pair else _said(value)
