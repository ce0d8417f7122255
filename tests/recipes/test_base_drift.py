"""Each change of the drift study changes what it says it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import train_once

from moodal.data import manifest
from moodal.runtime.predict import Model
from moodal.types import Record
from recipes.base.drift import CHANGES

MOVED: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "texts twice as long": ("text.length", lambda old, new: new == 2 * old),
    "texts cut in half": ("text.length", lambda old, new: new < old),
    "pictures a fifth darker": (
        "image.brightness",
        lambda old, new: new == pytest.approx(0.8 * old, abs=0.02),
    ),
    "pictures blurred to a quarter": ("image.contrast", lambda old, new: new < old),
    "recordings 3 dB quieter": (
        "audio.loudness_db",
        lambda old, new: new == pytest.approx(old - 3, abs=0.1),
    ),
    "recordings 6 dB quieter": (
        "audio.loudness_db",
        lambda old, new: new == pytest.approx(old - 6, abs=0.1),
    ),
    # A sound of power 1 and a noise of 10 ** -0.5: 1.19 dB more.
    "noise 5 dB under the speech": (
        "audio.loudness_db",
        lambda old, new: new == pytest.approx(old + 1.19, abs=0.1),
    ),
}


NAMED = {words: (modality, change) for words, modality, change in CHANGES}


@pytest.fixture(scope="module")
def whole() -> Record:
    """A row that has everything."""
    found = manifest.read(train_once().parent / "data" / "dev.csv")
    return next(r for r in found if isinstance(r, Record) and len(r.modalities) == 3)


def test_every_change_is_checked() -> None:
    assert {*NAMED} == {*MOVED, "letters shuffled"}


def test_shuffled_letters_are_the_same_letters(whole: Record) -> None:
    _, change = NAMED["letters shuffled"]
    shuffled = str(change(whole, np.random.default_rng(0)).text)
    assert shuffled != whole.text
    assert sorted(shuffled) == sorted(str(whole.text))


@pytest.mark.parametrize("words", MOVED)
def test_a_change_moves_its_measure(whole: Record, words: str) -> None:
    modality, change = NAMED[words]
    model, (measure, moved) = Model(train_once()), MOVED[words]
    changed = change(whole, np.random.default_rng(0))
    assert changed.modalities == (modality,)
    old, new = (model.read(record).noted[measure] for record in (whole, changed))
    assert moved(old, new), (old, new)
    assert isinstance(whole.image, Path)  # which was not written over
