"""Augmentation: nothing at zero, the same from the same generator, each change as promised."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from moodal import config
from moodal.preprocess import augment

NO_PICTURE = {"rotate_degrees": 0, "scale": 0, "crop": 0, "flip": 0, "colour": 0}
NO_SOUND = {"augment": 1, "noise_snr_db": None, "gain_db": 0, "shift_ms": 0, "speed": 0}
SIDE = 32


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    result = rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    result.flags.writeable = False  # as it comes from the cache
    return result


@pytest.fixture
def samples() -> NDArray[np.float32]:
    n = np.arange(16_000)
    result = (0.3 * np.sin(2 * np.pi * 400 * n / 16_000)).astype(np.float32)
    result.flags.writeable = False
    return result


@pytest.fixture
def frames() -> NDArray[np.float32]:
    result = rng(2).normal(0, 1, (100, 40)).astype(np.float32)
    result.flags.writeable = False
    return result


def test_zero_settings_change_nothing(
    pixels: NDArray[np.uint8], samples: NDArray[np.float32], frames: NDArray[np.float32]
) -> None:
    still = config.Audio(mask_time=0, mask_frequency=0, **NO_SOUND)
    pieces = np.arange(12, dtype=np.int32).reshape(4, 3)
    for seed in range(5):
        picture = augment.picture(pixels, config.Image(**NO_PICTURE), rng(seed))
        np.testing.assert_array_equal(picture, pixels)
        np.testing.assert_array_equal(augment.sound(samples, still, rng(seed)), samples)
        np.testing.assert_array_equal(augment.mask(frames, still, rng(seed)), frames)
        np.testing.assert_array_equal(augment.tokens(pieces, 0.0, rng(seed)), pieces)


def test_the_same_generator_gives_the_same_and_another_something_else(
    pixels: NDArray[np.uint8], samples: NDArray[np.float32], frames: NDArray[np.float32]
) -> None:
    pieces = np.arange(120, dtype=np.int32).reshape(40, 3)

    def all_four(seed: int) -> list[NDArray[np.float32]]:
        return [
            augment.picture(pixels, config.Image(), rng(seed)).astype(np.float32),
            augment.sound(samples, config.Audio(augment=1), rng(seed)),
            augment.mask(frames, config.Audio(augment=1), rng(seed)),
            augment.tokens(pieces, 0.3, rng(seed)).astype(np.float32),
        ]

    for one, again, other in zip(all_four(7), all_four(7), all_four(8), strict=True):
        np.testing.assert_array_equal(one, again)
        assert one.shape != other.shape or not np.array_equal(one, other)


def test_a_picture_keeps_its_shape_and_type(pixels: NDArray[np.uint8]) -> None:
    for seed in range(5):
        result = augment.picture(pixels, config.Image(), rng(seed))
        assert (result.shape, result.dtype) == (pixels.shape, np.uint8)


def test_flip_alone_is_the_mirror_image(pixels: NDArray[np.uint8]) -> None:
    result = augment.picture(pixels, config.Image(**NO_PICTURE | {"flip": 1}), rng())
    np.testing.assert_array_equal(result, pixels[:, ::-1])


def test_flip_is_a_chance(pixels: NDArray[np.uint8]) -> None:
    settings = config.Image(**NO_PICTURE | {"flip": 0.3})
    results = [augment.picture(pixels, settings, rng(seed)) for seed in range(200)]
    assert 0.2 < np.mean([not np.array_equal(r, pixels) for r in results]) < 0.4


def test_crop_alone_shifts_and_fills_with_mean_grey() -> None:
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    settings = config.Image(**NO_PICTURE | {"crop": 0.5})
    result = augment.picture(black, settings, rng(3))
    filled = (result == (124, 116, 104)).all(axis=2)
    assert 0 < filled.sum() < SIDE * SIDE * 0.76  # at most half a side each way
    assert filled.any(axis=0).all() or filled.any(axis=1).all()


def test_rotation_turns_about_the_centre_by_at_most_the_given_angle() -> None:
    side = 101
    bar = np.zeros((side, side, 3), np.uint8)
    bar[:, 48:53] = 255
    angles = []
    for seed in range(30):
        settings = config.Image(**NO_PICTURE | {"rotate_degrees": 20})
        result = augment.picture(bar, settings, rng(seed))[..., 0]
        assert result[50, 50] == 255
        top, bottom = (np.average(np.arange(side), weights=result[y] > 190) for y in (20, 80))
        angles.append(np.degrees(np.arctan2(bottom - top, 60)))
    assert max(angles) <= 20.5
    assert min(angles) >= -20.5
    assert max(angles) - min(angles) > 20


def test_scale_zooms_about_the_centre_within_its_range() -> None:
    side = 100
    disc = np.zeros((side, side, 3), np.uint8)
    y, x = np.mgrid[:side, :side] - 49.5
    disc[np.hypot(x, y) < 20] = 255
    radii = []
    for seed in range(30):
        settings = config.Image(**NO_PICTURE | {"scale": 0.3})
        white = augment.picture(disc, settings, rng(seed))[10:90, 10:90, 0] > 190
        radii.append(np.sqrt(white.sum() / np.pi))
        assert abs(np.argwhere(white).mean() - 39.5) < 0.5
    assert 13.5 < min(radii) < 17
    assert 23 < max(radii) < 26.5


def test_colour_leaves_a_mid_grey_picture_grey_and_changes_its_brightness() -> None:
    grey = np.full((SIDE, SIDE, 3), 120, np.uint8)
    settings = config.Image(**NO_PICTURE | {"colour": 0.5})
    seen = set()
    for seed in range(30):
        result = augment.picture(grey, settings, rng(seed))
        assert np.ptp(result) <= 1  # contrast and saturation have nothing to change
        seen.add(int(result[0, 0, 0]))
    assert min(seen) < 90
    assert max(seen) > 150
    assert min(seen) >= 60
    assert max(seen) <= 180


def test_colour_matrix_by_hand() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = (200, 100, 50)  # luma 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
    picture = augment.Image.fromarray(pixels)

    def changed(*factors: float) -> NDArray[np.uint8]:
        return np.asarray(augment._coloured(picture, *factors))[0, 0]

    np.testing.assert_array_equal(changed(1, 1, 1), (200, 100, 50))
    np.testing.assert_array_equal(changed(0.5, 1, 1), (100, 50, 25))
    np.testing.assert_allclose(changed(1, 1, 0), 124, atol=1)
    np.testing.assert_allclose(changed(1, 0, 1), 62, atol=1)  # the picture's mean luma
    # Twice as far from 62.1 and from its own grey: 2 (2 x - 124.2) - 62.1, cut to 0..255.
    np.testing.assert_allclose(changed(1, 2, 0.5), (255, 162, 112), atol=2)


def test_gain_alone_multiplies_within_its_range(samples: NDArray[np.float32]) -> None:
    settings = config.Audio(**NO_SOUND | {"gain_db": 6})
    factors = []
    for seed in range(30):
        result = augment.sound(samples, settings, rng(seed))
        factors.append(result[10] / samples[10])
        np.testing.assert_allclose(result, samples * factors[-1], rtol=1e-4, atol=1e-6)
    assert 10 ** (-6 / 20) <= min(factors) < 0.7
    assert 1.5 < max(factors) <= 10 ** (6 / 20)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_has_the_wanted_ratio(samples: NDArray[np.float32], snr_db: float) -> None:
    settings = config.Audio(**NO_SOUND | {"noise_snr_db": (snr_db, snr_db)})
    noise = augment.sound(samples, settings, rng()) - samples
    measured = 10 * np.log10((samples**2).mean() / (noise**2).mean())
    assert measured == pytest.approx(snr_db, abs=0.2)


def test_silence_stays_silent() -> None:
    settings = config.Audio(augment=1, speed=0)
    assert not augment.sound(np.zeros(1000, np.float32), settings, rng()).any()


def test_shift_moves_and_fills_with_silence(samples: NDArray[np.float32]) -> None:
    settings = config.Audio(**NO_SOUND | {"shift_ms": 100})
    seen = set()
    for seed in range(20):
        result = augment.sound(samples, settings, rng(seed))
        assert len(result) == len(samples)
        places = np.flatnonzero(result)
        start, end = places[0], len(result) - 1 - places[-1]
        assert max(start, end) <= 1602
        n = start - 1 if start > end else -(end)
        if n > 1:
            np.testing.assert_array_equal(result[n:], samples[:-n])
        elif n < -1:
            np.testing.assert_array_equal(result[: n or None], samples[-n:])
        seen.add(n > 0)
    assert seen == {True, False}


def test_the_noise_is_heard_in_the_pauses_around_what_is_said(
    samples: NDArray[np.float32],
) -> None:
    settings = config.Audio(**NO_SOUND | {"pause_ms": 50})
    sizes = set()
    for seed in range(9):
        longer = augment.sound(samples, settings, np.random.default_rng(seed))
        before = int(np.flatnonzero(longer)[0]) - int(np.flatnonzero(samples)[0])
        assert 0 <= before <= 800
        assert 0 <= len(longer) - len(samples) - before <= 800
        np.testing.assert_array_equal(longer[before : before + len(samples)], samples)
        sizes.add(len(longer))
    assert len(sizes) > 5
    noisy = settings.model_copy(update={"noise_snr_db": (20.0, 20.0)})
    assert augment.sound(samples, noisy, np.random.default_rng(0))[:100].any()


def test_a_shift_longer_than_the_sound_leaves_silence() -> None:
    short = np.ones(5, np.float32)
    for n in (-9, -5, 5, 9):
        assert not augment._shifted(short, n).any()
    np.testing.assert_array_equal(augment._shifted(short, 0), short)


def test_speed_moves_length_and_pitch_together(samples: NDArray[np.float32]) -> None:
    settings = config.Audio(**NO_SOUND | {"speed": 0.2})
    factors = []
    for seed in range(20):
        result = augment.sound(samples, settings, rng(seed))
        factor = len(samples) / len(result)
        assert 0.79 < factor < 1.21
        power = np.abs(np.fft.rfft(result * np.hanning(len(result))))
        hertz = np.argmax(power) * 16_000 / len(result)
        assert hertz == pytest.approx(400 * factor, rel=0.01)
        factors.append(factor)
    assert min(factors) < 0.9
    assert max(factors) > 1.1


def test_a_sound_stays_within_one() -> None:
    loud = np.sign(rng().normal(size=5000)).astype(np.float32)
    for seed in range(5):
        result = augment.sound(loud, config.Audio(augment=1), rng(seed))
        assert result.dtype == np.float32
        assert np.abs(result).max() <= 1


def test_a_sound_of_one_sample_survives() -> None:
    for seed in range(20):
        assert len(augment.sound(np.ones(1, np.float32), config.Audio(augment=1), rng(seed))) >= 1


def test_a_mask_hides_one_stretch_and_one_band_behind_the_mean(frames: NDArray[np.float32]) -> None:
    settings = config.Audio(mask_time=0.3, mask_frequency=0.3)
    widths = set()
    for seed in range(30):
        result = augment.mask(frames, settings, rng(seed))
        changed = result != frames
        rows, columns = changed.all(axis=1), changed.all(axis=0)
        np.testing.assert_array_equal(changed, rows[:, None] | columns[None, :])
        for hidden in (rows, columns):
            assert (np.diff(np.flatnonzero(hidden)) == 1).all()  # one piece
        assert rows.sum() <= 30
        assert columns.sum() <= 12
        mean = np.broadcast_to(frames.mean(axis=0), frames.shape)
        np.testing.assert_array_equal(result[changed], mean[changed])
        widths.add((int(rows.sum()), int(columns.sum())))
    assert len(widths) > 20


def test_one_frame_can_be_masked_no_further_than_it_goes() -> None:
    one = np.ones((1, 5), np.float32)
    np.testing.assert_array_equal(augment.mask(one, config.Audio(), rng()), one)


def test_tokens_drop_positions_in_order_never_all() -> None:
    pieces = np.arange(200, dtype=np.int32).reshape(100, 2)
    result = augment.tokens(pieces, 0.3, rng())
    assert 55 < len(result) < 85
    np.testing.assert_array_equal(result[:, 1], result[:, 0] + 1)
    assert (np.diff(result[:, 0]) > 0).all()
    for seed in range(20):
        assert len(augment.tokens(pieces, 1.0, rng(seed))) == 1
    assert len(augment.tokens(pieces[:0], 0.5, rng())) == 0


def test_some_recordings_stay_as_they_are() -> None:
    samples = np.linspace(-0.5, 0.5, 16_000, dtype=np.float32)
    half = config.Audio(augment=0.5)
    kept = sum(augment.sound(samples, half, rng(seed)) is samples for seed in range(200))
    assert 70 < kept < 130
    assert augment.sound(samples, config.Audio(augment=0), rng()) is samples
