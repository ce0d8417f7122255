"""The figures of a compression, as moodal.evaluation.plots draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from moodal.compress.result import Compressed
from moodal.evaluation.plots import BLUE, GREY, INK, ORANGE, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cost = Literal["megabytes", "milliseconds"]
AXES = {"megabytes": "MB · 体积", "milliseconds": "ms alone · 模型本身耗时"}


def against(found: Compressed, cost: Cost) -> str:
    """The score of each step against what it costs, the parent first; a dashed line where the loss
    ends that is allowed."""
    points = [("", found.parent, True), *((s.name, s.measured, s.stands) for s in found.steps)]
    sign = 1.0 if found.higher_is_better else -1.0
    floor = found.parent.score - sign * (found.budgets["max-drop"] or 0.0)
    budget = found.budgets["target-mb" if cost == "megabytes" else "target-ms"]

    def draw(axes: Axes) -> None:
        axes.axhline(floor, color=GREY, linewidth=1, linestyle="--")
        if budget is not None:
            axes.axvline(budget, color=GREY, linewidth=1, linestyle="--")
        for place, (name, measured, stands) in enumerate(points):
            here = (getattr(measured, cost), measured.score)
            colour = ORANGE if name == found.kept else BLUE if stands else GREY
            axes.plot(*here, "o" if stands else "x", color=colour, markersize=9)
            above = 6 if place % 2 == 0 else -14  # near ones stay apart
            axes.annotate(name or "parent · 原模型", here, (8, above), textcoords="offset points",
                          color=INK, fontsize=9)  # fmt: skip
        axes.set_xlabel(AXES[cost])
        axes.set_ylabel(found.metric)
        axes.grid()
        axes.margins(y=0.25)
        axes.set_xlim(0, 1.3 * max(getattr(measured, cost) for _, measured, _ in points))

    return svg(draw, (5.4, 3.6), cost)
