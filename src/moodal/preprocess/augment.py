"""Training only: pictures, sounds, frames and texts made a little different, by a generator.

With settings of zero each is the identity. What is given is never written to.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from PIL import Image

from moodal import config
from moodal.preprocess.image import MEAN

SAMPLE_RATE = 16_000


def picture(
    pixels: NDArray[np.uint8], settings: config.Image, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Turn, zoom, shift and mirror in one pass, then change the colours in one.

    pixels: (size, size, 3) uint8. Returns: the same shape; what comes into view is mean grey.
    """
    draws = rng.uniform(-1, 1, 7)
    mirrored = bool(rng.random() < settings.flip)
    result = Image.fromarray(pixels)
    if mirrored or settings.rotate_degrees or settings.scale or settings.crop:
        result = result.transform(
            result.size,
            Image.Transform.AFFINE,
            _affine(draws[:4], settings, side=pixels.shape[0], mirrored=mirrored),
            Image.Resampling.BILINEAR,
            fillcolor=_grey(),
        )
    if settings.colour:
        result = _coloured(result, *(1 + settings.colour * draws[4:]))
    return np.array(result, np.uint8)


def sound(
    samples: NDArray[np.float32], settings: config.Audio, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Speed, shift in time, pauses, gain and white noise, in this order; or, by chance, nothing.

    samples: (n_samples,) float32 in [-1, 1] at 16 kHz. Returns: as given, but for n_samples, which
    speed divides by its factor, and pauses add to.
    """
    if rng.random() >= settings.augment:
        return samples
    speed, shift, gain, snr = rng.uniform(-1, 1, 4)
    result = samples
    if settings.speed:
        factor = 1 + settings.speed * float(speed)
        result = soxr.resample(result, SAMPLE_RATE * factor, SAMPLE_RATE, quality="MQ")
    if settings.shift_ms:
        result = _shifted(result, round(settings.shift_ms * float(shift) * SAMPLE_RATE / 1000))
    if settings.pause_ms:
        longest = settings.pause_ms * SAMPLE_RATE / 1000
        result = np.pad(result, tuple(rng.uniform(0, longest, 2).astype(int)))
    if settings.gain_db:
        result = result * np.float32(10 ** (settings.gain_db * gain / 20))
    if settings.noise_snr_db:
        low, high = settings.noise_snr_db
        result = _noisy(result, low + (high - low) * (snr + 1) / 2, rng)
    return result if result is samples else np.clip(result, -1, 1)


def mask(
    frames: NDArray[np.float32], settings: config.Audio, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Hide one stretch of time and one band of features behind each feature's mean.

    frames: (S, n_features) float32. Returns: the same shape.
    Source: Park et al. 2019, SpecAugment, arXiv:1904.08779, section 2.
    """
    time = _span(frames.shape[0], settings.mask_time, rng)
    band = _span(frames.shape[1], settings.mask_frequency, rng)
    if time.start == time.stop and band.start == band.stop:
        return frames
    mean = frames.mean(axis=0)
    result = frames.copy()
    result[time] = mean
    result[:, band] = mean[band]
    return result


def tokens(
    pieces: NDArray[np.int32], word_dropout: float, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Drop positions, each with the chance `word_dropout`, never all of them.

    pieces: (S, K) int32. Returns: (at most S, K).
    """
    kept = rng.random(len(pieces)) >= word_dropout
    if len(pieces) and not kept.any():
        kept[rng.integers(len(pieces))] = True
    return pieces if kept.all() else pieces[kept]


def _affine(
    draws: NDArray[np.float64], settings: config.Image, *, side: int, mirrored: bool
) -> tuple[float, ...]:
    """Where in the picture each pixel of the result comes from: (a, b, c, d, e, f) of
    x = a x' + b y' + c, y = d x' + e y' + f, turning about the centre."""
    angle = np.deg2rad(settings.rotate_degrees) * draws[0]
    zoom = 1 + settings.scale * draws[1]
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    sign = -1 if mirrored else 1
    matrix = np.array([[cos * sign, sin], [-sin * sign, cos]])
    centre = side / 2
    offset = centre + settings.crop * side * draws[2:4] - matrix @ (centre, centre)
    return (*matrix[0], offset[0], *matrix[1], offset[1])


def _coloured(
    picture: Image.Image, brightness: float, contrast: float, saturation: float
) -> Image.Image:
    """All three as one 3 x 4 matrix: saturation mixes with the pixel's grey, contrast with the
    mean grey of the picture, brightness scales.

    Source: the definitions of Pillow's ImageEnhance; grey is ITU-R BT.601 luma.
    """
    luma = np.array([0.299, 0.587, 0.114])
    middle = luma @ np.asarray(picture.resize((1, 1), Image.Resampling.BOX))[0, 0]
    matrix = saturation * np.eye(3) + (1 - saturation) * luma
    matrix = brightness * contrast * matrix
    offset = brightness * (1 - contrast) * middle
    rows: list[Any] = [value for row in matrix for value in (*row, offset)]
    return picture.convert("RGB", tuple(map(float, rows)))


@functools.cache
def _grey() -> tuple[int, int, int]:
    red, green, blue = (round(255 * float(m)) for m in MEAN)
    return red, green, blue


def _shifted(samples: NDArray[np.float32], n_samples: int) -> NDArray[np.float32]:
    """Later by n_samples (earlier when negative); silence fills the gap."""
    result = np.zeros_like(samples)
    if n_samples >= 0:
        result[n_samples:] = samples[: max(0, len(samples) - n_samples)]
    else:
        result[:n_samples] = samples[-n_samples:]
    return result


def _noisy(
    samples: NDArray[np.float32], snr_db: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """White noise whose power is 10^(-snr_db / 10) of the sound's; silence stays silent."""
    power = float(np.dot(samples, samples)) / max(1, len(samples))
    deviation = np.float32(np.sqrt(power * 10 ** (-snr_db / 10)))
    return samples + deviation * rng.standard_normal(len(samples), dtype=np.float32)


def _span(length: int, share: float, rng: np.random.Generator) -> slice:
    width = int(rng.integers(int(share * length) + 1))
    start = int(rng.integers(length - width + 1))
    return slice(start, start + width)
