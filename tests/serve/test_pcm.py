"""Live bytes -> samples: cut anywhere, the same sound; what is no sound is refused at once."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from moodal.errors import CapacityError, ConfigError, RecordError
from moodal.serve.pcm import FORMATS, MUTE_BYTES
from tests.serve.speech import cut, pcm, recorded, say


def heard(chunks: list[bytes], format: str, rate: int = 16_000) -> NDArray[np.float32]:
    return np.concatenate(list(FORMATS[format](iter(chunks), rate)))  # type: ignore[index]


@pytest.mark.parametrize("n_bytes", [1, 3, 1000, 10**6])
def test_pcm_cut_anywhere_is_the_same_sound(n_bytes: int) -> None:
    samples = say(0.5)
    got = heard(cut(pcm(samples), n_bytes), "pcm16")
    assert len(got) == len(samples)
    np.testing.assert_allclose(got, samples, atol=2 / 32768)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 192_000])
def test_pcm_of_any_rate_becomes_16_khz_as_a_whole_file_would(rate: int) -> None:
    samples = say(0.5)
    data = pcm(soxr.resample(samples, 16_000, rate))
    whole = soxr.resample(np.frombuffer(data, "<i2").astype(np.float32) / 32768, rate, 16_000)
    np.testing.assert_allclose(heard(cut(data, 999), "pcm16", rate), whole, atol=1e-4)


def test_half_a_sample_at_the_end_is_dropped() -> None:
    data = pcm(say(0.1))
    np.testing.assert_array_equal(heard([data, b"\x01"], "pcm16"), heard([data], "pcm16"))


@pytest.mark.parametrize("format", ["webm", "ogg"])
@pytest.mark.parametrize("n_bytes", [1, 7, 1000, 10**6])
def test_a_recorders_file_cut_anywhere_is_the_same_sound(format: str, n_bytes: int) -> None:
    samples = say(1)
    data = recorded(samples, format)
    got = heard([b"", *cut(data, n_bytes)], format)
    np.testing.assert_array_equal(got, heard([data], format))
    n_samples = min(len(got), len(samples))
    assert n_samples == pytest.approx(len(samples), abs=160)
    # Opus keeps what is heard rather than the samples; it must still be this voice.
    assert np.corrcoef(got[:n_samples], samples[:n_samples])[0, 1] > 0.9


@pytest.mark.parametrize("format", ["webm", "ogg"])
def test_a_recording_is_heard_while_it_goes_on(format: str) -> None:
    data = recorded(say(4), format)
    given = 0

    def slowly() -> Iterator[bytes]:
        nonlocal given
        for chunk in cut(data, 500):
            given += len(chunk)
            yield chunk

    next(block for block in FORMATS[format](slowly(), 0) if len(block))  # type: ignore[index]
    assert given < len(data) / 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "begins with nothing"),
        (b"RI", "begins with 52 49"),
        (pcm(say(0.1)), "neither WebM nor Ogg"),
        (recorded(say(1))[1000:], "neither WebM nor Ogg"),
        (b"\x1a\x45\xdf\xa3" + bytes(5000), "damaged"),
        (b"OggS" + b"x" * 5000, "damaged"),
        (recorded(say(0.1), "matroska", "pcm_s16le"), "sound as pcm_s16le"),
        (recorded(say(0.1), "ogg", "flac"), "sound as flac"),
        (recorded(say(0.1))[:600] + bytes(2 * MUTE_BYTES), "without a sound"),
    ],
)
def test_what_is_no_recording_is_refused_with_a_sentence(data: bytes, says: str) -> None:
    with pytest.raises(RecordError, match=says) as caught:
        heard(cut(data, 5000), "webm")
    assert caught.value.field == "audio"


def test_endless_bytes_without_a_sound_are_not_read_to_the_end() -> None:
    begin = recorded(say(0.1))[:600]
    endless = itertools.chain([begin], itertools.repeat(bytes(10_000)))
    with pytest.raises(RecordError, match="without a sound"):
        list(FORMATS["webm"](endless, 0))


def test_garbage_in_the_middle_is_passed_over_or_refused() -> None:
    data = recorded(say(3))
    noise = np.random.default_rng(0).bytes(2000)
    half = len(data) // 2
    got = heard([data[:half], noise, data[half + 2000 :]], "webm")
    assert len(got) > 16_000


@pytest.mark.parametrize("format", ["webm", "ogg"])
@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_changed_in_a_recording_it_is_heard_or_refused(format: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(recorded(say(0.5), format))
    for place in rng.integers(4, len(data), 1 + seed):
        data[place] = rng.integers(256)
    with suppress(RecordError):
        got = heard(cut(bytes(data), 300), format)
        assert np.isfinite(got).all()


@pytest.mark.parametrize("n_before", [0, 1, 2, 5, 50])
def test_an_error_of_whoever_sends_comes_through(n_before: int) -> None:
    def failing() -> Iterator[bytes]:
        yield from cut(recorded(say(1)), 60)[:n_before]
        raise ConfigError("too long")

    with pytest.raises(ConfigError, match="too long"):
        list(FORMATS["webm"](failing(), 0))


def test_without_pyav_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(CapacityError, match=r"moodal\[media\]"):
        heard([b"x"], "webm")
