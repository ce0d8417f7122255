"""What is measured of a record: cases computed by hand, and the same alone or in company."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import picture, png, tone, train_once, wav

from moodal import bundle
from moodal.errors import RecordError
from moodal.preprocess import batch
from moodal.runtime import measure
from moodal.runtime.predict import Model
from moodal.runtime.reference import Reference, spread
from moodal.tasks import Decoded
from moodal.types import Modality, Record

RNG = np.random.default_rng(5)
RECORDS = [
    Record("1", text="the room was lovely 真的很精彩 on day 3"),
    Record("2", image=png(picture("good", RNG))),
    Record("3", audio=wav(tone("bad", RNG))),
    Record("4", "so bad", png(picture("bad", RNG)), wav(tone("bad", RNG, seconds=0.7))),
]


class Told(NamedTuple):
    known: float
    pooled: dict[Modality, NDArray[np.float32]]


SURE = Decoded(0, "good", None, {}, 0.8)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(train_once())


def test_a_picture_by_hand() -> None:
    half = np.zeros((4, 4, 3), np.uint8)
    half[:2] = 255
    found = measure.note("image", "picture", half)
    assert found == pytest.approx({"image.brightness": 0.5, "image.contrast": 0.5}, abs=1e-6)
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    found = measure.note("image", "picture", red)
    assert found == pytest.approx({"image.brightness": 0.299, "image.contrast": 0.0}, abs=1e-6)


@pytest.mark.parametrize(
    ("samples", "loudness"),
    [
        (np.tile([1.0, -1.0], 8000), 0.0),
        (np.full(16_000, 0.1), -20.0),
        (np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000), -3.0103),  # 10 log10(1/2)
        (np.zeros(16_000), -100.0),
    ],
)
def test_a_second_of_sound_by_hand(samples: NDArray[np.float64], loudness: float) -> None:
    found = measure.note("audio", "frames", samples.astype(np.float32))
    assert found == pytest.approx({"audio.loudness_db": loudness, "audio.seconds": 1.0}, abs=1e-3)


def test_of_words_symbols_and_features_there_is_a_length() -> None:
    assert measure.note("text", "tokens", np.zeros((7, 4), np.int32)) == {"text.length": 7.0}
    assert measure.note("text", "symbols", np.zeros((9, 1), np.int32)) == {"text.length": 9.0}
    assert measure.note("image", "vectors", np.zeros((1, 5))) == {"image.length": 1.0}


def test_projections_are_signed_sums_over_the_root_of_the_width() -> None:
    mean = np.arange(1, 11, dtype=np.float32)
    found = measure.measures({}, Told(1.0, {"audio": mean}), SURE)
    for place in range(1, measure.PROJECTIONS + 1):
        digest = hashlib.shake_128(f"audio.projection_{place}".encode()).digest(2)
        signs = [1 if c == "1" else -1 for c in f"{int.from_bytes(digest):016b}"[:10]]
        by_hand = sum(s * v for s, v in zip(signs, range(1, 11), strict=True)) / 10**0.5
        assert found[f"audio.projection_{place}"] == pytest.approx(by_hand, abs=1e-5)


def test_projections_of_one_modality_are_not_those_of_another_nor_each_other() -> None:
    mean = np.ones(96, np.float32)
    for place in range(96):
        mean[place] = place % 7
    told = measure.measures({}, Told(1.0, {"text": mean, "image": mean}), SURE)
    values = [told[f"{m}.projection_{i}"] for m in ("text", "image") for i in (1, 2, 3, 4)]
    assert len(set(values)) == 8


def test_an_answer_has_a_confidence_or_a_value() -> None:
    assert measure.measures({}, Told(1.0, {}), SURE) == {"confidence": 0.8}
    assert measure.measures({}, Told(1.0, {}), Decoded(0, None, 2.5, {}, 0.0)) == {"value": 2.5}


def test_reading_is_that_of_predict_and_refuses_the_same(model: Model) -> None:
    inputs = batch.build(model.info.settings, bundle.lexicon(model.folder, model.info))
    for record in RECORDS:
        arrays, noted = measure.read(record, inputs)
        plain = batch.arrays(record, inputs)
        assert arrays.keys() == plain.keys()
        assert all(np.array_equal(arrays[m], plain[m]) for m in plain)
        assert {name.partition(".")[0] for name in noted} == set(record.modalities)
    with pytest.raises(RecordError, match="not a picture"):
        measure.read(Record("5", image=b"no picture"), inputs)


def test_alone_or_in_company_a_record_measures_the_same(model: Model, tmp_path: Path) -> None:
    read = [model.read(record) for record in RECORDS]
    together = model.answer([r.record for r in read], [r.arrays for r in read])
    for one, outputs in zip(read, together, strict=True):
        [alone] = model.answer([one.record], [one.arrays])
        first = measure.measures(one.noted, outputs, model.tell(outputs))
        second = measure.measures(one.noted, alone, model.tell(alone))
        assert first == pytest.approx(second, abs=1e-5)
        present = set(one.record.modalities)
        assert {n.partition(".")[0] for n in first} - {"confidence"} == present
    assert ("text.known" in first) == ("text" in present)


def test_a_record_outside_of_all_that_was_seen_surprises() -> None:
    rng = np.random.default_rng(0)
    held = Reference(500, {name: spread(rng.normal(size=500).tolist()) for name in "abc"})
    at_home = measure.surprise({"a": 0.0, "b": 0.1, "c": -0.1}, held)
    outside = [measure.surprise({"a": 0.0, "b": 0.1, "c": far}, held) for far in (2.5, 5, 10, 50)]
    assert at_home < 0.05
    assert outside == sorted(outside)
    assert 0.9 < outside[0] < outside[1] < outside[-1] < 1.0


def test_ordinary_records_surprise_evenly() -> None:
    rng = np.random.default_rng(1)
    held = Reference(4000, {name: spread(rng.normal(size=4000).tolist()) for name in "abcd"})
    drawn = rng.normal(size=(4000, 4))
    found = [measure.surprise(dict(zip("abcd", row, strict=True)), held) for row in drawn]
    for share in (0.25, 0.5, 0.9, 0.99):
        assert np.mean(np.array(found) <= share) == pytest.approx(share, abs=0.02)


def test_what_the_reference_does_not_know_cannot_surprise() -> None:
    assert measure.surprise({"a": 1e9}, Reference()) == 0.0
