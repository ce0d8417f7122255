"""The page of a search: its numbers, both languages, nothing fetched, nothing unescaped."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from moodal.tuning import plots, report
from moodal.tuning.compare import Comparison
from moodal.tuning.result import Tried, Tuned, spread_of, verdict

HAN = re.compile(r"[\u4e00-\u9fff]")
COMPARED = Comparison(
    metric="macro_f1",
    higher_is_better=True,
    n=225,
    seeds=(0, 1, 2),
    defaults=(0.58, 0.60, 0.59),
    best=(0.61, 0.64, 0.62),
    gain=0.033,
    interval=(0.004, 0.061),
    resampled="rows",
    n_rejected=0,
    n_unlabelled=0,
)


def with_numbers(found: Tuned, **changes: object) -> Tuned:
    return replace(found, comparison=replace(COMPARED, **changes))  # type: ignore[arg-type]


def test_the_page_fetches_and_runs_nothing(found: Tuned) -> None:
    html = report.render(found)
    assert "<script" not in html
    assert not re.search(r'(src|href)="(?!#)', html)
    assert "default-src 'none'" in html
    assert re.findall(r"url\((?!#)", html) == []


def test_every_heading_stands_in_both_languages(found: Tuned) -> None:
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", report.render(found))
    assert len(headings) >= 6
    for heading in headings:
        english, chinese = re.fullmatch(
            r'<span class="en" lang="en">(.*)</span><span class="zh" lang="zh">(.*)</span>', heading
        ).groups()  # type: ignore[union-attr]
        assert english
        assert not HAN.search(english)
        assert HAN.search(chinese)


def test_the_page_says_what_was_found(found: Tuned) -> None:
    html = report.render(with_numbers(found))
    assert "0.623 ± 0.015" in html
    assert "0.590 ± 0.010" in html
    assert "+0.033" in html
    assert "[0.004, 0.061]" in html
    for name in found.space:
        assert f">{name}</th>" in html
    assert "moodal train FILE --config best.yaml" in html
    for figure in ("history", "parallel", "seeds", "gain"):
        assert f'id="{figure}-' in html


def test_what_stands_in_the_data_is_escaped(found: Tuned) -> None:
    evil = "<img src=x onerror=alert(1)>"
    tried = Tried(99, "impossible", None, 0, 1.0, {}, is_default=False, why=evil)
    html = report.render(
        replace(found, name=evil, trials=(*found.trials, tried), idle={"text.symbols": evil})
    )
    assert evil not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") >= 3


def test_the_same_search_is_the_same_page(found: Tuned) -> None:
    assert report.render(found) == report.render(found)


def test_settings_are_ranked_by_what_mattered(found: Tuned) -> None:
    names = list(found.space)
    shares = {names[2]: 0.9, names[0]: 0.1}
    ranked = replace(found, importance=shares)
    assert report.ranked(ranked) == [names[2], names[0], names[1]]
    assert "Too few trials are finished" not in report.render(ranked)
    assert "Too few trials are finished" in report.render(replace(found, importance={}))


def test_the_table_sets_the_best_beside_the_defaults(found: Tuned) -> None:
    lines = report.table(with_numbers(found)).splitlines()
    assert lines[0] == "tuned: 12 trials (12 finished)" or "ended early" in lines[0]
    assert lines[2].split() == ["default", "trial", str(found.best)]
    assert any(line.startswith("train.learning_rate") for line in lines)
    assert lines[-1] == f"model: {found.model}"


@pytest.mark.parametrize(
    ("changes", "kept", "en", "zh"),
    [
        ({}, "best", "beat the defaults: macro_f1 0.623 ± 0.015 against 0.590", "优于默认设置："),
        ({}, "best", "gain +0.033 [+0.004, +0.061] on 225 rows that no trial", "未参与任何试验"),
        (
            {"interval": (-0.01, 0.06)},
            "defaults",
            "do not surely beat the defaults: .* The model has the defaults",
            "并不确定优于默认设置.*保留的模型使用默认设置",
        ),
        (
            {"interval": None},
            "defaults",
            "cannot be told from the defaults by so few rows",
            "样本太少",
        ),
    ],
)
def test_the_verdict_is_plain_in_both_languages(
    found: Tuned, changes: dict[str, object], kept: str, en: str, zh: str
) -> None:
    said = verdict(replace(with_numbers(found, **changes), kept=kept))  # type: ignore[arg-type]
    assert re.search(en.replace("+", r"\+").replace("[", r"\["), said[0])
    assert re.search(zh, said[1])
    assert not HAN.search(said[0])


def test_rows_that_chose_flatter_and_the_page_says_so(found: Tuned) -> None:
    flattered = replace(with_numbers(found), rows=replace(found.rows, rule=""))
    assert "which flatters the winner" in verdict(flattered)[0]
    assert "Leave out --whole" in report.render(flattered)
    assert "Leave out --whole" not in report.render(found)


def test_the_spread_is_that_of_a_sample() -> None:
    assert str(spread_of([1.0, 2.0, 3.0])) == "2.000 ± 1.000"
    assert str(spread_of([0.5])) == "0.500"


def test_a_line_stands_on_each_axis_where_its_value_lies() -> None:
    log = {"kind": "log-float", "low": 0.01, "high": 1.0}
    assert plots._place(log, 0.1) == pytest.approx(0.5)
    assert plots._place({"kind": "int", "low": 1, "high": 5}, 2) == 0.25
    assert plots._place({"kind": "choice", "values": ["a", "b", None]}, None) == 1.0


def test_a_search_of_one_trial_has_a_page_too(found: Tuned, tmp_path: Path) -> None:
    alone = replace(
        found,
        trials=found.trials[:1],
        best=0,
        settings=found.defaults,
        comparison=None,
        importance={},
        kept="defaults",
        tuned={"defaults": found.tuned["defaults"]},
    )
    path = report.write(alone, tmp_path)
    html = path.read_text(encoding="utf-8")
    assert "They are the defaults." in html
    assert "There was nothing to compare with the defaults." in html
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == [
        "report.html",
        "report.json",
    ]
