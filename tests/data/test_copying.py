"""Copied rows are the rows of the source, and their media still resolve."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import duckdb
import numpy as np
import pytest

from moodal.data import manifest
from moodal.data.copying import NOWHERE, copy_rows
from moodal.data.rows import stream_rows
from moodal.errors import CapacityError, DataError
from moodal.types import Record


def _sources(folder: Path) -> list[Path]:
    text = 'id,text,image,extra\n1,"a, ""b""\nc",p/1.png,x\n2,,/abs/2.png,"[1]"\n3,好,"[1, 2]",\n'
    (folder / "m.csv").write_text(text, encoding="utf-8")
    cells = [row.cells for row in stream_rows(folder / "m.csv")]
    lines = [json.dumps(row, ensure_ascii=False) for row in cells]
    (folder / "m.jsonl").write_text("\n".join(lines), encoding="utf-8")
    duckdb.connect().execute(
        f"COPY (SELECT * FROM read_json('{folder}/m.jsonl', convert_strings_to_integers=false)) "
        f"TO '{folder}/m.parquet' (FORMAT parquet)"
    )
    return [folder / "m.csv", folder / "m.jsonl", folder / "m.parquet"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_rows_go_where_they_are_sent_and_stay_the_same(place: int, tmp_path: Path) -> None:
    source = _sources(tmp_path)[place]
    outs = [tmp_path / f"{name}{source.suffix}" for name in ("x", "y")]
    copy_rows(source, outs, part_of=np.array([1, NOWHERE, 1], dtype=np.uint8))
    before = [dict(row.cells) for row in stream_rows(source)]
    assert [dict(row.cells) for row in stream_rows(outs[1])] == [before[0], before[2]]
    assert manifest.columns_of(outs[1]) == manifest.columns_of(source)
    with pytest.raises(DataError):
        next(manifest.read(outs[0]))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_relative_media_resolve_from_the_new_folder(place: int, tmp_path: Path) -> None:
    source = _sources(tmp_path)[place]
    out = tmp_path / "new" / "deep" / f"m{source.suffix}"
    copy_rows(source, [out], part_of=np.zeros(3, dtype=np.uint8))
    first, second, third = manifest.read(out)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert isinstance(third, Record)
    assert isinstance(first.image, Path)
    assert first.image.resolve() == (tmp_path / "p/1.png").resolve()
    assert second.image == Path("/abs/2.png")
    assert np.array_equal(np.asarray(third.image), [1, 2])


def test_paths_within_the_datasets_struct_move_and_bytes_stay(tmp_path: Path) -> None:
    source, out = tmp_path / "m.parquet", tmp_path / "new" / "m.parquet"
    duckdb.connect().execute(
        "COPY (SELECT {'bytes': NULL::BLOB, 'path': 'x.wav'} AS audio UNION ALL SELECT "
        f"{{'bytes': 'cd'::BLOB, 'path': 'y.wav'}} UNION ALL SELECT NULL) TO '{source}' "
        "(FORMAT parquet)"
    )
    copy_rows(source, [out], part_of=np.zeros(3, dtype=np.uint8))
    assert [row.cells["audio"] for row in stream_rows(out)] == [
        {"bytes": None, "path": "../x.wav"},
        {"bytes": b"cd", "path": "y.wav"},
        None,
    ]


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    source = _sources(tmp_path)[0]
    before = source.read_bytes()
    for out in (source, tmp_path / "other.jsonl"):
        with pytest.raises(DataError):
            copy_rows(source, [out], part_of=np.zeros(3, dtype=np.uint8))
    assert source.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "m.csv"
    source.write_text("text\n" + "a\n" * 10)
    out = tmp_path / "out" / "m.csv"
    real = Path.open

    def full(self: Path, *args: object, **kwargs: object) -> object:
        path = Path("/dev/full") if self.name.endswith(".tmp") else self
        return real(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(CapacityError, match="disk is full"):
        copy_rows(source, [out], part_of=np.zeros(10, dtype=np.uint8))
    assert list(out.parent.iterdir()) == []


def test_a_file_cut_short_is_removed_and_what_stood_there_stays(tmp_path: Path) -> None:
    source, out = tmp_path / "m.csv", tmp_path / "out" / "m.csv"
    source.write_text("text\n" + "a\n" * 100_000)
    out.parent.mkdir()
    out.write_text("what stood there")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(CapacityError, match="cannot be written"):
            copy_rows(source, [out], part_of=np.zeros(100_000, dtype=np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in out.parent.iterdir()] == ["m.csv"]
    assert out.read_text() == "what stood there"
