"""A report for people (one self-contained page, a table) and for programs (report.json)."""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moodal import config, metrics
from moodal.bundle import writing
from moodal.errors import CapacityError, DataError, RecordError
from moodal.evaluation import page, plots
from moodal.evaluation.page import check_packages, interval, number
from moodal.evaluation.result import MAX_TEXT, Report, Scores, WorstError
from moodal.preprocess import audio, image
from moodal.runtime.regions import Weights, overlay
from moodal.tasks import TASKS
from moodal.types import Media

PAGE, NUMBERS, TEMPLATE = "report.html", "report.json", "report.html.jinja"
THUMBNAIL = 320
"""Longer side in pixels of a worst error's picture."""
MAX_LINES = 20
"""Groups that the table in a terminal lists."""
SECONDS = 10.0
"""Length of a worst error's sound."""

Words = tuple[str, str]
"""English, Chinese."""

METRICS: dict[str, Words] = {
    "rouge1": ("ROUGE-1", "ROUGE-1"),
    "rouge2": ("ROUGE-2", "ROUGE-2"),
    "rougeL": ("ROUGE-L", "ROUGE-L"),
    "length_ratio": ("Length to the target's", "与目标的长度比"),
    "wer": ("Word error rate", "词错误率"),
    "cer": ("Character error rate", "字符错误率"),
    "exact": ("All words right", "完全正确率"),
    "confidence": ("Mean confidence", "平均置信度"),
    "accuracy": ("Accuracy", "准确率"),
    "macro_f1": ("Macro F1", "宏平均 F1"),
    "weighted_f1": ("Weighted F1", "加权 F1"),
    "macro_precision": ("Macro precision", "宏平均精确率"),
    "macro_recall": ("Macro recall", "宏平均召回率"),
    "calibration_error": ("Calibration error", "校准误差"),
    "log_loss": ("Log loss", "对数损失"),
    "mae": ("Mean absolute error", "平均绝对误差"),
    "rmse": ("Root mean square error", "均方根误差"),
    "pearson": ("Pearson correlation", "皮尔逊相关系数"),
    "acc2": ("Right sign (Acc-2)", "正负号准确率 (Acc-2)"),
    "acc7": ("Right step of 7 (Acc-7)", "七级准确率 (Acc-7)"),
}
COLUMNS = (
    "rouge1",
    "rouge2",
    "rougeL",
    "wer",
    "cer",
    "exact",
    "accuracy",
    "macro_f1",
    "weighted_f1",
    "calibration_error",
    "mae",
    "pearson",
    "acc2",
)
"""Scores of the tables by subset, language and group: those that the task has."""


def check_place(out: Path) -> None:
    """Say before the work is done, not after it, that no report can be written.

    Raises: CapacityError when the extra `report` is missing; DataError when `out` is a file.
    """
    check_packages()
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file; a report is a folder, name another with --out")


