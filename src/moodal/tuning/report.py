"""The search for people (one self-contained page, a table) and for programs (report.json)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from moodal import metrics
from moodal.bundle import writing
from moodal.evaluation import page
from moodal.evaluation.report import METRICS, NUMBERS, PAGE, aligned
from moodal.monitor.paired import RESAMPLES
from moodal.tuning import plots
from moodal.tuning.plan import BEST
from moodal.tuning.result import Tried, Tuned, spread_of, verdict
from moodal.tuning.space import Value, nested

TEMPLATE = "report.html.jinja"
MAX_TRIALS = 20
"""Trials that the page lists, the best first."""
MAX_COLUMNS = 5
"""Settings beside each, the most important."""


def write(tuned: Tuned, out: Path) -> Path:
    """Write report.json and report.html into the folder, both or neither. Returns: the page's path.

    Raises: CapacityError when the extra `report` is missing or the disk is full.
    """
    numbers = json.dumps(tuned.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
    html = render(tuned)
    with writing(out):
        page.write(out, {NUMBERS: numbers + "\n", PAGE: html})
    return out / PAGE


def render(tuned: Tuned) -> str:
    """The page as HTML. Everything from the data is escaped; no script, nothing is fetched."""
    compared = tuned.comparison
    names = ranked(tuned)
    values = {
        "tuned": tuned,
        "verdict": verdict(tuned),
        "metric": METRICS[tuned.metric],
        "better": "higher" if tuned.higher_is_better else "lower",
        "compared": compared,
        "level": metrics.LEVEL,
        "resamples": RESAMPLES,
        "facts": _facts(tuned),
        "seeds": _by_seed(tuned),
        "changed": changed(tuned),
        "yaml": yaml.safe_dump(nested(tuned.settings), allow_unicode=True, sort_keys=False),
        "best_file": BEST,
        "columns": names[:MAX_COLUMNS],
        "trials": _listed(tuned),
        "impossible": [trial for trial in tuned.trials if trial.state == "impossible"],
        "figures": {
            "history": plots.history(
                tuned.trials, tuned.metric, higher_is_better=tuned.higher_is_better
            ),
            "importance": plots.importance(tuned.importance) if tuned.importance else "",
            "parallel": plots.parallel(
                tuned.trials, tuned.space, names[: plots.MAX_AXES], tuned.best
            ),
            "seeds": plots.seeds(compared) if compared else "",
            "gain": plots.gain(compared) if compared else "",
        },
    }
    return page.render(TEMPLATE, values, package="moodal.tuning", filters=FILTERS)


def table(tuned: Tuned) -> str:
    """For a terminal: the best settings beside the defaults, then the verdict."""
    rows = [["", "default", f"trial {tuned.best}"]]
    rows += [[name, _value(old), _value(new)] for name, old, new in changed(tuned)]
    count = tuned.count
    told = ", ".join(f"{n:,} {state}" for state, n in count.items() if n)
    head = f"{tuned.name}: {len(tuned.trials):,} trials ({told})"
    settings = ["", *aligned(rows)] if len(rows) > 1 else []
    return "\n".join([head, *settings, "", verdict(tuned)[0], f"model: {tuned.model}"])


def changed(tuned: Tuned) -> list[tuple[str, Value, Value]]:
    """(setting, default, best) where they differ, the most important first."""
    return [
        (name, tuned.defaults[name], tuned.settings[name])
        for name in ranked(tuned)
        if name in tuned.settings and tuned.settings[name] != tuned.defaults[name]
    ]


def ranked(tuned: Tuned) -> list[str]:
    """All settings of the space, the most important first."""
    return [*tuned.importance, *(name for name in tuned.space if name not in tuned.importance)]


def _listed(tuned: Tuned) -> list[Tried]:
    sign = -1.0 if tuned.higher_is_better else 1.0
    scored = [trial for trial in tuned.trials if trial.score is not None]
    order = sorted(
        scored, key=lambda t: (t.state != "finished", sign * float(t.score or 0.0), t.number)
    )
    return order[:MAX_TRIALS]


def _facts(tuned: Tuned) -> list[tuple[tuple[str, str], str]]:
    rows, count = tuned.rows, tuned.count
    rules = {
        "whole groups": "whole groups · 整组",
        "stratified by label": "stratified by label · 按标签分层",
        "at random": "at random · 随机",
        "": "tuned and compared on the same rows · 调优与比较使用相同样本",
    }
    facts = [
        (("Task", "任务"), tuned.task),
        (("Learned from", "训练数据"), rows.train),
        (("Chosen by", "选择依据"), f"{rows.valid}, {rows.tuned_on:,}"),
        (("Compared on", "比较依据"), f"{rows.valid}, {tuned.comparison.n:,}"
         if tuned.comparison else ""),
        (("How these were parted", "划分方式"), rules[rows.rule]),
        (("Trials finished", "完成的试验"), f"{count['finished']:,}"),
        (("Trials ended early", "提前结束的试验"), f"{count['ended early']:,}"),
        (("Settings that could not be trained", "无法训练的设置"), f"{count['impossible']:,}"),
        (("Model", "模型"), str(tuned.model)),
    ]  # fmt: skip
    return [(words, fact) for words, fact in facts if fact]


def _by_seed(tuned: Tuned) -> list[dict[str, Any]]:
    """A row a seed: both settings on the rows compared on and on those tuned on."""
    compared = tuned.comparison
    blank: tuple[float | None, ...] = (None,) * len(tuned.seeds)
    columns = {
        "defaults": compared.defaults if compared else blank,
        "best": compared.best if compared else blank,
        "tuned_defaults": tuned.tuned["defaults"],
        "tuned_best": tuned.tuned.get("best", blank),
    }
    return [
        {"seed": seed, **{name: column[i] for name, column in columns.items()}}
        for i, seed in enumerate(tuned.seeds)
    ]


def _value(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)


def _range(entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "choice":
        return ", ".join(map(_value, entry["values"]))
    step = f", step {entry['step']}" if "step" in entry else ""
    log = " (log)" if entry["kind"] == "log-float" else ""
    return f"{_value(entry['low'])} – {_value(entry['high'])}{step}{log}"


FILTERS: dict[str, Callable[..., str]] = {
    "value": _value,
    "range": _range,
    "spread": lambda scores: str(spread_of(scores)),
}
