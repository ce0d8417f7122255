"""Parts share nothing, hold everything, and are the same for the same seed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moodal.config import Columns
from moodal.data import manifest
from moodal.data.split import PARTS, HeldOut, hold_out, split, write_parts
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


# ---- held out for want of a second file --------------------------------------------------------


def _both(held: HeldOut, columns: Columns) -> list[list[Record]]:
    rows = list(zip(manifest.read(held.path, columns), held.is_held, strict=True))
    return [
        [r for r, out in rows if isinstance(r, Record) and out == wanted]
        for wanted in (False, True)
    ]


COLUMNS = Columns(group="speaker")


def test_every_label_gives_its_tenth(tmp_path: Path) -> None:
    rows = [(f"t{i}", "ab"[i % 5 == 0], "") for i in range(1000)]
    held = hold_out(_write(tmp_path, rows), columns=COLUMNS)
    assert (held.rule, held.n_held, held.n_rows) == ("stratified by label", 100, 1000)
    train, valid = _both(held, COLUMNS)
    assert [sum(r.target == label for r in valid) for label in "ab"] == [80, 20]
    assert sorted(str(r.text) for r in train + valid) == sorted(row[0] for row in rows)


def test_groups_are_held_out_whole(tmp_path: Path) -> None:
    rows = [(f"t{i}", "ab"[i % 2], f"s{i % 20}") for i in range(400)]
    held = hold_out(_write(tmp_path, rows), columns=COLUMNS)
    assert (held.rule, held.n_held) == ("whole groups", 40)
    train, valid = ({r.group for r in part} for part in _both(held, COLUMNS))
    assert not train & valid
    assert len(valid) == 2


def test_a_group_column_without_groups_means_nothing(tmp_path: Path) -> None:
    rows = [(f"t{i}", "ab"[i % 2], "") for i in range(100)]
    assert hold_out(_write(tmp_path, rows), columns=COLUMNS).rule == "stratified by label"


def test_of_data_sets_each_label_of_each_gives_its_tenth(tmp_path: Path) -> None:
    rows = [(f"t{i}", "ab"[i % 2], "xxxy"[i // 2 % 4]) for i in range(400)]
    held = hold_out(_write(tmp_path, rows), columns=COLUMNS, sets=True)
    assert held.rule == "stratified by label"
    _, valid = _both(held, COLUMNS)
    counts = {(g, c): sum((r.group, r.target) == (g, c) for r in valid) for g in "xy" for c in "ab"}
    assert counts == {("x", "a"): 15, ("x", "b"): 15, ("y", "a"): 5, ("y", "b"): 5}


def test_rows_without_a_label_are_learned_from(tmp_path: Path) -> None:
    rows = [(f"t{i}", "ab"[i % 2] if i % 4 else "", "") for i in range(400)]
    train, valid = _both(hold_out(_write(tmp_path, rows)), Columns())
    assert all(r.target for r in valid)
    assert len(valid) == 30
    assert sum(r.target is None for r in train) == 100


def test_where_no_row_has_a_label_rows_are_held_out_all_the_same(tmp_path: Path) -> None:
    rows = [(f"t{i}", "", "") for i in range(200)]
    held = hold_out(_write(tmp_path, rows))
    assert (held.rule, held.n_held) == ("at random", 20)


@pytest.mark.parametrize("n_rows", [200, 3000])
def test_numbers_and_texts_are_drawn_at_random(n_rows: int, tmp_path: Path) -> None:
    file = _write(tmp_path, [(f"t{i}", f"{i / 7}", "") for i in range(n_rows)])
    one, other = (hold_out(file, seed=s) for s in (0, 1))
    assert (one.rule, one.n_held) == ("at random", n_rows // 10)
    drawn = [{str(r.text) for r in _both(held, Columns())[1]} for held in (one, other)]
    assert len(drawn[0] & drawn[1]) < n_rows // 20, "another seed, other rows"
    places = sorted(int(text[1:]) for text in drawn[0])
    assert len({b - a for a, b in pairwise(places)}) > 5, "not every tenth"


def test_the_one_row_of_a_label_is_learned_from(tmp_path: Path) -> None:
    rows = [(f"t{i}", "ab"[i % 2], "") for i in range(200)]
    only = {f"only {i}" for i in range(40)}
    file = _write(tmp_path, rows + [(text, f"label {text}", "") for text in sorted(only)])
    train, valid = _both(hold_out(file), Columns())
    assert only <= {r.text for r in train}
    assert len(valid) == 20


def test_equal_texts_are_not_held_out_apart(tmp_path: Path) -> None:
    rows = [(f"t{i % 100}", "ab"[i % 2], "") for i in range(400)]
    train, valid = _both(hold_out(_write(tmp_path, rows)), Columns())
    assert not {r.text for r in train} & {r.text for r in valid}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_same_seed_holds_out_the_same_rows_and_writes_them_as_files(
    suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"all.{suffix}"
    rows = ", ".join(f"('t{i}', '{i % 3}', 'a/{i}.png')" for i in range(300))
    how = {"csv": "FORMAT csv, HEADER", "jsonl": "FORMAT json", "parquet": "FORMAT parquet"}
    duckdb.sql(
        f"COPY (SELECT * FROM (VALUES {rows}) AS t(text, label, image)) TO '{file}' ({how[suffix]})"
    )
    one, same, other = (hold_out(file, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.is_held, same.is_held)
    assert not np.array_equal(one.is_held, other.is_held)
    train, valid = write_parts(one, tmp_path / "parts")
    expected = _both(one, Columns())
    for path, part in zip((train, valid), expected, strict=True):
        assert [r.text for r in manifest.read(path) if isinstance(r, Record)] == [
            r.text for r in part
        ]
    record = next(iter(manifest.read(valid)))
    assert isinstance(record, Record)
    assert isinstance(record.image, Path)
    assert record.image.resolve().parent == tmp_path / "a", "paths still lead to the media"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("t", "a", "")], "fewer than two labelled rows that differ"),
        ([("t", "a", ""), ("t", "b", "")], "fewer than two labelled rows that differ"),
        ([("t1", "a", ""), ("t2", "", "")], "fewer than two labelled rows that differ"),
        ([("t1", "a", "s"), ("t2", "b", "s")], "fewer than two labelled groups that differ"),
    ],
    ids=["one", "twins", "one labelled", "one group"],
)
def test_too_few_to_hold_any_out_is_said(
    rows: list[tuple[str, str, str]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"all.csv: has {said}.*name a file with --valid"):
        hold_out(_write(tmp_path, rows), columns=COLUMNS)


def test_standard_input_cannot_be_read_twice() -> None:
    with pytest.raises(DataError, match="save it as a file"):
        hold_out(Path("-"))


def test_rows_that_cannot_be_read_are_left_to_whoever_learns_and_names_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.csv"
    lines = [f"text {i},{'ab'[i % 2]}" for i in range(40)]
    path.write_text("text,label\n" + "\n".join([*lines[:7], ",a", *lines[7:]]), encoding="utf-8")
    held = hold_out(path)
    assert (held.n_rows, len(held.is_held), held.is_held[7]) == (40, 41, False)
    parts = write_parts(held, tmp_path / "out")
    assert [sum(1 for _ in manifest.read(part)) for part in parts] == [36, 4]
