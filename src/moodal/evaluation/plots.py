"""The report's figures: numbers in, SVG text out, the same text for the same numbers.

Text stays text, so that a browser sets Chinese labels in its own fonts. matplotlib is of the extra
`report`. Colours: Okabe & Ito, Color Universal Design (2008), told apart by colour-blind readers.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moodal.errors import CapacityError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scores = Mapping[str, Any]

INK, GREY, RULE = "#22303c", "#6b7785", "#dfe4e8"
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
MAX_NUMBERED = 16
"""Labels up to which a confusion matrix carries its numbers and names."""
STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "moodal",
    "font.family": "DejaVu Sans",
    "font.size": 11.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "legend.frameon": False,
}


def confusion(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """counts[i][j]: rows of class i answered j. Shaded by the share of the row."""
    table = np.asarray(counts, np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    side = min(1.9 + 0.75 * len(labels), 8.0)

    def draw(axes: Axes) -> None:
        axes.pcolormesh(shares, cmap="Blues", vmin=0.0, vmax=1.0, edgecolor="white", linewidth=1)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xlabel("answered · 预测")
        axes.set_ylabel("true · 实际")
        if len(labels) > MAX_NUMBERED:
            return
        places = np.arange(len(labels)) + 0.5
        axes.set_xticks(
            places, [short(x) for x in labels], rotation=30, ha="right", rotation_mode="anchor"
        )
        axes.set_yticks(places, [short(x) for x in labels])
        for (i, j), share in np.ndenumerate(shares):
            colour = "white" if share > 0.55 else INK
            axes.text(
                j + 0.5, i + 0.5, f"{table[i, j]:,.0f}", ha="center", va="center", color=colour
            )

    return svg(draw, (side + 0.9, side), "confusion")


def subsets(scores: Mapping[str, Scores], metric: str) -> str:
    """One score of each subset of the modalities, with its interval and its number of rows."""
    names = list(scores)
    values = [scores[name][metric] for name in names]
    bounds = [scores[name].get("intervals", {}).get(metric) for name in names]

    def draw(axes: Axes) -> None:
        for y, (value, bound) in enumerate(zip(values, bounds, strict=True)):
            if bound is not None:
                axes.plot(bound, [y, y], color=BLUE, linewidth=5, alpha=0.3, solid_capstyle="butt")
            if value is not None:
                axes.plot([value], [y], "o", color=BLUE, markersize=8)
                axes.annotate(f"{value:.3f}", (value, y), (0, 9), ha="center",
                              textcoords="offset points")  # fmt: skip
        rows = [f"{name}  (n = {scores[name]['n']:,})" for name in names]
        axes.set_yticks(range(len(names)), rows)
        axes.set_ylim(len(names) - 0.4, -0.7)
        axes.set_xlabel(metric)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.12)

    return svg(draw, (7.2, 0.9 + 0.55 * len(names)), "subsets")


def calibration(bins: Sequence[Scores]) -> str:
    """A reliability diagram: accuracy over confidence, and the rows that each bin holds.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), figure 1.
    """
    confidence, accuracy = ([b[key] for b in bins] for key in ("confidence", "accuracy"))
    heights = 0.25 * np.array([b["n"] for b in bins]) / max(b["n"] for b in bins)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="ideal · 理想")
        axes.bar(
            [b["low"] for b in bins],
            heights,
            width=[b["high"] - b["low"] for b in bins],
            align="edge",
            color=RULE,
            edgecolor="white",
            label="rows · 样本数",
        )
        for b, height in zip(bins, heights, strict=True):
            middle = (b["low"] + b["high"]) / 2
            axes.text(middle, height + 0.01, b["n"], ha="center", color=GREY, fontsize=8)
        axes.plot(confidence, accuracy, "o-", color=BLUE, markersize=6, label="model · 模型")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.set_xlabel("confidence · 置信度")
        axes.set_ylabel("accuracy · 准确率")
        axes.grid()
        axes.legend(loc="upper left")

    return svg(draw, (5.4, 4.4), "calibration")


def training(history: Sequence[Mapping[str, float]]) -> str:
    """Losses and the validation score by epoch; each curve that the history holds.

    history: one mapping an epoch, with epoch and any of train_loss, valid_loss, loss, score.
    """
    losses = (
        ("train_loss", "training loss · 训练损失", BLUE),
        ("loss", "loss · 损失", BLUE),
        ("valid_loss", "validation loss · 验证损失", ORANGE),
    )

    def draw(axes: Axes) -> None:
        for key, label, colour in losses:
            _curve(axes, history, key, color=colour, label=label)
        axes.set_xlabel("epoch · 轮次")
        axes.set_ylabel("loss · 损失")
        axes.locator_params(axis="x", integer=True)
        axes.grid()
        lines = list(axes.lines)
        if any("score" in row for row in history):
            right = axes.twinx()
            right.spines["right"].set_visible(True)
            right.set_ylabel("score · 得分")
            _curve(right, history, "score", color=GREEN, label="validation score · 验证得分",
                   linestyle="--")  # fmt: skip
            lines += right.lines
        axes.legend(handles=lines, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return svg(draw, (5.8, 4.4), "training")


def _curve(axes: Axes, history: Sequence[Mapping[str, float]], key: str, **style: Any) -> None:
    points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, **style)


def short(label: str) -> str:
    return label if len(label) <= 18 else label[:17] + "…"


def svg(draw: Any, inches: tuple[float, float], name: str) -> str:
    """Draw on a figure of its own and return its SVG element, ids made unique by name."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CapacityError(
            "the report needs matplotlib, which is not installed; pip install 'moodal[report]'"
        ) from error
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Its own font lacks Chinese; the browser's are used.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", drawn)
