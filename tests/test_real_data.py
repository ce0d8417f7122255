"""The main job on real data: skipped, with a word, where the data sets are not beside the checkout.

The floors are far under what docs/results.md reports: these runs are short and see few rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moodal import api, config
from moodal.data.check import check
from moodal.data.copying import copy_rows
from moodal.data.manifest import read
from moodal.preprocess import audio, image
from moodal.types import Record

pytestmark = pytest.mark.real


def some(manifest: Path, out: Path, n: int) -> Path:
    """The first n rows, as a manifest of its own."""
    rows = sum(1 for _ in read(manifest))
    copy_rows(manifest, [out], part_of=np.where(np.arange(rows) < n, 0, 255).astype(np.uint8))
    return out


def test_chinese_reviews_are_learned_from_a_few(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "chnsenticorp"
    train = some(folder / "train.parquet", tmp_path / "train.parquet", 2000)
    settings = ["train.epochs=3", "text_encoder.width=32", "train.learning_rate=0.003"]
    model = api.train(
        train, valid=folder / "dev.parquet", out=tmp_path / "model", settings=settings
    )
    report = api.evaluate(folder / "dev.parquet", model=model)
    assert report.scores["accuracy"] > 0.83
    assert report.languages["zh"]["n"] == 1200
    assert model.predict(text="服务太慢了，再也不来了").label == "negative"


def test_vectors_of_three_modalities_are_learned_by_group(real_data: Path, tmp_path: Path) -> None:
    columns = config.Columns(group="video_id")
    whole = real_data / "mosi-features" / "train.parquet"
    records = [r for r in read(whole, columns) if isinstance(r, Record)]
    films = sorted({r.group for r in records})
    part_of = np.array([films.index(r.group) % 5 == 0 for r in records], np.uint8)
    parts = [tmp_path / "rest.parquet", tmp_path / "fold.parquet"]
    copy_rows(whole, parts, part_of=part_of, columns=columns)
    model = api.train(
        parts[0],
        valid=parts[1],
        out=tmp_path / "model",
        settings=["columns.group=video_id", "train.epochs=3"],
    )
    assert model.info.kinds == {"text": "vectors", "image": "vectors", "audio": "vectors"}
    report = api.evaluate(parts[1], model=model)
    assert len(report.subsets) == 7
    assert report.scores["accuracy"] > 0.9
    assert report.n_groups == len(films[::5])


def test_voices_are_learned_from_their_files(real_data: Path, tmp_path: Path) -> None:
    """Anger and sadness sound unlike even to a small encoder."""
    whole = real_data / "casia" / "train.csv"
    columns = config.Columns(label="emotion", group="speaker")
    records = [r for r in read(whole, columns) if isinstance(r, Record)]
    wanted = ["angry", "sad"]
    place = [i % 2 if r.target in wanted else 255 for i, r in enumerate(records)]
    parts = [tmp_path / "a.csv", tmp_path / "b.csv"]
    copy_rows(whole, parts, part_of=np.array(place, np.uint8), columns=columns)
    settings = [
        "columns.label=emotion",
        "audio.normalise=level",
        "audio_encoder.width=24",
        "train.epochs=12",
        "train.batch_size=8",
    ]
    model = api.train(parts[0], valid=parts[1], out=tmp_path / "model", settings=settings)
    assert model.info.modalities == ("audio",)
    assert api.evaluate(parts[1], model=model).scores["accuracy"] > 0.7


def test_pictures_inside_parquet_are_read(real_data: Path) -> None:
    records = read(real_data / "fer2013" / "dev.parquet")
    first = next(records)
    assert isinstance(first, Record)
    assert isinstance(first.image, bytes)
    assert image.decode(first.image, config.Image(size=48)).shape == (48, 48, 3)


def test_the_check_finds_the_leaks_that_are_there(real_data: Path) -> None:
    folder = real_data / "mvsa-single"
    report = check(folder / "train.csv", against=[folder / "dev.csv"]).to_dict()
    leaks = [f for f in report["findings"] if "leak" in f["kind"]]
    assert any(f["field"] == "text" for f in leaks)


def test_every_recording_becomes_frames(real_data: Path) -> None:
    settings = config.Audio()
    for record in list(read(real_data / "ravdess" / "dev.csv"))[:20]:
        assert isinstance(record, Record)
        assert record.audio is not None
        frames = audio.frames(audio.decode(record.audio, settings), settings)
        assert frames.shape[1] == settings.n_mels
        assert np.isfinite(frames).all()
