"""The figures: valid SVG, deterministic, text kept as text, global state left alone."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from moodal.evaluation import plots

BINS = [
    {"low": 0.4, "high": 0.467, "n": 20, "confidence": 0.44, "accuracy": 0.5},
    {"low": 0.933, "high": 1.0, "n": 160, "confidence": 0.98, "accuracy": 0.9},
]
SUBSETS = {
    "text": {"n": 1234, "mae": 0.5, "intervals": {"mae": [0.25, 0.75]}},
    "image": {"n": 5, "mae": None},
}
HISTORY = [{"epoch": 1, "train_loss": 2.0, "valid_loss": 2.5, "score": 0.3}, {"epoch": 2}]


def drawn() -> dict[str, str]:
    return {
        "confusion": plots.confusion([[7, 0], [2, 1234]], ["负面", "a & <b> $x$"]),
        "subsets": plots.subsets(SUBSETS, "mae"),
        "calibration": plots.calibration(BINS),
        "training": plots.training(HISTORY),
    }


@pytest.fixture(scope="module")
def figures() -> dict[str, str]:
    return drawn()


def words(svg: str) -> set[str]:
    return {
        "".join(element.itertext()).strip()
        for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    }


def test_text_stays_text_so_that_the_browser_picks_the_font(figures: dict[str, str]) -> None:
    assert {"负面", "a & <b> $x$", "1,234", "7", "2"} <= words(figures["confusion"])
    assert {"0.500", "text  (n = 1,234)", "image  (n = 5)"} <= words(figures["subsets"])
    assert {"20", "160"} <= words(figures["calibration"])
    assert "validation loss · 验证损失" in words(figures["training"])


def test_equal_numbers_give_equal_figures_and_leave_the_settings_of_matplotlib_alone(
    figures: dict[str, str],
) -> None:
    before = dict(mpl.rcParams)
    assert drawn() == figures
    assert dict(mpl.rcParams) == before


def test_ids_are_the_figures_own_and_references_find_them(figures: dict[str, str]) -> None:
    for name, svg in figures.items():
        ids = set(re.findall(r'\bid="([^"]+)"', svg))
        assert ids
        assert all(i.startswith(f"{name}-") for i in ids)
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) <= ids


def test_a_score_and_its_interval_stand_where_the_axis_says(figures: dict[str, str]) -> None:
    # The bar runs 0.25..0.75, so the point at 0.5 is its middle, in whatever units SVG has.
    svg = figures["subsets"]
    bar = re.search(r'd="M ([\d.]+) ([\d.]+) \nL ([\d.]+) \2 \n"[^>]*stroke-opacity: 0.3', svg)
    point = re.search(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: #0072b2', svg)
    assert bar is not None
    assert point is not None
    left, y, right = map(float, bar.groups())
    assert float(point[1]) == pytest.approx((left + right) / 2)
    assert float(point[2]) == pytest.approx(y)


def test_many_labels_are_shaded_without_numbers() -> None:
    n_labels = plots.MAX_NUMBERED + 1
    table = [[777] * n_labels for _ in range(n_labels)]
    assert "777" not in words(plots.confusion(table, [str(i) for i in range(n_labels)]))
