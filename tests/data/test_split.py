"""Parts share nothing, hold everything, and are the same for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moodal.config import Columns
from moodal.data import manifest
from moodal.data.split import PARTS, split
from moodal.errors import DataError
from moodal.types import Record


def _write(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    path = folder / "all.csv"
    lines = [f"{text},{label},{speaker}" for text, label, speaker in rows]
    path.write_text("\n".join(["text,label,speaker", *lines]) + "\n", encoding="utf-8")
    return path


def _parts(report: dict[str, Any], columns: Columns) -> list[list[Record]]:
    paths = [Path(report[part]["path"]) for part in PARTS if part in report]
    return [[r for r in manifest.read(p, columns) if isinstance(r, Record)] for p in paths]


def test_each_part_has_its_share_of_every_label(tmp_path: Path) -> None:
    rows = [(f"t{i}", "ab"[i % 5 == 0], "") for i in range(1000)]
    report = split(_write(tmp_path, rows), tmp_path / "out")
    assert report["train"]["labels"] == {"a": 640, "b": 160}
    assert report["dev"]["labels"] == report["test"]["labels"] == {"a": 80, "b": 20}
    assert [report[part]["rows"] for part in PARTS] == [800, 100, 100]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sizes=st.lists(st.integers(1, 30), min_size=3, max_size=25), seed=st.integers(0, 9))
def test_no_group_is_in_two_parts_and_no_row_is_lost(
    sizes: list[int], seed: int, tmp_path: Path
) -> None:
    rows = [(f"t{g}-{i}", "ab"[i % 2], f"s{g}") for g, n in enumerate(sizes) for i in range(n)]
    columns = Columns(group="speaker")
    report = split(_write(tmp_path, rows), tmp_path / "out", group="speaker", seed=seed)
    parts = _parts(report, columns)
    groups = [{record.group for record in part} for part in parts]
    assert sum(map(len, groups)) == len(sizes)
    assert all(groups)
    assert sorted(str(r.text) for part in parts for r in part) == sorted(row[0] for row in rows)


def test_groups_come_near_the_ratios(tmp_path: Path) -> None:
    rows = [(f"t{i}", "a", f"s{i % 20}") for i in range(400)]
    report = split(_write(tmp_path, rows), tmp_path / "out", group="speaker")
    assert [report[part]["rows"] for part in PARTS] == [320, 40, 40]


def test_equal_texts_stay_together(tmp_path: Path) -> None:
    rows = [(f"t{i % 50}", "ab"[i % 3 == 0], "") for i in range(300)]
    parts = _parts(split(_write(tmp_path, rows), tmp_path / "out"), Columns())
    texts = [{record.text for record in part} for part in parts]
    assert sum(map(len, texts)) == 50


def test_the_seed_decides(tmp_path: Path) -> None:
    path = _write(tmp_path, [(f"t{i}", "ab"[i % 2], "") for i in range(200)])
    made = {}
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        split(path, tmp_path / name, seed=seed)
        made[name] = (tmp_path / name / "dev.csv").read_bytes()
    assert made["one"] == made["two"]
    assert made["one"] != made["three"]


def test_a_part_with_ratio_0_is_not_written(tmp_path: Path) -> None:
    path = _write(tmp_path, [(f"t{i}", "a", "") for i in range(10)])
    report = split(path, tmp_path / "out", ratios=(0.5, 0.5, 0.0))
    assert (report["train"]["rows"], report["dev"]["rows"]) == (5, 5)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["dev.csv", "train.csv"]


def test_rows_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    path = _write(tmp_path, [(f"t{i}", "a", "") for i in range(10)])
    path.write_text(path.read_text() + "too,many,cells,here\n")
    report = split(path, tmp_path / "out")
    assert report["rejected"]["rows"] == 1
    assert report["rejected"]["examples"][0]["source"] == "all.csv row 11"
    assert sum(report[part]["rows"] for part in PARTS) == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"group": "singer"}, "no column 'singer' to group by; its columns are text, label"),
        ({"ratios": (0.8, 0.1, 0.2)}, "add to 1"),
        ({"ratios": (1.1, -0.1, 0.0)}, "add to 1"),
        ({"group": "speaker"}, "2 groups"),
    ],
)
def test_what_cannot_be_done_is_said(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = _write(tmp_path, [(f"t{i}", "a", f"s{i % 2}") for i in range(10)])
    with pytest.raises(DataError, match=said):
        split(path, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
