"""What people hand in by mistake: named by file, row and field, counted, and never fatal for a row.

Rows first (rejected wherever they are read), then files that are wrong as a whole, then disks.
Models that are not whole are in test_bundle.py and test_api.py.
"""

from __future__ import annotations

import csv
import io
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from tiny import COLUMNS, SETTINGS, train_once

from moodal import api
from moodal.errors import CapacityError, DataError

QUICK = (*SETTINGS, "train.epochs=1")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "cache")


# ---- rows --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """A row's cells, the files they need, and what must be said of it."""

    cells: dict[str, str]
    field: str
    said: tuple[str, ...]
    content: Callable[[], bytes] | None = None


def jpeg() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


def bomb() -> bytes:
    """121 million pixels in some kilobytes."""
    file = io.BytesIO()
    Image.new("1", (11_000, 11_000)).save(file, "PNG")
    return file.getvalue()


def sound(seconds: int, *, rate: int = 1000, kind: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(seconds * rate, np.int16), rate, format=kind)
    return file.getvalue()


BAD = {
    "missing": Bad(
        {"text": "fine", "image": "nowhere.png"},
        "image",
        ("nowhere.png: No such file", "correct the path"),
    ),
    "truncated": Bad(
        {"image": "cut.jpg"}, "image", ("cut.jpg", "cut short", "replace it"), lambda: jpeg()[:900]
    ),
    "bomb": Bad(
        {"image": "bomb.png"},
        "image",
        ("bomb.png: 11000 x 11000 pixels, at most 100,000,000", "make it smaller"),
        bomb,
    ),
    "words": Bad(
        {"text": "fine", "image": "notes.jpg"},
        "image",
        ("notes.jpg: is a text file, not a picture", "JPEG, PNG, WebP"),
        "今天天气很好。\n".encode,
    ),
    "empty": Bad(
        {"image": "empty.jpg"}, "image", ("empty.jpg: is empty (0 bytes)", "replace it"), bytes
    ),
    "silent": Bad(
        {"audio": "silent.wav"},
        "audio",
        ("silent.wav", "no sound", "replace it"),
        lambda: sound(0, kind="WAV"),
    ),
    "long": Bad(
        {"text": "fine", "audio": "long.flac"},
        "audio",
        ("long.flac: lasts 10,800 s, at most 3,600 s", "cut it, or raise audio.limit_seconds"),
        lambda: sound(3 * 3600),
    ),
    "nothing": Bad({}, "", ("holds no text, image or audio", "fill at least one")),
    "spaces": Bad({"text": "  \t "}, "", ("holds no text, image or audio",)),
    "kind": Bad({"text": "fine", "audio": "[0.5, 0.25]"}, "audio", ("reads frames", "trained on")),
}
GOOD = {"id": "good", "text": "这部电影很精彩"}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """in/rows.csv: every bad row behind a good one, in the order of BAD."""
    folder = tmp_path / "in"
    folder.mkdir()
    rows = []
    for name, bad in BAD.items():
        rows += [{**GOOD, "label": "good"}, {"id": name, **bad.cells, "label": "bad"}]
        if bad.content is not None:
            file = bad.cells.get("image") or bad.cells["audio"]
            (folder / file).write_bytes(bad.content())
    return written(folder / "rows.csv", rows)


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def assert_named(rejection: dict[str, str], name: str, row: int) -> None:
    bad = BAD[name]
    assert rejection["id"] == name
    assert rejection["source"] == f"rows.csv row {row}"
    assert rejection["field"] == bad.field, rejection
    for part in bad.said:
        assert part in rejection["reason"], rejection


