from __future__ import annotations

import hashlib
import string
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moodal import config
from moodal.data.manifest import read
from moodal.errors import DataError
from moodal.preprocess import audio, image
from moodal.types import Record
from recipes.base.outliers import _SENTENCES, KINDS, TIMES, _draw, write
from recipes.base.sounds import SAMPLE_RATE, SOUNDS

ROWS = {"train": 60, "dev": 20}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("outliers")
    write(out, rows=ROWS)  # type: ignore[arg-type]
    return out


def load(out: Path, part: str) -> list[Record]:
    records = list(read(out / "outliers" / f"{part}.jsonl"))
    return [record for record in records if isinstance(record, Record)]


def content(record: Record) -> Any:
    """A text as it is; of a file, the hash of what the engine decodes."""
    if record.image is not None:
        decoded = image.decode(record.image, config.Image(size=32))
    elif record.audio is not None:
        decoded = audio.decode(record.audio, config.Audio())
    else:
        return record.text
    assert np.isfinite(decoded).all()
    return hashlib.sha256(decoded.tobytes()).hexdigest()


def test_rows_are_of_one_modality_unlabelled_and_readable(out: Path) -> None:
    for part, n in ROWS.items():
        records = load(out, part)
        assert Counter(r.modalities for r in records) == {
            ("text",): TIMES["text"] * n,
            ("image",): n,
            ("audio",): n,
        }
        assert {(r.target, r.group) for r in records} == {(None, "outliers")}
        assert len({r.id for r in records}) == len(records)


def test_no_content_is_in_both_parts_or_twice(out: Path) -> None:
    contents = [content(record) for part in ROWS for record in load(out, part)]
    # Two black pictures may look alike once resized, and two silences differ in length alone.
    assert len(set(contents)) > 0.95 * len(contents)
    files = [
        path.read_bytes() if (path := r.image or r.audio) is not None else r.text
        for part in ROWS
        for r in load(out, part)
    ]
    assert len(set(files)) == len(files)


def test_what_was_seen_is_not_drawn_again() -> None:
    """Of a language dev has 16 texts; 12 draws that did not look would repeat one."""
    seen: set[bytes] = set()
    rng = np.random.default_rng(0)
    drawn = [row for part in ROWS for row in _draw(KINDS[part]["text"], 240, seen, rng)]
    assert len({text for _, _, text in drawn}) == len(drawn) == 480


def test_every_kind_occurs(out: Path) -> None:
    for part in ROWS:
        found = {record.id.split("/")[2].rsplit("-", 1)[0] for record in load(out, part)}
        assert found == {kind for kinds in KINDS[part].values() for kind in kinds}


def test_signs_are_every_mark_of_the_keyboard_with_and_without_gaps() -> None:
    rng = np.random.default_rng(0)
    kinds = KINDS["train"]["text"]
    rows = {
        kind: [kinds[kind](rng) for _ in range(200)]
        for kind in ("mark", "marks", "marks-and-gaps", "stops")
    }
    for drawn in rows.values():
        assert not any(letter.isalnum() for row in drawn for letter in row)
        assert all(row == row.strip() and 0 < len(row) < 25 for row in drawn)
    assert all(len(set(row)) == 1 for row in rows["mark"])
    assert set(string.punctuation) < set("".join(rows["marks-and-gaps"]))
    assert not any(" " in row for row in rows["mark"] + rows["marks"])
    assert 100 < sum(" " in row for row in rows["marks-and-gaps"]) < 190


def test_sentences_of_dev_are_not_those_of_train(out: Path) -> None:
    parts = {part: " ".join(str(r.text) for r in load(out, part) if r.text) for part in ROWS}
    for language, text in _SENTENCES.items():
        sentences = [" ".join(sentence.split()) for sentence in text.split("|")]
        assert len(set(sentences)) == 16, language
        found = {part: {s for s in sentences if s in whole} for part, whole in parts.items()}
        assert found["dev"]
        assert not found["dev"] & found["train"]
        assert found["dev"] <= set(sentences[3::4])


def test_the_same_seed_makes_the_same_and_another_does_not(out: Path, tmp_path: Path) -> None:
    few = {"train": 21, "dev": 9}
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    for folder, seed in ((one, 0), (same, 0), (other, 1)):
        write(folder, seed=seed, rows=few)  # type: ignore[arg-type]
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.suffix in (".png", ".flac"))
    assert len(files) == 60
    assert all((one / f).read_bytes() == (same / f).read_bytes() for f in files)
    texts = [[r.text for r in load(folder, "train") if r.text] for folder in (one, same, other)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


@pytest.mark.parametrize("kind", SOUNDS)
def test_sounds_are_one_to_four_seconds_and_do_not_clip(kind: str) -> None:
    for seed in range(8):
        wave = SOUNDS[kind](np.random.default_rng(seed))
        assert SAMPLE_RATE - 1 <= len(wave) <= 4 * SAMPLE_RATE
        assert np.abs(wave).max() < 0.9
        assert (np.abs(wave).max() < 1e-4) == (kind == "silence")


def test_black_is_dark_and_white_is_light() -> None:
    pictures = KINDS["train"]["image"]
    for seed in range(8):
        for kind, near in (("black", 0), ("white", 255)):
            picture = pictures[kind](np.random.default_rng(seed))
            assert picture.dtype == np.uint8
            assert abs(float(picture.mean()) - near) < 10
        flat = pictures["flat"](np.random.default_rng(seed))
        assert (flat == flat[0, 0]).all()


def test_more_than_there_is_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no more different outliers of kind"):
        write(tmp_path, rows={"train": 20, "dev": 20 * 17})
