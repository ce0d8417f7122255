"""Manifests to examples: every row is used, counted or named; media are decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from tiny import LABELLED

from moodal import config
from moodal.config import Run
from moodal.data import manifest
from moodal.errors import DataError
from moodal.preprocess import batch, vocabulary
from moodal.tasks import TASKS
from moodal.training import examples
from moodal.training.examples import Codec, Decoder, Examples, Survey
from moodal.types import Record, Rejection

VECTOR = np.ones(3, np.float32)
RECORDS: list[Record | Rejection] = [
    Record("1", text="a fine day", audio=VECTOR, target="good"),
    Record("2", text="真的很好", target="good", lang="zh"),
    Record("3", text="never seen"),
    Rejection("4", "a.csv row 4", "image", "holds nothing"),
    Record("5", audio=np.ones((2, 3), np.float32), target="bad"),
]


def surveyed(records: list[Record | Rejection]) -> tuple[Survey, list[str]]:
    survey = Survey()
    return survey, list(survey.watch(records))


def test_the_survey_counts_labelled_rows_alone() -> None:
    survey, texts = surveyed(RECORDS)
    assert texts == ["a fine day", "真的很好"]
    assert survey.targets == {"good": 2, "bad": 1}
    assert survey.languages == {"en": 1, "zh": 1}
    assert survey.kinds == {"text": "tokens", "audio": "vectors"}
    assert survey.widths == {"audio": 3}


def test_the_settings_hold_the_modalities_in_their_own_order() -> None:
    survey, _ = surveyed([*RECORDS, Record("6", image=b"x", target="bad")])
    assert list(survey.settings(Run(), "a.csv").kinds) == ["text", "image", "audio"]
    chosen = survey.settings(Run(modalities=("audio", "text")), "a.csv")
    assert list(chosen.kinds) == ["text", "audio"]


def test_a_modality_that_is_asked_for_and_nowhere_is_refused() -> None:
    survey, _ = surveyed(RECORDS)
    with pytest.raises(DataError, match=r"a\.csv: no labelled row has image"):
        survey.settings(Run(modalities=("text", "image")), "a.csv")


def build(
    folder: Path,
    records: list[Record | Rejection],
    labels: tuple[str, ...] = ("bad", "good"),
    *,
    training: bool = True,
) -> tuple[Examples, Decoder]:
    survey = Survey()
    known = vocabulary.fit(survey.watch(records), config.Text(min_count=1))
    settings = survey.settings(Run(image=config.Image(size=16)), "a.csv")
    decoder = Decoder(batch.build(settings, known), settings, folder)
    try:
        found = examples.build(
            records,
            codec=Codec(TASKS[LABELLED], labels),
            decoder=decoder,
            name="a.csv",
            training=training,
        )
    finally:
        decoder.close()
    return found, decoder


def test_every_row_is_used_counted_or_named(tmp_path: Path) -> None:
    picture = tiny.png(np.zeros((4, 4, 3), np.uint8))
    records = [
        *RECORDS,
        Record("6", text="odd", target="excellent", source="a.csv row 6"),
        Record("7", text="torn", image=picture[:40], target="good", source="a.csv row 7"),
        Record("8", image=picture, target="good"),
        Record("9", audio=np.ones(4, np.float32), target="good", source="a.csv row 9"),
    ]
    found, _ = build(tmp_path, records)
    assert found.codes.tolist() == [1, 1, 0, 1]
    counts = {"rows": 4, "rejected": 4, "unlabelled": 1, "text": 2, "image": 1, "audio": 2}
    assert found.counts() == counts
    named = [(r.id, r.field, r.source) for r in found.rejected]
    assert named == [
        ("4", "image", "a.csv row 4"),
        ("6", "label", "a.csv row 6"),
        ("7", "image", "a.csv row 7"),
        ("9", "audio", "a.csv row 9"),
    ]
    assert "'excellent' is none of the training labels (bad, good)" in found.rejected[1].reason
    assert found.arrays["audio"][2] is not None
    assert found.arrays["audio"][2].shape == (2, 3)


def test_when_no_row_is_left_the_first_reason_is_given(tmp_path: Path) -> None:
    records: list[Record | Rejection] = [Record("1", text="odd", target="excellent")]
    with pytest.raises(DataError, match=r"no row can be used \(1 rejected.*label: .*'excellent'"):
        build(tmp_path, records)


def test_without_labels_the_column_is_asked_for(tmp_path: Path) -> None:
    labelled = Record("1", text="fine", target="good")
    _, decoder = build(tmp_path, [labelled])
    options = {
        "codec": Codec(TASKS[LABELLED], ("good",)),
        "decoder": decoder,
        "name": "b.csv",
        "training": True,
    }
    with pytest.raises(DataError, match=r"b\.csv: .*2 without a label\).*name it with --label"):
        examples.build([Record("1", text="a"), Record("2", text="b")], **options)  # type: ignore[arg-type]


def test_media_are_decoded_once_and_lie_in_a_mapped_file(tmp_path: Path) -> None:
    data = tiny.rows(tmp_path / "data", 12)
    records = list(manifest.read(data / "train.csv"))
    first, decoder = build(tmp_path / "cache", records, tiny.LABELS)
    n_media = first.counts()["image"] + first.counts()["audio"]
    assert decoder.n_decoded == n_media
    for modality in ("image", "audio"):
        for array in first.arrays[modality]:
            assert array is None or not array.flags.owndata, "memory that the file lends"
    again, second = build(tmp_path / "cache", records, tiny.LABELS)
    assert second.n_decoded == 0
    for modality, column in first.arrays.items():
        for a, b in zip(column, again.arrays[modality], strict=True):
            assert (a is None and b is None) or np.array_equal(a, b)  # type: ignore[arg-type]
