"""Pictures and sounds of the checklist, drawn on the spot: the same ones every time.

They are drawings and hummed syllables, not photographs and speech: what a model makes of them says
that it minds a picture or a voice at all, not how well it reads faces.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from moodal.data import toy
from moodal.preprocess.audio import SAMPLE_RATE, wav

_SIDE = 96
_SECONDS = 2.0
_SPEAKER = toy.Speaker("checklist", pitch_hz=160, skin=(200, 164, 132))
_NEGATIVE, _POSITIVE = 0, 2  # toy's labels


def image(name: str) -> NDArray[np.uint8]:
    """(96, 96, 3): frown, smile (a drawn face); black, white, noise."""
    return _IMAGES[name]()


def audio(name: str) -> bytes:
    """A WAV of 1 to 2 s at 16 kHz: gloomy, cheerful (a hummed voice); silence, music, noise."""
    return wav(_SOUNDS[name]().astype(np.float32))


def _face(label: int) -> NDArray[np.uint8]:
    return np.asarray(toy.face(label, _SPEAKER, np.random.default_rng(0)))


def _voice(label: int) -> NDArray[np.float32]:
    return toy.voice(label, _SPEAKER, np.random.default_rng(0))


def _flat(value: int) -> NDArray[np.uint8]:
    return np.full((_SIDE, _SIDE, 3), value, np.uint8)


def _noisy_picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)


def _silence() -> NDArray[np.float64]:
    return np.zeros(round(_SECONDS * SAMPLE_RATE))


def _noise() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(0, 0.1, round(_SECONDS * SAMPLE_RATE))


def _music() -> NDArray[np.float64]:
    """The chord of C major, broken, on a plucked string: four notes of half a second."""
    t = np.arange(round(_SECONDS / 4 * SAMPLE_RATE)) / SAMPLE_RATE
    notes = (261.63, 329.63, 392.00, 523.25)  # Hz: C4, E4, G4, C5, equal temperament
    overtones = [
        [np.sin(2 * np.pi * k * hz * t) * np.exp(-4 * k * t) / k for k in range(1, 6)]
        for hz in notes
    ]
    return 0.2 * np.concatenate([np.sum(note, axis=0) for note in overtones])


_IMAGES: dict[str, Callable[[], NDArray[np.uint8]]] = {
    "frown": lambda: _face(_NEGATIVE),
    "smile": lambda: _face(_POSITIVE),
    "black": lambda: _flat(0),
    "white": lambda: _flat(255),
    "noise": _noisy_picture,
}
_SOUNDS: dict[str, Callable[[], NDArray[np.floating]]] = {
    "gloomy": lambda: _voice(_NEGATIVE),
    "cheerful": lambda: _voice(_POSITIVE),
    "silence": _silence,
    "music": _music,
    "noise": _noise,
}
