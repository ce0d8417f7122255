"""A check names each thing that was put in wrong, and nothing else; `fix` leaves those rows out."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from moodal.data import manifest
from moodal.data.check import check, fix
from moodal.data.findings import CheckReport, Finding
from moodal.errors import DataError, RecordError
from moodal.types import Media, Record

LETTERS = list("abcdefghijklmnopqrstuvwxyz")


def _image(media: Media) -> NDArray[np.uint8]:
    assert isinstance(media, Path)
    try:
        with Image.open(media) as picture:
            return np.asarray(picture.convert("RGB").resize((32, 32)))
    except (OSError, UnidentifiedImageError) as error:
        raise RecordError(f"{media.name}: cannot be decoded", field="image") from error


def _audio(media: Media) -> NDArray[np.float32]:
    assert isinstance(media, Path)
    return np.asarray(soundfile.read(media, dtype="float32")[0])


def _sentences(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join("".join(word) for word in rng.choice(LETTERS, (10, 5))) for _ in range(n)]


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def _texts(path: Path, texts: list[str]) -> Path:
    return _write(path, [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(texts)])


def _kinds(report: CheckReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def _find(report: CheckReport, kind: str) -> Finding:
    (finding,) = (finding for finding in report.findings if finding.kind == kind)
    return finding


def _rows(report: CheckReport, kind: str) -> list[int]:
    return [place.row for place in _find(report, kind).rows]


def test_a_sound_manifest_has_counts_and_no_findings(tmp_path: Path) -> None:
    report = check(
        _texts(tmp_path / "m.jsonl", [*_sentences(20), "这家酒店很好，早餐也不错，下次还来"])
    )
    assert report.findings == ()
    assert (report.rows, report.usable) == (21, 21)
    assert report.labels == {"a": 11, "b": 10}
    assert report.languages == {"en": 20, "zh": 1}
    assert report.modalities == {"text": 21}
    assert report.statistics["characters"]["min"] == 17
    assert "nothing to complain of" in report.table()


def test_equal_rows_conflicts_and_ids_are_named(tmp_path: Path) -> None:
    texts = _sentences(20)
    rows: list[dict[str, object]] = [
        {"id": f"r{i}", "text": t, "label": "ab"[i % 2]} for i, t in enumerate(texts)
    ]
    rows += [
        {"id": "r0", "text": texts[0].replace(" ", "  "), "label": "a"},
        {"id": "x", "text": texts[1], "label": "a"},
    ]
    report = check(_write(tmp_path / "m.jsonl", rows))
    assert _rows(report, "duplicate") == [21, 22]
    assert _rows(report, "conflict") == [2, 22]
    assert _rows(report, "duplicate_id") == [21]
    assert _find(report, "duplicate").rows[0].note == "like row 1"
    assert _find(report, "duplicate").rows[1].id == "x"
    assert fix(tmp_path / "m.jsonl", tmp_path / "out.jsonl", report) == 1
    kept = [record.id for record in manifest.read(tmp_path / "out.jsonl")]
    assert kept == [f"r{i}" for i in range(20)] + ["x"]


def test_leaks_exact_and_near_name_the_other_file(tmp_path: Path) -> None:
    texts = _sentences(20)
    path = _texts(tmp_path / "train.jsonl", texts)
    changed = texts[7].upper() + "!"
    other = _texts(tmp_path / "dev.jsonl", [texts[3], changed, *_sentences(5, seed=1)])
    report = check(path, against=[other])
    assert _rows(report, "leak") == [4]
    assert _find(report, "leak").rows[0].note == "like dev.jsonl row 1"
    assert _find(report, "leak").severity == "error"
    assert _rows(report, "near_leak") == [8]


def test_near_duplicates_are_counted_within_the_file(tmp_path: Path) -> None:
    texts = _sentences(20)
    report = check(_texts(tmp_path / "m.jsonl", [*texts, texts[5] + " too"]))
    assert _rows(report, "near_duplicate") == [21]
    assert _kinds(report) == ["near_duplicate"]
    assert report.keep.all()


def test_media_are_decoded_and_missing_is_not_corrupt(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        noise = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((64, 64)).save(tmp_path / f"{i}.jpg")
    whole = (tmp_path / "3.jpg").read_bytes()
    (tmp_path / "3.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "4.jpg").write_text("not a picture")
    rows: list[dict[str, object]] = [{"image": f"{i}.jpg", "label": "ab"[i % 2]} for i in range(13)]
    report = check(_write(tmp_path / "m.jsonl", rows), decoders={"image": _image})
    assert _rows(report, "corrupt_media") == [4, 5]
    assert _rows(report, "missing_media") == [13]
    assert report.usable == 10
    assert [r.source for r in report.rejections] == [f"m.jsonl row {n}" for n in (4, 5, 13)]
    assert fix(tmp_path / "m.jsonl", tmp_path / "sub" / "fixed.jsonl", report) == 3
    again = check(tmp_path / "sub" / "fixed.jsonl", decoders={"image": _image})
    assert (again.rows, again.usable) == (10, 10)


def test_unreadable_rows_features_and_widths_are_named(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"audio": [float(i), 1.0, 2.0], "label": "ab"[i % 2]} for i in range(10)
    ]
    rows += [{"audio": [1.0, 2.0]}, {"audio": [1.0, float("nan"), 3.0]}, {"label": "a"}]
    report = check(_write(tmp_path / "m.jsonl", rows))
    assert _rows(report, "feature_width") == [11]
    assert _rows(report, "bad_features") == [12]
    assert _rows(report, "unreadable_row") == [13]
    assert _rows(report, "unlabelled") == [11]
    assert report.keep.tolist() == [True] * 11 + [False, False]


def test_labels_that_would_spoil_a_model_are_named(tmp_path: Path) -> None:
    texts = _sentences(60)
    one = _write(tmp_path / "one.jsonl", [{"text": t, "label": "a"} for t in texts])
    assert _kinds(check(one)) == ["one_label"]
    labels = ["a"] * 55 + ["b"] * 5
    rows: list[dict[str, object]] = [
        {"text": t, "label": x} for t, x in zip(texts, labels, strict=True)
    ]
    skewed = _write(tmp_path / "skewed.jsonl", rows)
    assert _kinds(check(skewed)) == ["imbalance"]
    other = _write(tmp_path / "dev.jsonl", [{"text": "quite different", "label": "c"}])
    assert "'c'" in _find(check(skewed, against=[other]), "unknown_label").message
    numbers: list[dict[str, object]] = [{"text": t, "label": i / 7} for i, t in enumerate(texts)]
    assert _kinds(check(_write(tmp_path / "numbers.jsonl", numbers))) == []


def test_outliers_in_length_loudness_and_brightness_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for i, text in enumerate(_sentences(30)):
        quiet, dark, long = i == 4, i == 7, i == 9
        sound = rng.normal(0, 1e-5 if quiet else 0.1, 4000)
        soundfile.write(tmp_path / f"{i}.wav", sound, 16_000, subtype="FLOAT")
        light = rng.integers(0, 3 if dark else 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(light).resize((32, 32)).save(tmp_path / f"{i}.png")
        words = " ".join([text, *_sentences(40, seed=i + 1)]) if long else text
        rows.append({"text": words, "image": f"{i}.png", "audio": f"{i}.wav", "label": "ab"[i % 2]})
    path = _write(tmp_path / "m.jsonl", rows)
    report = check(path, decoders={"image": _image, "audio": _audio})
    found = {f.field: [p.row for p in f.rows] for f in report.findings if f.kind == "outlier"}
    assert found == {"text": [10], "image": [8], "audio": [5]}
    assert _rows(report, "silent") == [5]
    # RMS of 0.1 is -20 dB of full scale.
    assert report.statistics["loudness_db"]["median"] == pytest.approx(-20, abs=0.3)
    assert report.statistics["seconds"]["median"] == pytest.approx(0.25)


def test_the_report_is_json_and_names_at_most_20_rows(tmp_path: Path) -> None:
    path = _texts(tmp_path / "m.jsonl", ["the same text each time"] * 100)
    report = check(path)
    finding = _find(report, "duplicate")
    assert (finding.count, len(finding.rows)) == (99, 20)
    assert [place.row for place in finding.rows] == list(range(2, 22))
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["findings"][0]["rows"][0].keys() == {"row", "id", "note"}
    assert "99" in report.table()


def test_the_rows_named_are_the_first(tmp_path: Path) -> None:
    texts = _sentences(60)
    report = check(_texts(tmp_path / "m.jsonl", texts + texts))
    assert _rows(report, "duplicate") == list(range(61, 81))


def test_memory_grows_by_bytes_a_row_only(tmp_path: Path) -> None:
    peaks = []
    for n in (4_500, 9_000):
        path = _texts(tmp_path / f"{n}.jsonl", _sentences(n))
        tracemalloc.start()
        check(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 4_500 < 100


def test_a_manifest_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        check(tmp_path / "none.csv")


def test_real_leaks_are_found(real_data: Path) -> None:
    folder = real_data / "mvsa-single"
    report = check(folder / "dev.csv", against=[folder / "train.csv"])
    shared = {
        record.text for record in manifest.read(folder / "train.csv") if isinstance(record, Record)
    }
    equal = sum(
        r.text in shared for r in manifest.read(folder / "dev.csv") if isinstance(r, Record)
    )
    assert _find(report, "near_leak").count >= equal > 0
