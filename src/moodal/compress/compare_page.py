"""The comparison for people (one self-contained page, a table) and for programs (JSON beside)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moodal import metrics
from moodal.bundle import writing
from moodal.compress.compare import Compared, Measured, frontier
from moodal.compress.measure import ROWS
from moodal.errors import ConfigError
from moodal.evaluation import page
from moodal.evaluation.page import number
from moodal.evaluation.plots import BLUE, GREY, INK, ORANGE, svg
from moodal.evaluation.report import METRICS, Words, aligned
from moodal.monitor.paired import RESAMPLES, Verdict
from moodal.runtime import output
from moodal.runtime.predict import BATCH_SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE = "compare.html.jinja"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What models are called in figures, whose names would not fit."""


def check_place(out: Path) -> None:
    """Say before the work is done, not after it, that no page can be written.

    Raises: CapacityError when the extra `report` is missing; ConfigError when `out` is no place.
    """
    page.check_packages()
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{out}: a comparison is a page; name a file that ends in .html")
    output.check_place(out, Path())


def write(compared: Compared, out: Path) -> Path:
    """Write the page, and its numbers beside it as .json, both or neither.

    Returns: the page's path. Raises: as check_place; CapacityError when the disk is full.
    """
    check_place(out)
    numbers = json.dumps(compared.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
    beside = out.with_suffix(".json").name
    html = render(compared, numbers=beside)
    with writing(out):
        page.write(out.parent, {beside: numbers + "\n", out.name: html})
    return out


def render(compared: Compared, *, numbers: str = "report.json") -> str:
    """The page as HTML. Everything from the data is escaped; no script, nothing is fetched."""
    values = {
        "compared": compared,
        "metric": METRICS[compared.metric],
        "verdict": verdict(compared),
        "models": list(zip(LETTERS, compared.models, strict=False)),
        "parts": _parts(compared),
        "level": metrics.LEVEL,
        "resamples": RESAMPLES,
        "rows": ROWS,
        "batch": BATCH_SIZE,
        "numbers": numbers,
        "figures": {
            "ms": pareto(compared, "ms", lambda model: model.alone.p50_ms),
            "mb": pareto(compared, "MB", lambda model: model.size_mb),
        },
    }
    filters: dict[str, Callable[..., str]] = {
        "signed": _signed,
        "times": _times,
        "amount": _amount,
        "span": _interval,
    }
    return page.render(TEMPLATE, values, package="moodal.compress", filters=filters)


def verdict(compared: Compared) -> list[Words]:
    """Which budgets are missed, or that all are kept."""
    if compared.missed:
        return [missed.words for missed in compared.missed]
    if any(value is not None for value in _budgets(compared)):
        return [("Every model is within the budget.", "所有模型均在预算之内。")]
    return [("No budget was given.", "未设定预算。")]


def _budgets(compared: Compared) -> list[float | None]:
    budget = compared.budget
    return [budget.max_drop, budget.max_ms, budget.max_mb]


def table(compared: Compared) -> str:
    """For a terminal: a line a model, then a line a slice, then what is missed."""
    head = ["", "MB", "parameters", "memory MB", "alone p50 ms", "a second", "whole p50 ms",
            "a second", compared.metric, "gain", ""]  # fmt: skip
    lines = [f"{compared.name}: {compared.n:,} rows scored, {compared.n_rejected:,} rejected", ""]
    lines += aligned([head, *map(_line, compared.models)])
    for model in compared.models[1:]:
        rows = [[model.name, "n", "first", "this", "gain", ""], *map(_slice, model.verdicts)]
        lines += ["", *aligned(rows)]
        if model.lost:
            lines.append(f"{model.lost:,} rows that the first answers, it cannot read")
    return "\n".join([*lines, "", *(words[0] for words in verdict(compared))])


def _line(model: Measured) -> list[str]:
    alone, whole = model.alone, model.end_to_end
    interval = model.verdicts[0].interval if model.verdicts else None
    return [
        model.name,
        f"{model.size_mb:.2f} ({_times(model.smaller)})",
        f"{model.parameters:,}",
        "–" if model.memory_mb is None else f"{model.memory_mb:.0f}",
        f"{_amount(alone.p50_ms)} ({_times(alone.faster)})",
        f"{alone.per_second:,.0f}",
        f"{_amount(whole.p50_ms)} ({_times(whole.faster)})",
        f"{whole.per_second:,.0f}",
        number(model.score),
        _signed(model.gain) if model.verdicts else "",
        _interval(interval),
    ]


def _slice(found: Verdict) -> list[str]:
    scores = [number(found.old), number(found.new)]
    return [found.name, f"{found.n:,}", *scores, _signed(found.gain), _interval(found.interval)]


def _parts(compared: Compared) -> list[tuple[Words, list[tuple[str, list[Verdict | None]]]]]:
    """By kind of slice: name -> each model's verdict after the first; None where it has none."""
    kinds = (
        ("modalities", ("By what is seen", "按可见模态")),
        ("language", ("By language", "按语言")),
    )
    parts = []
    for kind, words in kinds:
        found = [{v.name: v for v in m.verdicts if v.kind == kind} for m in compared.models[1:]]
        names = list(dict.fromkeys(name for one in found for name in one))
        parts.append((words, [(name, [one.get(name) for one in found]) for name in names]))
    return [(words, rows) for words, rows in parts if rows]


def pareto(compared: Compared, unit: str, cost: Callable[[Measured], float]) -> str:
    """The score over what it costs; models that no other beats in both stand on the line."""
    points = [(cost(model), model.score) for model in compared.models]
    best = frontier(points, higher_is_better=compared.higher_is_better)
    names = {"ms": "p50 ms, the model alone · 模型自身耗时", "MB": "MB, all files · 文件大小"}

    def draw(axes: Axes) -> None:
        line = sorted((x, y) for (x, y), kept in zip(points, best, strict=True) if kept)
        axes.plot(*zip(*line, strict=True), color=BLUE, linewidth=1, drawstyle="steps-post")
        for letter, (x, y), kept in zip(LETTERS, points, best, strict=False):
            if y is None:
                continue
            colour = INK if letter == LETTERS[0] else BLUE if kept else GREY
            axes.plot([x], [y], "o", color=colour, markersize=9)
            above = 9 if LETTERS.index(letter) % 2 == 0 else -17  # near ones stay apart
            axes.annotate(letter, (x, y), (0, above), ha="center", textcoords="offset points")
        limit = {"ms": compared.budget.max_ms, "MB": compared.budget.max_mb}[unit]
        if limit is not None:
            axes.axvline(limit, color=ORANGE, linewidth=1.2, linestyle="--")
        axes.set_xlim(0, 1.12 * max(x for x, _ in points))
        axes.set_xlabel(names[unit])
        axes.set_ylabel(compared.metric)
        axes.grid()
        axes.margins(y=0.25)
        if not compared.higher_is_better:
            axes.invert_yaxis()

    return svg(draw, (5.4, 3.8), f"pareto-{unit}")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:+.3f}, {bounds[1]:+.3f}]"


def _times(ratio: float) -> str:
    return f"× {ratio:.2f}"


def _amount(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
