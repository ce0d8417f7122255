"""Every format gives the same records; a bad row is a rejection; a bad file is a clear error."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from moodal.config import Columns
from moodal.data import manifest, rows
from moodal.errors import DataError
from moodal.types import Record, Rejection

ROWS = [
    {"id": "a", "text": '很好, "really"\nnew line', "image": "p/a.jpg", "label": "positive"},
    {"id": "b", "text": "", "image": "/abs/b.png", "label": ""},
    {"id": "c", "text": "12", "image": "", "label": "3"},
]


def _csv(path: Path, table: list[dict[str, str]], delimiter: str = ",") -> None:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(table)


def _jsonl(path: Path, table: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in table]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _parquet(path: Path, select: str) -> Path:
    duckdb.connect().execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return path


def _write_all(folder: Path) -> list[Path]:
    names = [folder / f"m.{suffix}" for suffix in ("csv", "tsv", "jsonl", "ndjson", "parquet")]
    _csv(names[0], ROWS)
    _csv(names[1], ROWS, "\t")
    _jsonl(names[2], ROWS)
    _jsonl(names[3], ROWS)
    _parquet(names[4], f"SELECT * FROM read_json('{names[2]}', convert_strings_to_integers=false)")
    return names


def _all(path: Path, columns: Columns = manifest.DEFAULT_COLUMNS) -> list[Record | Rejection]:
    return list(manifest.read(path, columns))


def _only(path: Path, columns: Columns = manifest.DEFAULT_COLUMNS) -> Record | Rejection:
    (found,) = _all(path, columns)
    return found


def test_every_format_gives_the_same_records(tmp_path: Path) -> None:
    for path in _write_all(tmp_path):
        first, second, third = _all(path)
        assert isinstance(first, Record)
        assert (first.id, first.text, first.target) == ("a", ROWS[0]["text"], "positive")
        assert first.image == tmp_path / "p/a.jpg"
        assert first.source == f"{path.name} row 1"
        assert isinstance(second, Record)
        assert (second.text, second.image, second.target) == (None, Path("/abs/b.png"), None)
        assert second.modalities == ("image",)
        assert isinstance(third, Record)
        assert (third.text, third.image, third.target) == ("12", None, "3")
        assert manifest.columns_of(path) == ("id", "text", "image", "label")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_standard_input_is_the_same_stream(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_all(tmp_path)
    data = (tmp_path / f"m.{suffix}").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
    found = _all(rows.STDIN)
    assert [record.id for record in found] == ["a", "b", "c"]
    assert found[0].source == "standard input row 1"
    assert isinstance(found[0], Record)
    assert found[0].image == Path("p/a.jpg")


def test_parquet_on_standard_input_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _parquet(tmp_path / "m.parquet", "SELECT 'a' AS text").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
    with pytest.raises(DataError, match="Parquet"):
        _all(rows.STDIN)


def test_renamed_columns_are_read_and_the_split_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("review,stars,part\ngood,5,train\nbad,1,dev\n", encoding="utf-8")
    columns = Columns(text="review", label="stars", split="part")
    (found,) = manifest.read(path, columns, split="dev")
    assert isinstance(found, Record)
    assert (found.id, found.text, found.target) == ("2", "bad", "1")


def test_a_byte_order_mark_is_welcome(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xef\xbb\xbftext\n\xe5\xa5\xbd\n")
    found = _only(path)
    assert isinstance(found, Record)
    assert found.text == "好"


def test_features_are_float32_vectors_or_sequences_in_every_format(tmp_path: Path) -> None:
    _jsonl(tmp_path / "m.jsonl", [{"audio": [1, 2.5], "image": [[1, 2], [3, 4], [5, 6]]}])
    (tmp_path / "m.csv").write_text('audio,image\n"[1, 2.5]","[[1,2],[3,4],[5,6]]"\n')
    _parquet(
        tmp_path / "m.parquet", "SELECT [1, 2.5]::DOUBLE[] AS audio, [[1,2],[3,4],[5,6]] AS image"
    )
    for path in sorted(tmp_path.iterdir()):
        found = _only(path)
        assert isinstance(found, Record)
        assert isinstance(found.audio, np.ndarray)
        assert isinstance(found.image, np.ndarray)
        assert found.audio.dtype == np.float32
        assert found.audio.tolist() == [1.0, 2.5]
        assert found.image.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_parquet_bytes_and_the_datasets_struct_become_media(tmp_path: Path) -> None:
    path = _parquet(
        tmp_path / "m.parquet",
        "SELECT 'ab'::BLOB AS image, {'bytes': NULL::BLOB, 'path': 'x.wav'} AS audio UNION ALL "
        "SELECT NULL, {'bytes': 'cd'::BLOB, 'path': 'y.wav'}",
    )
    first, second = _all(path)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.image, first.audio) == (b"ab", tmp_path / "x.wav")
    assert (second.image, second.audio) == (None, b"cd")


@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        ({"text": "a", "label": ["x"]}, "label", "list"),
        ({"text": "a", "audio": [1, float("nan")]}, "audio", "finite"),
        ({"text": "a", "audio": [1e300]}, "audio", "finite"),
        ({"text": "a", "image": [[1, 2], [3]]}, "image", "different lengths"),
        ({"text": "a", "image": ["1", "2"]}, "image", "list of numbers"),
        ({"text": "a", "image": []}, "image", "list of numbers"),
        ({"text": "a", "audio": [1, None]}, "audio", "list of numbers"),
        ({"text": "a", "image": "x\0.png"}, "image", "NUL"),
        ({"text": ["not", "numbers"]}, "text", "list of numbers"),
        ({"text": "\ud83d"}, "text", "Unicode"),
        ({"text": " ", "label": "x"}, "", "no text, image or audio"),
    ],
)
def test_a_bad_cell_rejects_its_row_and_no_other(
    row: dict[str, Any], field: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in ({"text": "ok"}, row, {"text": "ok"})))
    before, found, after = _all(path)
    assert isinstance(found, Rejection)
    assert (found.id, found.source, found.field) == ("2", "m.jsonl row 2", field)
    assert said in found.reason
    assert isinstance(before, Record)
    assert isinstance(after, Record)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b"a,b,c", "3 cells where the header has 2"),
        (b"\xff\xfe,x", "not UTF-8"),
        (b'"a"b,x', "double quote"),
        (b"%s,x" % (b"a" * 10_000_001), "longer than 10,000,000"),
        (b"%s,x" % (b"a" * 20_000_001), "longer than 10,000,000"),
    ],
    ids=["cells", "utf-8", "quote", "long", "very long"],
)
def test_an_unreadable_csv_row_is_rejected_alone(row: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"text,label\ngood,x\n" + row + b"\nbad,y\n")
    before, found, after = _all(path)
    assert isinstance(before, Record)
    assert isinstance(found, Rejection)
    assert found.source == "m.csv row 2"
    assert said in found.reason
    assert isinstance(after, Record)
    assert (after.text, after.source) == ("bad", "m.csv row 3")


@pytest.mark.parametrize(
    ("line", "said"),
    [(b"{", "JSON"), (b"[1]", "list"), (b"[" * 100_000, "JSON"), (b'{"text": "\xff"}', "UTF-8")],
)
def test_an_unreadable_json_line_is_rejected_alone(line: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"text": "a"}\n' + line + b'\n\n{"text": "b"}\n')
    before, found, after = _all(path)
    assert isinstance(before, Record)
    assert isinstance(found, Rejection)
    assert said in found.reason
    assert after.source == "m.jsonl row 3"


def test_a_quote_never_closed_is_one_rejection_that_says_how_much_it_swallowed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.csv"
    path.write_text('text\na\n"b\nc\nd\n')
    _, found = _all(path)
    assert isinstance(found, Rejection)
    assert "3 lines" in found.reason


def _missing(folder: Path) -> Path:
    return folder / "none.csv"


def _file(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_missing, "no such file"),
        (lambda folder: folder, "cannot tell the format"),
        (_file("m.csv", b""), "empty"),
        (_file("m.csv", b"\xef\xbb\xbf\n"), "empty"),
        (_file("m.parquet", b""), "empty"),
        (_file("m.parquet", b"not parquet"), "cannot be read or copied as Parquet"),
        (_file("m.csv", b"text,label\n"), "no rows"),
        (_file("m.csv", b"text,text\na,b\n"), "two columns"),
        (_file("m.csv", b"review,label\na,b\n"), "its columns are review, label"),
        (_file("m.jsonl", b'{"review": "a"}\n'), "its columns are review"),
        (_file("m.csv", b"text;label\na;b\n"), "parted by something else"),
        (_file("m.xlsx", b"PK"), "must end in one of"),
        (_file("m.csv", "text\n好的服务\n".encode("utf-16")), "UTF-16"),
        (_file("m.csv", "text\nplain\n".encode("utf-16-le")), "UTF-16LE"),
        (_file("m.csv", "text,备注\n这家酒店的服务很好\n".encode("gbk")), "GB18030"),
        (_file("m.csv", "text\n这家酒店的服务很好\n".encode("gbk")), "GB18030"),
        (_file("m.csv", "text\nun café crème\n".encode("cp1252")), "WINDOWS-1252"),
    ],
)
def test_a_bad_file_is_one_clear_error(
    make: Callable[[Path], Path], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        _all(make(tmp_path))


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_a_column_that_was_asked_for_and_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    _write_all(tmp_path)
    with pytest.raises(DataError, match="no column 'stars'; its columns are id, text, image"):
        _all(tmp_path / name, Columns(label="stars"))


def test_the_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"abc")
    # Source: FIPS 180-2, appendix B.1.
    assert manifest.fingerprint(path) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_labels_keep_their_text(tmp_path: Path) -> None:
    _jsonl(tmp_path / "m.jsonl", [{"text": "a", "label": x} for x in (1, 0.0, True, None)])
    found = _all(tmp_path / "m.jsonl")
    assert [r.target for r in found if isinstance(r, Record)] == ["1", "0.0", "true", None]
    path = _parquet(tmp_path / "m.parquet", "SELECT 'a' AS text, 'nan'::DOUBLE AS label")
    nan = _only(path)
    assert isinstance(nan, Record)
    assert nan.target is None


def test_probabilities_are_a_mapping_or_one_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "a", "probabilities": {"good": 0.75, "bad": 0.25}}\n'
        '{"text": "b", "probabilities": "{\\"good\\": 1}"}\n'
        '{"text": "c", "probabilities": ""}\n'
        '{"text": "d", "probabilities": [0.5, 0.5]}\n'
        '{"text": "e", "probabilities": "{good"}\n',
        encoding="utf-8",
    )
    found = list(manifest.read(path))
    known = [r.probabilities for r in found if isinstance(r, Record)]
    assert known == [{"good": 0.75, "bad": 0.25}, {"good": 1.0}, None]
    assert [(r.field, r.source) for r in found if isinstance(r, Rejection)] == [
        ("probabilities", "a.jsonl row 4"),
        ("probabilities", "a.jsonl row 5"),
    ]
