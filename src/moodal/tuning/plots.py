"""The figures of a search: numbers in, SVG text out, as moodal.evaluation.plots draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moodal.evaluation.plots import BLUE, GREY, INK, ORANGE, RULE, short, svg
from moodal.tuning.compare import Comparison
from moodal.tuning.result import Tried
from moodal.tuning.space import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_BARS = 15
"""Settings whose importance is drawn."""
MAX_AXES = 10
"""Settings that the parallel coordinates show: the most important."""


def history(trials: Sequence[Tried], metric: str, *, higher_is_better: bool) -> str:
    """The score of each trial, in order, and the best so far."""
    scored = [t for t in trials if t.score is not None]
    finished = [t for t in scored if t.state == "finished"]
    better = np.maximum if higher_is_better else np.minimum

    def draw(axes: Axes) -> None:
        early = [t for t in scored if t.state == "ended early"]
        axes.plot(*_points(early), "x", color=GREY, label="ended early · 提前结束")
        axes.plot(*_points(finished), "o", color=BLUE, markersize=6, label="finished · 完成")
        own = [t for t in finished if t.is_default]
        axes.plot(*_points(own), "D", color=ORANGE, markersize=8, label="defaults · 默认设置")
        numbers, scores = _points(finished)
        if numbers:
            so_far = better.accumulate(np.array(scores))
            axes.step(numbers, so_far, where="post", color=INK, linewidth=1, label="best · 最佳")
        axes.set_xlabel("trial · 试验")
        axes.set_ylabel(metric)
        axes.locator_params(axis="x", integer=True)
        axes.grid()
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)

    return svg(draw, (9.6, 4.2), "history")


def importance(shares: Mapping[str, float]) -> str:
    """How much each setting had to do with the score, in shares of 1; the MAX_BARS first."""
    names = list(shares)[:MAX_BARS]

    def draw(axes: Axes) -> None:
        axes.barh(range(len(names)), [shares[name] for name in names], color=BLUE, height=0.6)
        for y, name in enumerate(names):
            share = shares[name]
            axes.text(share, y, f" {share:.2f}", va="center", fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("share · 占比")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.margins(x=0.1)

    return svg(draw, (7.2, 0.9 + 0.3 * len(names)), "importance")


def parallel(
    trials: Sequence[Tried], space: Mapping[str, Any], names: Sequence[str], best: int
) -> str:
    """A line a trial over its settings, the last axis its score; the best one drawn bold.

    space: setting -> its entry, as YAML holds it. names: of the axes, in order.
    """
    shown = [t for t in trials if t.score is not None and all(n in t.settings for n in names)]
    scores = np.array([t.score for t in shown], np.float64)
    low, high = (float(scores.min()), float(scores.max())) if shown else (0.0, 1.0)
    width = high - low or 1.0

    def draw(axes: Axes) -> None:
        from matplotlib import colormaps

        for trial in sorted(shown, key=lambda t: t.number == best):
            places = [_place(space[name], trial.settings[name]) for name in names]
            share = (float(trial.score or 0.0) - low) / width
            places.append(share)
            bold = trial.number == best
            axes.plot(
                range(len(places)),
                places,
                color=ORANGE if bold else colormaps["viridis"](share),
                linewidth=3 if bold else 1.2,
                alpha=1.0 if bold else 0.6 if trial.state == "finished" else 0.25,
            )
        for x, name in enumerate(names):
            axes.axvline(x, color=GREY, linewidth=0.8)
            for y, text in _ticks(space[name]):
                axes.text(x + 0.04, y, text, fontsize=8, va="center", bbox=_PAPER)
        axes.axvline(len(names), color=INK, linewidth=1)
        for y in (0.0, 1.0):
            axes.text(
                len(names) + 0.04, y, f"{low + y * width:.3f}", fontsize=8, va="center", bbox=_PAPER
            )
        axes.set_xticks(
            range(len(names) + 1), [*names, "score · 得分"], rotation=-25, ha="left",
            rotation_mode="anchor",
        )  # fmt: skip
        axes.set_yticks([])
        axes.set_xlim(-0.1, len(names) + 0.6)
        axes.spines[:].set_visible(False)

    return svg(draw, (10.0, 4.8), "parallel")


_PAPER = {"facecolor": "white", "edgecolor": RULE, "alpha": 0.85, "pad": 1.5, "linewidth": 0.5}


def seeds(found: Comparison) -> str:
    """Every seed's score with the defaults and with the best settings; the bar is the mean."""
    rows = (
        ("defaults · 默认设置", found.defaults, GREY),
        ("best · 最佳设置", found.best, BLUE),
    )

    def draw(axes: Axes) -> None:
        for default, best in zip(found.defaults, found.best, strict=True):
            axes.plot([default, best], [0, 1], color=RULE, linewidth=1.2, zorder=0)
        for y, (_, scores, colour) in enumerate(rows):
            mean = float(np.mean(scores))
            axes.plot(scores, [y] * len(scores), "o", color=colour, markersize=8, alpha=0.8)
            axes.plot([mean, mean], [y - 0.18, y + 0.18], color=INK, linewidth=2)
            axes.annotate(f"{mean:.3f}", (mean, y), (0, 16), ha="center",
                          textcoords="offset points")  # fmt: skip
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.7)
        axes.set_xlabel(found.metric)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.margins(x=0.15)

    return svg(draw, (5.4, 2.3), "seeds")


def gain(found: Comparison) -> str:
    """The mean gain over the seeds and its interval, beside zero."""

    def draw(axes: Axes) -> None:
        colour = BLUE if found.is_better else GREY
        axes.axvline(0, color=INK, linewidth=1, linestyle="--")
        if found.interval is not None:
            axes.plot(found.interval, [0, 0], color=colour, linewidth=6, alpha=0.35,
                      solid_capstyle="butt")  # fmt: skip
        axes.plot([found.gain], [0], "o", color=colour, markersize=9)
        axes.annotate(f"{found.gain:+.3f}", (found.gain, 0), (0, 12), ha="center",
                      textcoords="offset points")  # fmt: skip
        axes.set_yticks([])
        axes.set_ylim(-0.6, 0.8)
        axes.set_xlabel("gain; right of 0 = better · 增益（大于 0 为更好）")
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.margins(x=0.2)

    return svg(draw, (5.4, 2.3), "gain")


def _points(trials: Sequence[Tried]) -> tuple[list[int], list[float]]:
    return [t.number for t in trials], [float(t.score or 0.0) for t in trials]


def _place(entry: Mapping[str, Any], value: Value) -> float:
    """Where a value stands on its axis, in [0, 1] for those of the space."""
    if entry["kind"] == "choice":
        return float(entry["values"].index(value)) / (len(entry["values"]) - 1)
    assert isinstance(value, int | float), "a range holds numbers"
    low, high, here = (float(x) for x in (entry["low"], entry["high"], value))
    if entry["kind"] == "log-float":
        low, high, here = np.log(low), np.log(high), np.log(here)
    return (here - low) / (high - low)


def _ticks(entry: Mapping[str, Any]) -> list[tuple[float, str]]:
    if entry["kind"] == "choice":
        return [(_place(entry, value), short(str(value))) for value in entry["values"]]
    return [(0.0, f"{entry['low']:.3g}"), (1.0, f"{entry['high']:.3g}")]
