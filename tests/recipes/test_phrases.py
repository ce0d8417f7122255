"""Phrases of negation, facts and emoji: none that the checklist asks, none on both sides."""

from __future__ import annotations

from pathlib import Path

from moodal.data import manifest
from moodal.evaluation import checklist
from moodal.types import Record
from recipes.base import phrases
from recipes.base.manifests import fold


def test_the_checklist_asks_about_none_of_them() -> None:
    asked = {fold(str(case.given.text)) for case in checklist.cases()}
    assert len(asked) > 200
    made = [fold(text) for text, _, _ in phrases.phrases()]
    assert not asked & set(made)
    assert len(set(made)) == len(made) > 8000


def test_negation_turns_the_label() -> None:
    label = {text: label for text, label, _ in phrases.phrases()}
    assert label["the meal is good"] == label["the meal is not bad"] == "positive"
    assert label["the meal is bad"] == label["the meal is not good"] == "negative"
    assert label["味道很好"] == label["味道不差"] == label["味道不是不好"] == "positive"
    assert label["味道很差"] == label["味道不好"] == label["味道不是不差"] == "negative"


def test_a_fact_says_nothing_until_an_emoji_does() -> None:
    label = {text: label for text, label, _ in phrases.phrases()}
    assert label["she takes the bus today"] == label["她今天坐公交车"] == "neutral"
    assert label["she takes the bus 🎉"] == label["她坐公交车^_^"] == "positive"
    assert label["she takes the bus :("] == label["她坐公交车💔"] == "negative"


def test_parts_share_no_phrase_and_are_added_to_what_stands(tmp_path: Path) -> None:
    for stage in ("text", "joint"):
        (tmp_path / stage).mkdir()
        for part in ("train", "dev"):
            (tmp_path / stage / f"{part}.jsonl").write_text(
                '{"id": "0", "text": "first", "label": "positive", "group": "a"}\n'
            )
    phrases.write(tmp_path)
    for stage in ("text", "joint"):
        texts = {}
        for part in ("train", "dev"):
            rows = list(manifest.read(tmp_path / stage / f"{part}.jsonl"))
            assert all(isinstance(row, Record) for row in rows)
            first, *added = [row for row in rows if isinstance(row, Record)]
            assert first.group == "a"
            assert {row.group for row in added} == {phrases.GROUP}
            texts[part] = {row.text for row in added}
        assert not texts["train"] & texts["dev"]
        assert 0.05 < len(texts["dev"]) / len(texts["train"]) < 0.2
