"""A record to arrays, arrays to a batch."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moodal import config
from moodal.errors import RecordError
from moodal.preprocess import batch, vocabulary
from moodal.preprocess.batch import Inputs, Kind, Settings
from moodal.types import MODALITIES, Modality, Record

AUDIO = config.Audio(n_mels=16)
IMAGE = config.Image(size=16)
TEXT = config.Text(min_count=1)


def inputs(*, widths: dict[Modality, int] | None = None, **kinds: Kind) -> Inputs:
    known = vocabulary.fit(["a good film", "很好"], TEXT)
    return batch.build(Settings(kinds, widths or {}, TEXT, IMAGE, AUDIO), known)  # type: ignore[arg-type]


@pytest.fixture
def raw() -> Inputs:
    return inputs(text="tokens", image="picture", audio="frames")


@pytest.fixture
def record() -> Record:
    rng = np.random.default_rng(0)
    picture, sound = tiny.png(tiny.picture("good", rng)), tiny.wav(tiny.tone("good", rng))
    return Record("1", text="a good film", image=picture, audio=sound)


# Records to arrays


def test_each_modality_has_the_shape_and_type_of_its_kind(raw: Inputs, record: Record) -> None:
    arrays = batch.arrays(record, raw)
    assert list(arrays) == list(MODALITIES)
    assert arrays["text"].shape == (3, TEXT.pieces)
    assert arrays["text"].dtype == np.int32
    assert arrays["image"].shape == (16, 16, 3)
    assert arrays["image"].dtype == np.uint8
    assert arrays["audio"].shape == (28, 16)  # 0.3 s: 1 + (4800 - 400) // 160 frames
    assert arrays["audio"].dtype == np.float32


def test_a_path_its_bytes_and_the_pixels_are_one(tmp_path: Path, raw: Inputs) -> None:
    pixels = tiny.picture("good", np.random.default_rng(0))
    content = tiny.png(pixels)
    path = tmp_path / "a.png"
    path.write_bytes(content)
    found = [batch.decode("image", source, raw["image"]) for source in (path, content, pixels)]
    assert all(np.array_equal(found[0], other) for other in found)


def test_features_are_taken_as_they_are_and_one_vector_is_a_sequence_of_one() -> None:
    given = inputs(text="vectors", widths={"text": 3})
    sequence = np.arange(6, dtype=np.float32).reshape(2, 3)
    for features, expected in ((sequence, sequence), (sequence[0], sequence[:1])):
        assert np.array_equal(batch.arrays(Record("1", text=features), given)["text"], expected)


def test_what_the_model_does_not_read_is_passed_over(record: Record) -> None:
    assert list(batch.arrays(record, inputs(image="picture"))) == ["image"]


def test_a_record_with_nothing_that_is_read_says_what_it_has(record: Record) -> None:
    given = inputs(audio="frames")
    with pytest.raises(RecordError, match="has text; this model reads audio: give it"):
        batch.arrays(Record("1", text="a good film"), given)
    with pytest.raises(RecordError, match="has no modality"):
        batch.arrays(Record("1"), given)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("value", [5, 1.5, ["a"], None.__class__, {}])
def test_what_no_modality_can_be_is_named_with_what_it_could_be(
    raw: Inputs, modality: Modality, value: Any
) -> None:
    with pytest.raises(
        RecordError, match=rf"holds a {type(value).__name__}; give one of"
    ) as caught:
        batch.decode(modality, value, raw[modality])
    assert caught.value.field == modality


BAD: list[tuple[Modality, Any, str]] = [
    ("text", " ", "the text is empty"),
    ("image", b"not a picture", "the bytes given"),
    ("audio", b"not a sound", "the bytes given"),
    ("image", Path("/nowhere/a.png"), "No such file"),
    ("text", np.ones(3, np.float32), "holds vectors, this model reads tokens"),
    ("image", np.ones(3, np.float32), "holds vectors, this model reads picture"),
]


@pytest.mark.parametrize(("modality", "value", "said"), BAD)
def test_what_cannot_be_read_is_named_by_its_field(
    raw: Inputs, modality: Modality, value: Any, said: str
) -> None:
    with pytest.raises(RecordError, match=said) as caught:
        batch.decode(modality, value, raw[modality])
    assert caught.value.field == modality


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.ones(4, np.float32), "has 4 values, the training data has 3"),
        (np.array([1, np.nan, 1], np.float32), "value 2 of vector 1 is nan"),
        ("words", "holds tokens, this model reads vectors"),
    ],
)
def test_features_of_another_length_or_kind_are_refused(value: Any, said: str) -> None:
    given = inputs(text="vectors", widths={"text": 3})
    with pytest.raises(RecordError, match=said) as caught:
        batch.arrays(Record("1", text=value), given)
    assert caught.value.field == "text"


@pytest.mark.parametrize(
    ("modality", "value", "kind"),
    [
        ("text", "words", "tokens"),
        ("image", b"", "picture"),
        ("image", np.zeros((2, 2, 3), np.uint8), "picture"),
        ("image", np.zeros(3, np.float32), "vectors"),
        ("audio", Path("a.wav"), "frames"),
        ("audio", np.zeros((2, 3), np.float32), "vectors"),
    ],
)
def test_a_float_array_asks_for_features_and_all_else_for_its_own_kind(
    modality: Modality, value: Any, kind: Kind
) -> None:
    assert batch.kind_of(modality, value) == kind


def test_augmentation_changes_nothing_that_was_given_and_keeps_type_and_width(
    raw: Inputs, record: Record
) -> None:
    for modality in MODALITIES:
        given = raw[modality]
        decoded = batch.decode(modality, getattr(record, modality), given)
        before = decoded.copy()
        decoded.flags.writeable = False
        rng = np.random.default_rng(1)
        finished = given.augment_finished(given.finish(given.augment(decoded, rng)), rng)
        assert np.array_equal(decoded, before)
        assert finished.dtype == given.finish(decoded).dtype
        assert finished.shape[1:] == given.finish(decoded).shape[1:]
        assert len(finished) > 0


def test_inputs_are_in_one_order_whatever_the_settings_say() -> None:
    assert list(inputs(audio="frames", text="tokens")) == ["text", "audio"]


# Arrays to a batch


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6).filter(any))
def test_padding_keeps_every_value_and_adds_zeros_to_the_right(lengths: list[int]) -> None:
    items: list[NDArray[Any]] = [
        np.full((n, 2), row + 1, np.int32) for row, n in enumerate(lengths)
    ]
    x, mask = batch.pad(items)
    assert x.shape == (len(items), max(lengths), 2)
    assert x.dtype == np.int32
    assert mask.sum(1).tolist() == lengths
    for row, item in enumerate(items):
        assert np.array_equal(x[row, : len(item)], item)
        assert not x[row, len(item) :].any()
        assert mask[row, : len(item)].all()


def test_subsets_are_all_there_small_ones_first_and_the_whole_last() -> None:
    assert batch.subsets(("text", "audio")) == [("text",), ("audio",), ("text", "audio")]
    assert batch.subsets(()) == []
    for n in (1, 2, 3):
        whole = MODALITIES[:n]
        found = batch.subsets(whole)
        expected = {s for k in range(1, n + 1) for s in itertools.combinations(whole, k)}
        assert set(found) == expected
        assert len(found) == len(expected)
        assert found[-1] == whole
        assert [len(s) for s in found] == sorted(len(s) for s in found)
