"""The model that comes with the package: there at once, and honest about what it does not know."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import moodal
from moodal import bundle
from moodal.evaluation import stimuli
from moodal.evaluation.expectations import SURE
from moodal.runtime.predict import Model
from moodal.types import Prediction

LABELS = ("negative", "neutral", "positive")


@pytest.fixture(scope="module")
def base() -> Model:
    return moodal.load()


def assert_unsure(answer: Prediction) -> None:
    assert answer.abstain or answer.confidence < SURE, answer


def test_it_is_small_whole_and_knows_three_labels_in_three_modalities(base: Model) -> None:
    assert bundle.size_bytes(bundle.PACKAGED) <= 30e6
    info = bundle.verify(bundle.PACKAGED)
    assert info.labels == LABELS
    assert info.modalities == ("text", "image", "audio")
    assert info.weights == "int8"
    assert 0 < info.threshold < 1
    assert base.folder == bundle.find("base") == bundle.find(None)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("服务太慢了，再也不来了", "negative"),
        ("很好吃，下次还会再来", "positive"),
        ("I love this phone, great battery", "positive"),
        ("terrible service, I want my money back", "negative"),
    ],
)
def test_plain_words_are_understood(base: Model, text: str, label: str) -> None:
    assert base.predict(text=text).label == label


def test_all_three_at_once_and_each_has_its_share(base: Model) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    answer = base.predict(text="not bad at all!", image=picture, audio=stimuli.audio("music"))
    assert answer.modalities == ("text", "image", "audio")
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    full = answer.confidence - base.info.prior[LABELS.index(str(answer.label))]
    assert sum(answer.contributions.values()) == pytest.approx(full, abs=1e-6)


@pytest.mark.parametrize("text", ["", "   ", "!!!???", "……。。。", "12345 67890", "^_~ ** //"])
def test_a_text_that_says_nothing_is_no_guess(base: Model, text: str) -> None:
    assert_unsure(base.predict(text=text))


@pytest.mark.parametrize(
    "text",
    [
        "Обслуживание было ужасным, больше не приду",
        "Die Bedienung war furchtbar langsam und unfreundlich",
        "La comida estaba fría y el camarero fue grosero",
        "サービスがとても遅くて、もう行きません",
        "서비스가 너무 느려서 다시는 안 갈 거예요",
        "الخدمة بطيئة جدا ولن أعود أبدا",
    ],
)
def test_a_language_it_does_not_know_makes_it_abstain_and_say_so(base: Model, text: str) -> None:
    answer = base.predict(text=text)
    assert answer.abstain
    assert answer.reason in ("unfamiliar", "unsure")


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_is_no_guess(base: Model, level: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((120, 160, 3), level, np.uint8)).save(buffer, "JPEG")
    assert_unsure(base.predict(image=buffer.getvalue()))


@pytest.mark.parametrize("sound", ["silence", "noise", "music"])
def test_a_sound_that_is_no_speech_is_no_guess(base: Model, sound: str) -> None:
    assert_unsure(base.predict(audio=stimuli.audio(sound)))


def test_a_model_called_base_comes_first_and_a_mere_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    assert bundle.find("base") == bundle.PACKAGED
    (tmp_path / "base" / bundle.INFO).touch()
    assert bundle.find("base") == Path("base")
    assert bundle.find(None) == bundle.PACKAGED


def test_without_it_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle, "PACKAGED", tmp_path / "none")
    with pytest.raises(moodal.MoodalError, match="holds no base model; name a trained folder"):
        moodal.load()