def test_predict_answers_a_bad_row_in_its_place(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    counts = api.predict_file(mixed, model=train_once(), out=out)
    assert counts == {"predicted": len(BAD), "rejected": len(BAD)}
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    first = lines[0]
    for place, name in enumerate(BAD):
        good, bad = lines[2 * place : 2 * place + 2]
        assert good["label"] == first["label"]
        assert good["probabilities"] == pytest.approx(first["probabilities"], abs=1e-5)
        assert_named({"id": bad["id"], **bad["error"]}, name, 2 * place + 2)


def test_evaluate_counts_and_names_the_bad_rows(mixed: Path) -> None:
    report = api.evaluate(mixed, model=train_once())
    assert report.scores["n"] == len(BAD)
    assert report.n_rejected == len(BAD)
    rejected = {rejection.id: rejection for rejection in report.rejected}
    for place, name in enumerate(BAD):
        assert_named(rejected[name].to_dict(), name, 2 * place + 2)


def test_check_finds_them_before_a_model_does(mixed: Path) -> None:
    found = json.dumps(api.check(mixed).to_dict(), ensure_ascii=False)
    for name in set(BAD) - {"kind"}:  # what a model reads is not known yet
        assert BAD[name].said[0] in found, name


def test_training_counts_them_and_goes_on(mixed: Path, tmp_path: Path) -> None:
    data = train_once().parent / "data"
    for path in data.iterdir():
        if path.suffix != ".csv":
            shutil.copy(path, mixed.parent)
    rows = [dict(row) for name in ("train", "dev") for row in read(data / f"{name}.csv")]
    train = written(mixed.parent / "train.csv", [*rows, *read(mixed)])
    superb = [{**GOOD, "id": "unseen", "label": "superb"}] * 3
    valid = written(mixed.parent / "valid.csv", [*rows[:12], *superb, {**GOOD, "label": ""}])
    model = api.train(train, valid=valid, out=tmp_path / "model", settings=QUICK)
    counts = model.info.data
    assert counts["train"]["rejected"] == len(BAD)
    assert counts["train"]["rows"] == len(rows) + len(BAD)
    assert (counts["valid"]["rejected"], counts["valid"]["rows"]) == (3, 12)
    assert counts["valid"]["unlabelled"] == 1
    assert names(tmp_path) == ["in", "model"]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_label_that_training_did_not_see_names_those_it_saw(tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.csv", [{**GOOD, "label": "good"}, {**GOOD, "label": "superb"}])
    (rejection,) = api.evaluate(rows, model=train_once()).rejected
    assert (rejection.source, rejection.field) == ("rows.csv row 2", "label")
    assert "'superb' is none of the training labels (bad, fair, good)" in rejection.reason
    assert "correct the cell, or add rows with it to the training file" in rejection.reason


def test_a_row_that_is_not_utf8_is_rejected_alone(tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.csv", [{**GOOD, "label": "good"}] * 400)
    with rows.open("ab") as file:
        file.write(b"caf\xe9,caf\xe9,,,good,,\n")
    out = tmp_path / "out.jsonl"
    assert api.predict_file(rows, model=train_once(), out=out) == {"predicted": 400, "rejected": 1}
    error = json.loads(out.read_text(encoding="utf-8").splitlines()[-1])["error"]
    assert error["source"] == "rows.csv row 401"
    assert "not UTF-8; save the file as UTF-8" in error["reason"]


# ---- features ----------------------------------------------------------------------------------


def features(path: Path, *vectors: list[Any]) -> Path:
    rows = [{"text": v, "label": "ab"[i % 2]} for i, v in enumerate(vectors)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_bad_features_are_rejected_wherever_they_are_read(tmp_path: Path) -> None:
    """NaN, and a width that is not the first row's."""
    good = [[1.0, 0.5], [0.0, 2.0]] * 4
    nan, wide = [1.0, float("nan")], [1.0, 2.0, 3.0]
    rows = features(tmp_path / "rows.jsonl", *good, nan, wide)
    model = api.train(rows, valid=rows, out=tmp_path / "model", settings=QUICK)
    assert model.info.data["train"]["rejected"] == 2
    assert model.info.widths == {"text": 2}
    first, second = api.evaluate(rows, model=model).rejected
    assert (first.source, first.field) == ("rows.jsonl row 9", "text")
    assert "holds nan at position [1]; features must be finite" in first.reason
    assert (second.source, second.field) == ("rows.jsonl row 10", "text")
    assert "has 3 values, the training data has 2" in second.reason
    found = json.dumps(api.check(rows).to_dict())
    assert "holds nan at position [1]" in found


# ---- files -------------------------------------------------------------------------------------

HEADER = "id,text,label\n"
GBK = ("id,text,label\n" + "1,这部电影很精彩，演员也好,good\n" * 9).encode("gb18030")
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"rows\.csv: is empty; it needs a header and at least one row"),
    "blank": (b"\xef\xbb\xbf\n\n", r"rows\.csv: is empty; it needs a header"),
    "header only": (HEADER.encode(), r"rows\.csv: has a header and no rows; add at least one"),
    "GBK": (GBK, r"rows\.csv: .*UTF-8"),
    "UTF-16": ((HEADER + "1,好,good\n").encode("utf-16"), r"rows\.csv: .*UTF-8"),
    "other columns": (b"nr,review\n1,good\n", r"rows\.csv: has no column text, image or audio"),
    "semicolons": (b"id;text;label\n1;good;x\n", r"parted by something else than a comma"),
    "two alike": (b"text,text\na,b\n", r"rows\.csv: two columns are named 'text'; rename one"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0", r"rows\.csv: "),
}


def verbs(path: Path, folder: Path) -> dict[str, Callable[[], object]]:
    """All that reads a manifest, and where it would write."""
    good = written(folder / "good.csv", [{**GOOD, "label": x} for x in ("good", "bad") * 3])
    out = folder / "out"
    return {
        "predict": lambda: api.predict_file(path, model=train_once(), out=out),
        "evaluate": lambda: api.evaluate(path, model=train_once(), out=out),
        "check": lambda: api.check(path, fix=folder / "fixed.csv"),
        "train": lambda: api.train(path, valid=good, out=out, settings=QUICK),
        "valid": lambda: api.train(good, valid=path, out=out, settings=QUICK),
    }


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_wrong_as_a_whole_is_refused_by_every_verb(
    kind: str, tmp_path: Path
) -> None:
    content, said = FILES[kind]
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    for verb, act in verbs(path, tmp_path).items():
        with pytest.raises(DataError, match=said) as caught:
            act()
        assert "Traceback" not in str(caught.value), verb
        assert names(tmp_path) == ["good.csv", "rows.csv"], f"{verb} left something behind"


def test_a_file_that_is_not_there_is_named_by_every_verb(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.csv"
    for act in verbs(path, tmp_path).values():
        with pytest.raises(DataError, match=r"nowhere\.csv: there is no such file; check the path"):
            act()
        assert names(tmp_path) == ["good.csv"]


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.csv", [{**GOOD, "label": x} for x in ("good", "bad")])
    asked = (*QUICK, "columns.label=mood")
    said = r"rows\.csv: has no column 'mood'; its columns are id, text, image, audio, label"
    with pytest.raises(DataError, match=said):
        api.train(rows, valid=rows, out=tmp_path / "out", settings=asked)
    with pytest.raises(DataError, match=said):
        api.evaluate(rows, model=train_once(), renames={"label": "mood"})
    assert names(tmp_path) == ["rows.csv"]


def test_one_class_alone_cannot_be_learned(tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.csv", [{**GOOD, "label": "good"}] * 8)
    with pytest.raises(DataError) as caught:
        api.train(rows, valid=rows, out=tmp_path / "out", settings=QUICK)
    said = str(caught.value)
    assert "label: " in said
    assert "at least two different labels" in said
    assert "only 'good'" in said
    assert "--label" in said
    assert names(tmp_path) == ["rows.csv"]


def test_without_labels_there_is_no_training_but_prediction(tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.csv", [GOOD] * 4)
    bare = tmp_path / "bare.csv"
    bare.write_text("text\n好\n", encoding="utf-8")
    for path, n in ((rows, 4), (bare, 1)):
        with pytest.raises(DataError, match="label"):
            api.train(path, valid=path, out=tmp_path / "out", settings=QUICK)
        with pytest.raises(DataError, match=rf"{path.name}: .*{n} without a label"):
            api.evaluate(path, model=train_once(), out=tmp_path / "out")
        assert names(tmp_path) == ["bare.csv", "rows.csv"]
    out = tmp_path / "out.jsonl"
    assert api.predict_file(rows, model=train_once(), out=out) == {"predicted": 4, "rejected": 0}
    assert api.predict_file(bare, model=train_once(), out=out) == {"predicted": 1, "rejected": 0}


def test_a_validation_file_without_a_known_label_says_why(tmp_path: Path) -> None:
    train = written(tmp_path / "train.csv", [{**GOOD, "label": x} for x in ("good", "bad") * 3])
    valid = written(tmp_path / "valid.csv", [{**GOOD, "label": "superb"}] * 2)
    with pytest.raises(DataError) as caught:
        api.train(train, valid=valid, out=tmp_path / "out", settings=QUICK)
    said = str(caught.value)
    assert said.startswith("valid.csv: no row can be used (2 rejected, 0 without a label)")
    assert "label: the label 'superb' is none of the training labels (bad, good)" in said
    assert names(tmp_path) == ["train.csv", "valid.csv"]


# ---- disks -------------------------------------------------------------------------------------


@contextmanager
def at_most(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond this: what a full disk does, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("verb", ["predict", "evaluate", "train"])
def test_a_full_disk_leaves_nothing_half_written(verb: str, tmp_path: Path) -> None:
    rows = written(tmp_path / "rows.csv", [{**GOOD, "label": x} for x in ("good", "bad") * 20])
    act = verbs(rows, tmp_path)[verb]
    train_once()
    with at_most(300), pytest.raises(CapacityError) as caught:
        act()
    said = str(caught.value)
    assert f"{tmp_path / 'out'}" in said
    assert "cannot be written (File too large), nothing was left half-written" in said
    assert "free some space or name another place" in said
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "cache" not in path.parts]
    assert sorted(path.name for path in files) == ["good.csv", "rows.csv"]


def test_a_full_disk_spares_the_model_that_stood_there(tmp_path: Path) -> None:
    rows = features(tmp_path / "rows.jsonl", *[[1.0, 0.5], [0.0, 2.0]] * 4)
    model = api.train(rows, valid=rows, out=tmp_path / "model", settings=QUICK)
    with at_most(2000), pytest.raises(CapacityError):
        api.train(rows, valid=rows, out=tmp_path / "model", settings=QUICK)
    assert api.load(tmp_path / "model").info == model.info
    assert names(tmp_path) == ["model", "rows.jsonl"]


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    data = train_once().parent / "data"
    cache = tmp_path / "decoded"
    settings = (*QUICK, f"cache={cache}")
    args = {"valid": data / "dev.csv", "out": tmp_path / "model", "settings": settings}
    with at_most(4000), pytest.raises(CapacityError, match="decoded"):
        api.train(data / "train.csv", **args)
    assert "model" not in names(tmp_path)