def write(
    report: Report,
    out: Path,
    *,
    history: Sequence[Mapping[str, float]] = (),
    info: Mapping[str, str] | None = None,
    settings: config.Audio | None = None,
    regions: Sequence[Weights] = (),
) -> Path:
    """Write report.json and report.html into the folder `out`, each under a temporary name first.

    history: one mapping an epoch, for the training curves. info: further facts on the model, name
    -> value. settings: how sound is read (its limits). regions: what mattered in the picture of
    each worst error, () for nothing, to be laid over it.

    Returns: the page's path.
    Raises: CapacityError when the extra `report` is missing or the disk is full; DataError when
        `out` is a file.
    """
    settings = settings or config.Audio()
    html = render(report, history=history, info=info or {}, settings=settings, regions=regions)
    numbers = json.dumps(report.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
    try:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            page.write(out, {NUMBERS: numbers + "\n", PAGE: html})
            return out / PAGE
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(
            f"{out}: is a file, or inside one; a report is a folder, name another with --out"
        ) from error


def render(
    report: Report,
    *,
    history: Sequence[Mapping[str, float]],
    info: Mapping[str, str],
    settings: config.Audio,
    regions: Sequence[Weights] = (),
) -> str:
    """The page as HTML. Everything from the data is escaped; no script, nothing is fetched.

    Raises: CapacityError when jinja2 or matplotlib is missing.
    """
    goal = TASKS[report.task].goal
    shown = regions or [()] * len(report.worst)
    values = {
        "report": report,
        "metrics": METRICS,
        "headline": [key for key in METRICS if key in report.scores],
        "columns": [key for key in COLUMNS if key in report.scores],
        "goal": goal,
        "level": metrics.LEVEL,
        "facts": _facts(report, info),
        "figures": _figures(report, history, goal),
        "errors": [
            _shown(error, settings, mattered)
            for error, mattered in zip(report.worst, shown, strict=True)
        ],
        "best": [_shown(answer, settings, ()) for answer in report.best],
        "spoken": _is_text(report),
    }
    return page.render(TEMPLATE, values, package=page.SHARED, filters={})


def table(report: Report) -> str:
    """The scores as text, for a terminal."""
    scores = report.scores
    counts = [f"{report.n_rejected:,} rejected", f"{report.unlabelled:,} unlabelled"]
    if report.set_aside:
        counts.append(f"{report.set_aside:,} set aside")
    title = " on ".join(part for part in (report.model, report.name) if part)
    lines = [f"{title}: {scores['n']:,} rows scored, {', '.join(counts)}".removeprefix(": "), ""]
    intervals = scores.get("intervals", {})
    keys = [key for key in METRICS if key in scores]
    rows = [[key, number(scores[key]), interval(intervals.get(key))] for key in keys]
    lines += aligned(rows)
    columns = [key for key in COLUMNS if key in scores]
    parts = (("seen", report.subsets), ("language", report.languages), ("group", report.groups))
    for name, part in parts:
        if part:
            rows = _rows(part, columns)
            lines += ["", *aligned([[name, "n", *columns], *rows[:MAX_LINES]])]
            if len(rows) > MAX_LINES:
                lines.append(f"... and {len(rows) - MAX_LINES} more, in the report")
    return "\n".join(lines)


def _rows(parts: Mapping[str, Scores], columns: Sequence[str]) -> list[list[str]]:
    return [
        [name, f"{part['n']:,}", *(number(part[key]) for key in columns)]
        for name, part in parts.items()
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right; a Chinese character is two wide."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        padded = [first + " " * (widths[0] - _width(first))]
        for cell, width in zip(others, widths[1:], strict=True):
            padded.append(" " * (width - _width(cell)) + cell)
        lines.append("  ".join(padded).rstrip())
    return lines


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _is_text(report: Report) -> bool:
    """Whether the answers are texts."""
    return TASKS[report.task].head != "summary"


def _facts(report: Report, info: Mapping[str, str]) -> list[tuple[Words, str]]:
    facts = [
        (("Model", "模型"), report.model),
        (("Data", "数据"), report.name),
        (("Labels", "标签"), "" if _is_text(report) else ", ".join(report.labels)),
        *(((name, name), value) for name, value in info.items()),
        (("Rows scored", "已评估样本"), f"{report.scores['n']:,}"),
        (("Rows rejected", "被拒绝的行"), f"{report.n_rejected:,}"),
        (("Rows without a label", "无标签的行"), f"{report.unlabelled:,}"),
    ]
    if report.set_aside:
        facts.append((("Rows of other labels, set aside", "其他标签的行（未计入）"),
                      f"{report.set_aside:,}"))  # fmt: skip
    return [(words, value) for words, value in facts if value]


def _figures(report: Report, history: Sequence[Mapping[str, float]], goal: str) -> dict[str, str]:
    """Name -> SVG; "" where there is nothing to draw."""
    scores = report.scores
    counts, bins = scores.get("confusion"), scores.get("calibration_bins")
    return {
        "subsets": plots.subsets(report.subsets, goal),
        "confusion": plots.confusion(counts, report.labels) if counts else "",
        "calibration": plots.calibration(bins) if bins else "",
        "training": plots.training(history) if history else "",
    }


def _shown(error: WorstError, settings: config.Audio, mattered: Weights) -> dict[str, Any]:
    """A worst error as the page shows it: its media as data URIs, or why there are none."""
    record = error.record
    notes: list[tuple[Words, str]] = []

    def media(source: Media | None, words: Words, uri: Callable[[Media], str]) -> str:
        if source is None:
            return ""
        if isinstance(source, np.ndarray) and source.dtype != np.uint8:
            notes.append((words, f"precomputed features {source.shape}"))
            return ""
        try:
            return uri(source)
        except (RecordError, CapacityError) as failure:
            unread = (f"{words[0]}: can no longer be shown", f"{words[1]}：已无法显示")
            notes.append((unread, str(failure)))
            return ""

    text = record.text if isinstance(record.text, str) else ""
    if isinstance(record.text, np.ndarray):
        notes.append((("Text", "文本"), f"precomputed features {record.text.shape}"))
    return {
        "id": record.id,
        "source": record.source,
        "target": error.target,
        "answer": error.answer,
        "wrong_by": error.wrong_by,
        "seen": " + ".join(error.modalities),
        "text": text[:MAX_TEXT] + ("…" if len(text) > MAX_TEXT else ""),
        "picture": media(record.image, ("Picture", "图片"), lambda p: _picture(p, mattered)),
        "peak": max((w for row in mattered for w in row), key=abs, default=None),
        "sound": media(record.audio, ("Sound", "音频"), lambda source: _sound(source, settings)),
        "notes": notes,
    }


def _picture(source: Media, mattered: Weights) -> str:
    picture = image.small(source, THUMBNAIL)
    return _data_uri("image/jpeg", image.jpeg(overlay(picture, mattered) if mattered else picture))


def _sound(source: Media, settings: config.Audio) -> str:
    short = settings.model_copy(update={"max_seconds": min(SECONDS, settings.max_seconds)})
    return _data_uri("audio/wav", audio.wav(audio.decode(source, short)))


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
