"""Texts that nobody wrote: of the rows' own words, and of each set as many as its share."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from recipes.base import made

ROWS = [
    {
        "id": f"{group}/{i}",
        "text": f"the {noun} was really {how} , I say {i}",
        "group": group,
        "lang": "en",
    }
    for group in ("sst2", "goemotions", "oasis")
    for noun in ("film", "plot", "cast")
    for i, how in enumerate(("dull", "fine", "odd"), 10 * ("film", "plot", "cast").index(noun))
]


def texts(n: int, seed: int = 0, rows: Any = ROWS) -> list[dict[str, Any]]:
    return list(made.texts(rows, n, np.random.default_rng(seed)))


def test_half_are_of_the_first_set_and_each_has_a_name_of_its_own() -> None:
    rows = texts(200)
    groups = Counter(row["group"] for row in rows)
    assert groups == {"made-sst2": 100, "made-goemotions": 50, "made-oasis": 50}
    assert len({row["id"] for row in rows}) == 200
    assert {row["lang"] for row in rows} == {"en"}
    assert {row["label"] for row in rows} == {""}


def test_they_are_made_of_the_rows_words_and_differ_from_the_rows() -> None:
    known = {word for row in ROWS for word in f"{row['text']} {row['text'].lower()}".split()}
    rows = texts(200)
    words = [row["text"].split() for row in rows]
    assert all(words)
    assert {word for text in words for word in text} <= known
    assert sum(row["text"] in {r["text"] for r in ROWS} for row in rows) < 60
    assert max(map(len, words)) <= made.LONGEST


def test_none_is_of_signs_alone() -> None:
    rows = texts(200, rows=[row | {"text": "fine ... ?! --- :)"} for row in ROWS])
    assert 20 < len(rows) < 190
    assert all("fine" in row["text"] for row in rows)


def test_chinese_is_cut_into_words_and_joined_without_spaces() -> None:
    reviews = [
        {
            "id": f"{group}/{i}",
            "text": f"{thing}非常{how}，下次还来。",
            "group": group,
            "lang": "zh",
        }
        for group in ("chnsenticorp", "waimai")
        for i, (thing, how) in enumerate((t, h) for t in ("房间", "早餐") for h in ("干净", "难吃"))
    ]
    rows = texts(100, rows=reviews)
    counts = Counter(row["group"] for row in rows)
    assert counts == {"made-chnsenticorp": 30, "made-waimai": 69}, "one was a comma"
    assert {row["lang"] for row in rows} == {"zh"}
    known = {word for row in reviews for word in made.words(row["text"], "zh")}
    assert "非常" in known, "words, not characters"
    for row in rows:
        assert " " not in row["text"]
        assert set(row["text"]) <= set("".join(known))


def test_only_words_of_letters_that_are_seen_twice_take_anothers_place() -> None:
    seen = ["a", "a", "b", ",", ",", "7", "7", "naïve", "naïve", "c", "c", "c", "好", "好"]
    assert made.Words.of([seen], "zh").words == ("好",)
    words = made.Words.of([seen], "en")
    assert words.words == ("a", "c")
    assert words.until == pytest.approx([2**0.5, 2**0.5 + 3**0.5])
    rng = np.random.default_rng(0)
    drawn = Counter(words.draw(rng) for _ in range(4000))
    assert drawn["c"] / drawn["a"] == pytest.approx((3 / 2) ** 0.5, rel=0.1)


def test_a_seed_gives_the_same_texts_and_another_others() -> None:
    assert texts(50) == texts(50)
    assert texts(50) != texts(50, seed=1)


def test_a_row_of_one_word_is_no_obstacle() -> None:
    rows = [{"id": str(i), "text": "no", "group": "meld-text", "lang": "en"} for i in range(3)]
    assert {row["text"] for row in texts(40, rows=rows)} == {"no", "no no"}
