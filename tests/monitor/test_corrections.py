"""What people said comes back as rows that can be learned from, with what was asked beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moodal.data import manifest
from moodal.errors import ConfigError, DataError
from moodal.monitor import corrections
from moodal.store.inputs import Inputs
from moodal.store.journal import Journal
from moodal.types import Record, Rejection
from tests.monitor.conftest import Asked

PNG, WAV = b"\x89PNG\r\n\x1a\n and so on", b"RIFF....WAVE and so on"
TEXT = 'he said "fine",\nthen left；真的'


def read(path: Path) -> list[Record]:
    found = list(manifest.read(path))
    assert all(isinstance(record, Record) for record in found)
    return [record for record in found if isinstance(record, Record)]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_correction_comes_back_as_a_row_of_any_kind_of_manifest(
    suffix: str, tmp_path: Path, book: Journal, inputs: Inputs, asked: Asked
) -> None:
    whole = inputs.keep(Record("1", text=TEXT, image=PNG, audio=WAV))
    asked.judge(one := asked.answer(whole), "good", comment='it was "good"')
    asked.judge(two := asked.answer(inputs.keep(Record("2", text="so so"))), "bad", by="user")
    out = tmp_path / "new" / f"rows.{suffix}"
    done = corrections.export(book, out, inputs=inputs)
    assert (done.written, done.corrected, done.left_out.n) == (2, 1, 0)
    first, second = read(out)
    assert (first.id, second.id) == (one, two)
    assert (first.text, first.target, first.lang) == (TEXT, "good", "en")
    assert isinstance(first.image, Path)
    assert isinstance(first.audio, Path)
    assert first.image.read_bytes() == PNG
    assert first.audio.read_bytes() == WAV
    assert first.image.suffix == ".png"
    assert (second.text, second.target, second.modalities) == ("so so", "bad", ("text",))
    assert set(manifest.columns_of(out)) == set(corrections.KINDS)


def test_a_row_says_what_the_model_had_said(
    tmp_path: Path, book: Journal, inputs: Inputs, asked: Asked
) -> None:
    kept = inputs.keep(Record("1", text="so so"))
    asked.judge(asked.answer(kept), "good", comment="no, it was good")
    asked.judge(asked.answer(kept, label=None, value=0.5), "1.5", by="user")
    asked.judge(asked.answer(kept, label=None, said="a word"), "another word")
    corrections.export(book, tmp_path / "new.csv", inputs=inputs)
    with (tmp_path / "new.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction"] for row in rows] == ["bad", "0.5", "a word"]
    assert [row["reviewed"] for row in rows] == ["true", "false", "true"]
    assert [row["comment"] for row in rows] == ["no, it was good", "", ""]
    assert {row["model"] for row in rows} == {"0123456789ab"}
    assert {row["confidence"] for row in rows} == {"0.75"}


def test_the_judgement_that_counts_is_exported_and_only_that(
    tmp_path: Path, book: Journal, inputs: Inputs, asked: Asked
) -> None:
    one, two = (asked.answer(inputs.keep(Record("1", text=text))) for text in ("so so", "well"))
    asked.judge(one, "good")
    asked.judge(one, "bad", by="user")
    asked.judge(two, "bad", by="user")
    corrections.export(book, tmp_path / "all.jsonl", inputs=inputs)
    corrections.export(book, tmp_path / "reviewed.jsonl", inputs=inputs, reviewed=True)
    assert [(r.text, r.target) for r in read(tmp_path / "all.jsonl")] == [
        ("so so", "good"),
        ("well", "bad"),
    ]
    assert [r.id for r in read(tmp_path / "reviewed.jsonl")] == [one]


def test_what_was_not_kept_is_counted_and_named(
    tmp_path: Path, book: Journal, inputs: Inputs, asked: Asked
) -> None:
    text = inputs.keep(Record("1", text="so so"))
    gone = inputs.keep(Record("1", text="long ago"))
    torn = inputs.keep(Record("1", text="half of it"))
    heard = inputs.keep(Record("1", audio=WAV))
    ids = [
        asked.answer({}, modalities="text"),
        asked.answer(text, modalities="text+image"),
        asked.answer(gone),
        asked.answer(torn),
        asked.answer({}, modalities=""),
        asked.answer(text),
        asked.answer(heard, modalities="text+audio"),
    ]
    for id in ids:
        asked.judge(id, "good")
    lost, half = inputs.path(gone["text"]), inputs.path(torn["text"])
    assert lost is not None
    assert half is not None
    lost.unlink()
    half.write_text("half", encoding="utf-8")
    done = corrections.export(book, tmp_path / "new.jsonl", inputs=inputs)
    assert (done.written, done.left_out.n) == (2, 5)
    assert [r.id for r in done.left_out.first] == ids[:5]
    reasons = [r.reason for r in done.left_out.first]
    for reason, expected in zip(
        reasons,
        [
            "its text was not kept",
            "its image was",
            "its text is not in",
            "its text is not in",
            "nothing was",
        ],
        strict=True,
    ):
        assert reason.startswith(expected)
    assert "5 left out; the first: prediction " in done.sentence()
    rows = read(tmp_path / "new.jsonl")
    assert [r.id for r in rows] == ids[5:]
    assert rows[1].modalities == ("audio",), "its words were heard, not sent"
    json.dumps(done.to_dict())


def test_without_the_folder_of_inputs_every_row_says_what_to_do(
    tmp_path: Path, book: Journal, inputs: Inputs, asked: Asked
) -> None:
    asked.judge(asked.answer(inputs.keep(Record("1", text="so so"))), "good")
    done = corrections.export(book, tmp_path / "new.csv", inputs=None)
    assert (done.written, done.left_out.n) == (0, 1)
    assert "--inputs DIR" in done.left_out.first[0].reason
    assert corrections.kept_in(None) is None
    with pytest.raises(ConfigError, match="no such folder"):
        corrections.kept_in(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_nothing_to_export_is_a_manifest_without_rows(
    suffix: str, tmp_path: Path, book: Journal, inputs: Inputs
) -> None:
    out = tmp_path / f"new.{suffix}"
    assert corrections.export(book, out, inputs=inputs).written == 0
    assert set(manifest.columns_of(out)) == set(corrections.KINDS)


def test_a_file_of_another_kind_is_refused_and_a_failed_export_leaves_nothing(
    tmp_path: Path, book: Journal, inputs: Inputs, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("new.xlsx", "-"):
        with pytest.raises(DataError):
            corrections.export(book, Path(name), inputs=inputs)
    asked.judge(asked.answer(inputs.keep(Record("1", text="so so"))), "good")
    out = tmp_path / "out" / "new.csv"

    def fails(*_: Any, **__: Any) -> Iterator[Rejection]:
        yield Rejection("1", "prediction 1", "", "no")
        raise DataError("the journal is away")

    monkeypatch.setattr(corrections, "rows", fails)
    with pytest.raises(DataError, match="away"):
        corrections.export(book, out, inputs=inputs)
    assert list(out.parent.iterdir()) == []
