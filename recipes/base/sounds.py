"""Sounds in which nobody speaks: silence, noise, tones, knocks and music, made by numpy.

Each maker takes a generator and returns (n,) samples in [-1, 1] at SAMPLE_RATE, of 1 to 4 s.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from moodal.preprocess.audio import SAMPLE_RATE

Rng = np.random.Generator
Wave = NDArray[np.float64]
"""(n,) samples at SAMPLE_RATE."""
Scale = tuple[int, ...]
Player = Callable[[Wave, int, Scale, Rng], None]
"""Mixes music into a wave, in place. Takes the root, semitones over 110 Hz, and the scale."""

_SCALES: tuple[Scale, ...] = (
    (0, 2, 4, 5, 7, 9, 11),
    (0, 2, 3, 5, 7, 8, 10),
    (0, 2, 4, 7, 9),
    (0, 3, 5, 7, 10),
)
"""Semitones over the root: major, minor, and the two pentatonic scales."""
_TIMBRES: tuple[tuple[tuple[float, ...], tuple[float, ...], float, float], ...] = (
    # partials (times the pitch), their strengths, seconds to rise, seconds to fall by e
    ((1, 2, 3, 4, 6, 8), (1, 0.7, 0.5, 0.4, 0.25, 0.15), 0.03, 9.0),  # organ
    ((1, 2, 3, 4, 5), (1, 0.5, 0.35, 0.2, 0.1), 0.004, 0.25),  # plucked string
    ((1, 2.76, 5.4, 8.93), (1, 0.6, 0.35, 0.2), 0.002, 0.6),  # bar or bell
    ((1, 3, 5, 7), (1, 0.35, 0.2, 0.1), 0.05, 3.0),  # reed
    ((1, 2, 3, 4, 5, 6, 7), (1, 0.5, 0.33, 0.25, 0.2, 0.17, 0.14), 0.12, 5.0),  # bowed
)


def _seconds(rng: Rng) -> Wave:
    """The time of each sample of a sound of one to four seconds, (n,) seconds."""
    return np.arange(int(rng.uniform(1, 4) * SAMPLE_RATE)) / SAMPLE_RATE


def _levelled(wave: Wave, rng: Rng) -> Wave:
    """The sound with its peak somewhere from -30 to -1 dB of full scale."""
    peak = max(float(np.abs(wave).max()), 1e-9)
    return np.asarray(wave / peak * 10 ** (rng.uniform(-30, -1) / 20))


def _silence(rng: Rng) -> Wave:
    """Digital silence, or a floor of one step of 16 bits."""
    t = _seconds(rng)
    return np.asarray(rng.choice([0.0, 1.0]) * rng.integers(-1, 2, size=len(t)) / 32768)


def _hiss(rng: Rng) -> Wave:
    return _levelled(rng.normal(size=len(_seconds(rng))), rng)


def _rumble(rng: Rng) -> Wave:
    """Noise that falls by 3 to 6 dB an octave, as wind, rain and traffic do."""
    spectrum = np.fft.rfft(rng.normal(size=len(_seconds(rng))))
    slope = np.arange(1, len(spectrum) + 1) ** -rng.uniform(0.5, 1.0)
    return _levelled(np.fft.irfft(spectrum * slope), rng)


def _hum(rng: Rng) -> Wave:
    """The mains: 50 or 60 Hz, some harmonics, a little hiss."""
    t = _seconds(rng)
    pitch = rng.choice([50, 60])
    wave = sum(rng.random() / k * np.sin(2 * np.pi * k * pitch * t) for k in range(1, 9))
    return _levelled(wave + rng.uniform(0, 0.1) * rng.normal(size=len(t)), rng)


def _tone(rng: Rng) -> Wave:
    """A beep that stays, glides or is cut into pulses."""
    t = _seconds(rng)
    start, end = rng.uniform(100, 4000, size=2)
    pitch = start + (end - start) * t / t[-1] * rng.choice([0, 1])
    pulses = np.sin(2 * np.pi * rng.uniform(1, 8) * t) > 0 if rng.random() < 0.5 else 1.0
    return _levelled(np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE) * pulses, rng)


def _clicks(rng: Rng) -> Wave:
    wave = np.zeros(len(_seconds(rng)))
    _play_drum(wave, 0, (), rng)
    return _levelled(wave, rng)


def _play_drum(wave: Wave, root: int, scale: Scale, rng: Rng) -> None:
    """Knocks, bursts that die away, in time or somewhat late, in place."""
    del root, scale
    beat, burst = int(rng.uniform(0.1, 0.6) * SAMPLE_RATE), _drum(rng)
    for start in range(0, len(wave), beat):
        late = int(rng.integers(beat)) if rng.random() < 0.3 else 0
        _add(wave, burst * rng.uniform(0.3, 1), start + late)


def _drum(rng: Rng) -> Wave:
    t = np.arange(int(0.15 * SAMPLE_RATE)) / SAMPLE_RATE
    skin = np.sin(2 * np.pi * rng.uniform(60, 400) * t)
    mixed = rng.random() * skin + rng.random() * rng.normal(size=len(t))
    return np.asarray(mixed * np.exp(-t / rng.uniform(0.01, 0.05)))


def _add(wave: Wave, sound: Wave, start: int) -> None:
    """Mix a sound into a longer one, in place; what passes its end is cut."""
    room = wave[start : start + len(sound)]
    room += sound[: len(room)]


def _note(semitones: float, seconds: float, timbre: int) -> Wave:
    """A note with its rise, fall and release. semitones: over 110 Hz."""
    ratios, strengths, rise, fall = _TIMBRES[timbre]
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 110 * 2 ** (semitones / 12)
    partials = [
        strength * np.sin(2 * np.pi * pitch * ratio * t)
        for ratio, strength in zip(ratios, strengths, strict=True)
        if pitch * ratio < SAMPLE_RATE / 2
    ]
    envelope = np.minimum(t / rise, 1) * np.exp(-t / fall) * np.minimum((t[-1] - t) / 0.03, 1)
    return np.asarray(np.sum(partials, axis=0) * envelope)


def _play_chords(wave: Wave, root: int, scale: Scale, rng: Rng) -> None:
    """Chords of three or four thirds of the scale, one after another, in place."""
    timbre, length = int(rng.integers(len(_TIMBRES))), rng.uniform(0.4, 1.1)
    for start in range(0, len(wave), int(length * SAMPLE_RATE)):
        step = int(rng.integers(len(scale)))
        for third in range(int(rng.integers(3, 5))):
            octave, degree = divmod(step + 2 * third, len(scale))
            _add(wave, _note(root + scale[degree] + 12 * octave, length, timbre), start)


def _play_melody(wave: Wave, root: int, scale: Scale, rng: Rng) -> None:
    """A walk up and down the scale in notes of one, two or three beats, in place."""
    timbre, beat = int(rng.integers(len(_TIMBRES))), rng.uniform(0.12, 0.3)
    step, start = int(rng.integers(len(scale))), 0
    while start < len(wave):
        step = int(np.clip(step + rng.integers(-2, 3), 0, 2 * len(scale) - 1))
        octave, degree = divmod(step, len(scale))
        length = beat * int(rng.integers(1, 4))
        _add(wave, _note(root + scale[degree] + 12 * (octave + 1), length, timbre), start)
        start += int(length * SAMPLE_RATE)


def _music(*players: Player) -> Callable[[Rng], Wave]:
    def play(rng: Rng) -> Wave:
        wave = np.zeros(len(_seconds(rng)))
        root, scale = int(rng.integers(12)), _SCALES[rng.integers(len(_SCALES))]
        for player in players:
            player(wave, root, scale, rng)
        return _levelled(wave, rng)

    return play


SOUNDS: dict[str, Callable[[Rng], Wave]] = {
    "silence": _silence,
    "hiss": _hiss,
    "rumble": _rumble,
    "hum": _hum,
    "tone": _tone,
    "clicks": _clicks,
    "chords": _music(_play_chords),
    "melody": _music(_play_melody),
    "song": _music(_play_chords, _play_melody, _play_drum),
}
