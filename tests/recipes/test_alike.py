"""Names that change places and slips of the pen: all else stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recipes.base import alike


def row(text: str, lang: str = "en", group: str = "semeval2017") -> dict[str, Any]:
    return {"id": text, "text": text, "lang": lang, "group": group, "label": "positive"}


ROWS = [
    *(
        row(f"I met {name} in {town} and it rained")
        for name in ("Ada", "Bo Li")
        for town in ("Oslo",)
    ),
    *(row(f"Yesterday {name} said hello to Bo") for name in ("Ada", "the man")),
    *(row(f"Cold rain, said {name}") for name in ("ada", "Grace", "Grace")),
    row("made by Grace and ADA", group="sst2"),
    *(
        row(f"我和{name}在{town}见面", "zh")
        for name in ("张靓颖", "李强")
        for town in ("拉萨", "杭州")
    ),
]


def test_names_are_words_that_have_a_capital_inside_a_sentence() -> None:
    names = alike.find(ROWS)
    assert names["en"] == {"oslo", "grace"}, "Ada is written ada once in three; Bo has two letters"
    assert names["zh"] == {"张靓颖", "李强", "拉萨", "杭州"}


def test_what_is_seen_once_or_often_is_no_name_to_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "SEEN", (3, 100))
    assert alike.find(ROWS) == {"en": frozenset(), "zh": frozenset()}
    monkeypatch.setattr(alike, "SEEN", (1, 1))
    assert not alike.find(ROWS)["zh"]


def test_names_take_each_others_places_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alike, "SLIPS", 0.0)
    names = {"en": frozenset({"oslo", "grace"}), "zh": frozenset({"拉萨", "杭州"})}
    rows = [
        row("Grace, @Grace and #Oslo: grace in Oslo!"),
        row("我们在拉萨。", "zh"),
        row("Oslo liegt am Meer.", "de"),
    ]
    drawn = [list(alike.alike(rows, names, np.random.default_rng(seed))) for seed in range(40)]
    for changed in drawn:
        assert [r | {"text": ""} for r in changed] == [r | {"text": ""} for r in rows]
        assert changed[2] == rows[2]
    assert {changed[1]["text"] for changed in drawn} == {"我们在拉萨。", "我们在杭州。"}
    english = {changed[0]["text"] for changed in drawn}
    assert len(english) == 8, "three places, two names"
    assert "Oslo, @Grace and #Oslo: Grace in Grace!" in english


def test_a_slip_is_of_neighbours_inside_a_longer_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "SLIPS", 1.0)
    nobody = {"en": frozenset[str](), "zh": frozenset[str]()}
    slips = {
        next(alike.alike([row("the word #word 很好")], nobody, np.random.default_rng(seed)))["text"]
        for seed in range(40)
    }
    assert slips == {f"the {slip} #word 很好" for slip in ("wrod", "wrd", "woord")}


def test_a_seed_gives_the_same_rows() -> None:
    names = alike.find(ROWS)
    first, again, other = (
        list(alike.alike(ROWS, names, np.random.default_rng(seed))) for seed in (0, 0, 1)
    )
    assert first == again != other
