"""Names that change places: all else stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recipes.base import names


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
    known = names.find(ROWS)
    assert known["en"] == {"oslo", "grace"}, "Ada is written ada once in three; Bo has two letters"
    assert known["zh"] == {"张靓颖", "李强", "拉萨", "杭州"}


def test_what_is_seen_once_or_often_is_no_name_to_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "SEEN", (3, 100))
    assert names.find(ROWS) == {"en": frozenset(), "zh": frozenset()}
    monkeypatch.setattr(names, "SEEN", (1, 1))
    assert not names.find(ROWS)["zh"]


def test_names_take_each_others_places_and_nothing_else_changes() -> None:
    known = {"en": frozenset({"oslo", "grace"}), "zh": frozenset({"拉萨", "杭州"})}
    rows = [
        row("Grace, @Grace and #Oslo: grace in Oslo!"),
        row("我们在拉萨。", "zh"),
        row("Oslo liegt am Meer.", "de"),
    ]
    drawn = [list(names.exchanged(rows, known, np.random.default_rng(seed))) for seed in range(40)]
    for changed in drawn:
        assert [r | {"text": ""} for r in changed] == [r | {"text": ""} for r in rows]
        assert changed[2] == rows[2]
    assert {changed[1]["text"] for changed in drawn} == {"我们在拉萨。", "我们在杭州。"}
    english = {changed[0]["text"] for changed in drawn}
    assert len(english) == 8, "three places, two names"
    assert "Oslo, @Grace and #Oslo: Grace in Grace!" in english


def test_a_seed_gives_the_same_rows() -> None:
    known = names.find(ROWS)
    first, again, other = (
        list(names.exchanged(ROWS, known, np.random.default_rng(seed))) for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("text", "lang", "other"),
    [
        ("He told his wife", "en", "She told her husband"),
        ("her father, HIMSELF a hero", "en", "his mother, herself a heroine"),
        ("The theme of this shero", "en", None),
        ("他妈妈和其他人", "zh", "她爸爸和其他人"),
        ("小伙子很热情", "zh", "小姑娘很热情"),
        ("价格实惠", "zh", None),
        ("her", "", None),
    ],
)
def test_who_is_a_man_is_a_woman_behind_it(text: str, lang: str, other: str | None) -> None:
    given = row(text, lang)
    first, *rest = names.of_both([given])
    assert first == given
    assert rest == ([given | {"text": other}] if other else [])
