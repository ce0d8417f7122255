"""An alert is raised after two looks above its limit, and cleared after two below a lower one."""

from __future__ import annotations

import dataclasses

import pytest

from moodal.monitor import alert
from moodal.monitor.alert import Hysteresis, Signal, signals
from moodal.monitor.drift import Drift
from moodal.monitor.quality import Quality

STEADY = Drift("text.length", "text", 0.02, 0.25, 0.03, 0.1, 500, "steady")
DRIFTING = Drift("text.length", "text", 0.6, 0.25, 0.3, 0.1, 1234, "drifting")
UNKNOWN = Quality("all", "", 0, None, None, 0, None, None, None)


def run(values: list[float], *, opened: tuple[str, ...] = ()) -> list[str]:
    state = Hysteresis(opened)
    told = [state.step(Signal("a", v, 0.25, 0.1, ("", ""))) for v in values]
    return ["r" if t == "raise" else "c" if t == "clear" else "-" for t in told]


def test_one_look_above_raises_nothing_two_do() -> None:
    assert run([0.3, 0.2, 0.3, 0.0, 0.25, 0.25]) == ["-", "-", "-", "-", "-", "r"]


def test_between_the_limits_it_stays_as_it_is() -> None:
    assert run([0.3, 0.3, 0.2, 0.11, 0.2, 0.1]) == ["-", "r", "-", "-", "-", "-"]


def test_two_looks_under_the_lower_limit_clear_it_and_it_can_come_again() -> None:
    told = run([0.3, 0.3, 0.05, 0.2, 0.05, 0.05, 0.05, 0.3, 0.3])
    assert told == ["-", "r", "-", "-", "-", "c", "-", "-", "r"]


def test_while_it_lasts_the_journal_hears_how_bad_it_is() -> None:
    assert run([0.3, 0.3, 0.9, 0.5]) == ["-", "r", "r", "r"]


def test_what_flutters_about_a_limit_is_told_once() -> None:
    told = run([0.26, 0.24] * 5 + [0.26, 0.26] + [0.24, 0.26] * 5 + [0.09, 0.11] * 5)
    assert told.count("c") == 0
    assert told.index("r") == 11


def test_what_was_open_before_a_restart_is_open_still() -> None:
    assert run([0.05, 0.05], opened=("a",)) == ["-", "c"]
    assert run([0.3, 0.05, 0.05], opened=("a",)) == ["r", "-", "c"]


def test_drift_is_watched_where_there_are_rows_enough() -> None:
    few = dataclasses.replace(DRIFTING, n=50, state="few")
    shown = dataclasses.replace(DRIFTING, measure="modalities", modality="", ks=None)
    found = list(signals([STEADY, DRIFTING, few, shown], UNKNOWN, validated=0.8))
    assert [(s.name, s.value, s.limit) for s in found] == [
        ("drift:text.length", 0.02, 0.25),
        ("drift:text.length", 0.6, 0.25),
    ]
    assert found[1].clear == pytest.approx(0.1)
    assert found[1].sentences == (
        "The length of texts drifted from the validation data: PSI 0.60, KS 0.30 over 1,234 "
        "answers (limit 0.25)",
        "文本长度偏离了验证数据：1,234 条回答的 PSI 为 0.60，KS 0.30（限值 0.25）",
    )


def test_psi_alone_neither_raises_nor_clears() -> None:
    near = dataclasses.replace(DRIFTING, ks=0.05, state="steady")
    [found] = signals([near], UNKNOWN, validated=None)
    assert found.clear <= found.value < found.limit


def test_an_estimate_far_under_validation_is_told() -> None:
    told = dataclasses.replace(UNKNOWN, n=100, estimated=0.65, estimated_interval=(0.6, 0.7))
    [found] = signals([], told, validated=0.8)
    assert (found.name, found.limit, found.clear) == ("accuracy:estimated", 0.1, 0.05)
    assert found.value == pytest.approx(0.15)
    assert "65.0%" in found.sentences[0]
    assert "65.0%" in found.sentences[1]
    assert list(signals([], dataclasses.replace(told, n=99), validated=0.8)) == []
    assert list(signals([], told, validated=None)) == []


def test_feedback_is_held_against_confidence_in_the_same_answers() -> None:
    told = dataclasses.replace(
        UNKNOWN, n_feedback=30, feedback=0.5, feedback_interval=(0.33, 0.67), expected=0.8
    )
    [found] = signals([], told, validated=0.8)
    assert (found.name, found.limit, found.clear) == ("accuracy:feedback", 0.05, 0.0)
    assert found.value == pytest.approx(0.13)
    assert found.sentences[0].startswith("Of 30 answers that people judged at most 67.0% are right")
    assert list(signals([], dataclasses.replace(told, n_feedback=29), validated=0.8)) == []


@pytest.mark.parametrize(
    ("measure", "english", "chinese"),
    [
        ("image.projection_3", "The content of pictures (projection 3)", "图片内容（投影 3）"),
        ("audio.length", "The length of recordings", "录音长度"),
        ("language", "The shares of the languages", "各语言的占比"),
        ("something.new", "something.new", "something.new"),
    ],
)
def test_a_measure_has_a_name_in_both_languages(measure: str, english: str, chinese: str) -> None:
    assert alert.named(measure) == (english, chinese)
