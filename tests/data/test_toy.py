"""The toy set is whole, balanced, the same for the same seed, and each modality tells something."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from moodal.data import manifest
from moodal.data import toy as toy_module
from moodal.data.check import check
from moodal.data.toy import LABELS, toy
from moodal.errors import DataError
from moodal.types import Record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("toy")
    toy(made, rows=120)
    return made


def _records(folder: Path) -> dict[str, list[Record]]:
    return {
        part: [r for r in manifest.read(folder / f"{part}.csv") if isinstance(r, Record)]
        for part in ("train", "dev", "test")
    }


def _all(folder: Path) -> list[Record]:
    return [record for records in _records(folder).values() for record in records]


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_parts_are_80_10_10_and_share_no_speaker(folder: Path) -> None:
    parts = _records(folder)
    assert [len(records) for records in parts.values()] == [96, 12, 12]
    groups = [{record.group for record in records} for records in parts.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))
    records = _all(folder)
    assert Counter(r.target for r in records) == dict.fromkeys(LABELS, 40)
    assert Counter(r.lang for r in records) == {"en": 60, "zh": 60}


def test_some_rows_lack_a_modality_and_all_media_stand(folder: Path) -> None:
    records = _all(folder)
    assert len({record.modalities for record in records}) >= 4
    for record in records:
        if isinstance(record.image, Path):
            with Image.open(record.image) as picture:
                assert picture.size == (96, 96)
        if isinstance(record.audio, Path):
            info = soundfile.info(record.audio)
            assert (info.samplerate, info.channels) == (16_000, 1)
            assert 0.99 <= info.duration <= 1.6


def test_no_row_lacks_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_module, "ABSENT", 1.0)
    toy(tmp_path, rows=30)
    assert {len(record.modalities) for record in _all(tmp_path)} == {1}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        toy(tmp_path / name, rows=30, seed=seed)
    assert _hashes(tmp_path / "one") == _hashes(tmp_path / "two")
    assert _hashes(tmp_path / "one") != _hashes(tmp_path / "three")


def test_each_modality_tells_glad_from_sad(folder: Path) -> None:
    records = _all(folder)
    light: dict[str, list[float]] = {label: [] for label in LABELS}
    loud: dict[str, list[float]] = {label: [] for label in LABELS}
    for record in records:
        assert record.target is not None
        if isinstance(record.image, Path):
            with Image.open(record.image) as picture:
                light[record.target].append(float(np.asarray(picture).mean()))
        if isinstance(record.audio, Path):
            power = np.square(soundfile.read(record.audio)[0]).mean()
            loud[record.target].append(float(10 * np.log10(power)))
    assert np.mean(light["positive"]) > np.mean(light["negative"]) + 20
    assert np.mean(loud["positive"]) > np.mean(loud["negative"]) + 4


def test_a_check_finds_nothing_that_cannot_be_used(folder: Path) -> None:
    report = check(folder / "train.csv", against=[folder / "dev.csv", folder / "test.csv"])
    assert report.usable == report.rows
    assert all(finding.severity != "error" for finding in report.findings)


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 30"):
        toy(tmp_path, rows=5)
