"""Models side by side: the same rows, a budget each keeps or misses, and no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import quantised
import tiny
from click.testing import CliRunner
from tiny import hear_once, train_once

from moodal import api, cli
from moodal.compress import compare as comparing
from moodal.compress import compare_page, measure
from moodal.compress.compare import Budget, Compared, Measured, Missed, frontier
from moodal.errors import ConfigError, DataError, ModelError


@pytest.fixture(autouse=True, scope="module")
def quick() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "ROWS", 4)
        patch.setattr(comparing, "RESAMPLES", 50)
        yield


@pytest.fixture(scope="module")
def pair() -> list[Path]:
    return [quantised.home() / "whole", quantised.home() / "small"]


@pytest.fixture(scope="module")
def found(pair: list[Path]) -> Compared:
    return comparing.compare(pair, quantised.rows().valid, budget=Budget(0.5, 1e6, 1e6))


def test_the_first_is_what_the_others_are_measured_against(found: Compared) -> None:
    first, second = found.models
    assert first.verdicts == ()
    assert first.smaller == first.alone.faster == first.end_to_end.faster == 1
    assert second.smaller > 1.5
    report = api.evaluate(quantised.rows().valid, model=Path(first.name))
    assert first.score == pytest.approx(report.scores[found.metric])
    assert found.n == report.scores["n"]
    assert second.gain == pytest.approx((second.score or 0) - (first.score or 0))


def test_scores_are_told_by_subset_and_language(found: Compared) -> None:
    told = {(v.kind, v.name) for v in found.models[1].verdicts}
    assert {("all", "all rows"), ("language", "en"), ("language", "zh")} <= told
    assert {("modalities", m) for m in ("text", "image", "audio", "text+image+audio")} <= told


def test_what_costs_more_than_the_budget_is_named(pair: list[Path]) -> None:
    with_less = Budget(max_ms=1e-6, max_mb=measure.size_mb(pair[1]) / 2)
    told = comparing.compare(pair, quantised.rows().valid, budget=with_less)
    assert not told.within
    assert [(m.model, m.budget) for m in told.missed] == [
        (str(pair[1]), "max_ms"),
        (str(pair[1]), "max_mb"),
    ]
    assert "at most" in told.missed[0].words[0]
    assert "上限" in told.missed[0].words[1]


def test_a_drop_is_a_gain_below_zero(found: Compared) -> None:
    first, second = found.models
    worse = replace(second, verdicts=(replace(second.verdicts[0], gain=-0.02),))
    missed = list(comparing._missed([first, worse], Budget(max_drop=0.01)))
    assert missed == [Missed(second.name, "max_drop", 0.02, 0.01)]
    assert not list(comparing._missed([first, worse], Budget(max_drop=0.02)))


def test_the_frontier_by_hand() -> None:
    points = [(3.0, 0.9), (1.0, 0.8), (2.0, 0.7), (1.0, 0.8), (1.0, 0.6), (9.0, None)]
    assert frontier(points, higher_is_better=True) == [True, True, False, True, False, False]
    assert frontier(points, higher_is_better=False) == [False, False, False, False, True, False]


def test_a_student_may_read_less_than_its_teacher(tmp_path: Path) -> None:
    data = quantised.home() / "data"
    settings = (*tiny.SETTINGS, "train.epochs=1", "modalities=[text]")
    small = api.train(
        data / "train.csv", valid=data / "dev.csv", out=tmp_path / "text", settings=settings
    )
    told = comparing.compare([quantised.home() / "whole", small.folder], data / "dev.csv")
    student = told.models[1]
    assert student.modalities == ("text",)
    assert told.models[0].score == student.verdicts[0].old != student.verdicts[0].new
    assert student.score == student.verdicts[0].new
    assert {v.name for v in student.verdicts if v.kind == "modalities"} == {"text"}
    assert student.lost > 0
    assert told.n_rejected >= student.lost


def test_what_cannot_be_compared_is_refused(pair: list[Path], tmp_path: Path) -> None:
    test = quantised.rows().valid
    with pytest.raises(ConfigError, match="two models or more"):
        comparing.compare(pair[:1], test)
    with pytest.raises(ConfigError, match="named twice"):
        comparing.compare([pair[0], pair[0]], test)
    with pytest.raises(ModelError, match="compare models of one task"):
        comparing.compare([pair[0], hear_once()], test)
    other = tmp_path / "rows.csv"
    other.write_text("id,text,label\n1,good,unheard\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"rows.csv row 1 on could be compared by .*1 rejected; the first: .*rows"
    ):
        comparing.compare(pair, other)


def test_models_of_other_labels_are_refused(pair: list[Path], tmp_path: Path) -> None:
    data = tmp_path / "two.csv"
    data.write_text(
        "id,text,label\n"
        + "".join(f"{i},word {i},{'yes' if i % 2 else 'no'}\n" for i in range(12)),
        encoding="utf-8",
    )
    settings = (*tiny.SETTINGS, "train.epochs=1")
    made = api.train(data, valid=data, out=tmp_path / "made", settings=settings)
    with pytest.raises(ModelError, match="compare models of the same labels"):
        comparing.compare([pair[0], made.folder], quantised.rows().valid)


def test_json_holds_it_all(found: Compared) -> None:
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["within"] is True
    assert [m["name"] for m in told["models"]] == [m.name for m in found.models]
    assert set(told["models"][1]) == set(Measured.__slots__)


def test_the_page_speaks_both_languages_and_fetches_nothing(
    found: Compared, tmp_path: Path
) -> None:
    path = compare_page.write(found, tmp_path / "page.html")
    html = path.read_text(encoding="utf-8")
    for words in ("Score against cost", "得分与成本", "Every model is within the budget.", "内存"):
        assert words in html
    assert "page.json" in html
    assert (
        json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))["metric"] == found.metric
    )
    assert "<script" not in html
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)


def test_what_was_given_is_escaped(found: Compared) -> None:
    odd = replace(found, models=(found.models[0], replace(found.models[1], name="<b>&")))
    assert "<b>&" not in compare_page.render(odd)
    assert "&lt;b&gt;&amp;" in compare_page.render(odd)


def test_the_table_has_a_line_a_model_and_a_line_a_slice(found: Compared) -> None:
    lines = compare_page.table(found).splitlines()
    assert sum(line.startswith(found.models[1].name) for line in lines) == 2
    assert sum(line.startswith("zh ") for line in lines) == 1
    assert lines[-1] == "Every model is within the budget."


def test_a_page_has_a_place_before_the_work_is_done(pair: list[Path], tmp_path: Path) -> None:
    for out in ("page", "page.json", "nowhere/page.html"):
        with pytest.raises(ConfigError):
            api.compare(pair, test=quantised.rows().valid, out=tmp_path / out)
    assert not list(tmp_path.iterdir())


def test_the_command_exits_with_1_where_a_budget_is_missed(pair: list[Path]) -> None:
    args = ["compare", *map(str, pair), "--test", str(quantised.rows().valid), "--json"]
    for budget, code in (("1000000", 0), ("0.001", 1)):
        ran = CliRunner().invoke(cli.cli, [*args, "--max-mb", budget])
        assert ran.exit_code == code, ran.output
        assert json.loads(ran.stdout)["within"] is (code == 0)


WITHOUT_TORCH = """
import sys
from moodal.compress import measure
measure.ROWS = 2
from moodal import api
found = api.compare(sys.argv[1:3], test=sys.argv[3])
heavy = [m for m in ("torch", "onnx", "matplotlib", "jinja2") if m in sys.modules]
assert not heavy, heavy
"""


def test_no_torch_is_imported() -> None:
    given = [train_once(), quantised.home() / "small", quantised.rows().valid]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, *map(str, given)],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stderr
