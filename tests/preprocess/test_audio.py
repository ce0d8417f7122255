"""Any recording in, 16 kHz mono out; frames agree with the definition written as plain sums."""

from __future__ import annotations

import io
import sys
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from moodal import config
from moodal.errors import ConfigError, RecordError
from moodal.preprocess import audio

SETTINGS = config.Audio(normalise="none")
RATE = 16_000


def tone(rate: int = RATE, *, seconds: float = 1.0, hertz: float = 440.0) -> NDArray[np.float32]:
    n = np.arange(round(rate * seconds))
    return (0.5 * np.sin(2 * np.pi * hertz * n / rate)).astype(np.float32)


def file_of(samples: NDArray[np.float32], rate: int = RATE, kind: str = "WAV", **kw: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **kw)
    return file.getvalue()


def coded(kind: str, codec: str, rate: int, *, seconds: float = 1.0, channels: int = 1) -> bytes:
    """A tone as FFmpeg writes it; channel k is the tone times 1 / (k + 1)."""
    layout = {1: "mono", 2: "stereo"}[channels]
    sound = np.stack([tone(rate, seconds=seconds) / (k + 1) for k in range(channels)])
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def loudest_hertz(samples: NDArray[np.float32]) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(power) * RATE / len(samples))


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_lossless_at_our_rate_gives_the_very_samples(kind: str) -> None:
    given = np.round(tone() * 32768).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, given, RATE, format=kind, subtype="PCM_16")
    result = audio.decode(file.getvalue(), SETTINGS)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result * 32768, given)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "OGG"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_every_rate_keeps_the_pitch_and_the_length(kind: str, rate: int) -> None:
    result = audio.decode(file_of(tone(rate), rate, kind), SETTINGS)
    assert abs(len(result) - RATE) < 0.1 * RATE  # MP3 pads with silence
    assert loudest_hertz(result) == pytest.approx(440, abs=3)
    assert np.abs(result).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(channels: int) -> None:
    many = np.random.default_rng(0).uniform(-1, 1, (500, channels)).astype(np.float32)
    result = audio.decode(file_of(many, subtype="FLOAT"), SETTINGS)
    np.testing.assert_allclose(result, many.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [
        ("ogg", "libopus", 48_000),
        ("webm", "libopus", 48_000),
        ("ipod", "aac", 44_100),
        ("adts", "aac", 44_100),
    ],
)
def test_phones_and_browsers_are_understood(kind: str, codec: str, rate: int) -> None:
    result = audio.decode(coded(kind, codec, rate, channels=2), SETTINGS)
    assert abs(len(result) - RATE) < 0.1 * RATE
    middle = result[4000:12000]
    assert loudest_hertz(middle) == pytest.approx(440, abs=3)
    # The mean of a tone of 0.5 and one of 0.25.
    assert np.abs(middle).max() == pytest.approx(0.375, abs=0.03)


def test_without_the_extra_its_absence_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    data = coded("ipod", "aac", 44_100)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RecordError, match=r"an MP4 or M4A file; .*pip install 'moodal\[media\]'"):
        audio.decode(data, SETTINGS)
    audio.decode(file_of(tone()), SETTINGS)  # what the base install reads is unaffected


def test_a_playlist_cannot_make_ffmpeg_open_other_files(tmp_path: Path) -> None:
    other = tmp_path / "other.aac"
    other.write_bytes(coded("adts", "aac", 44_100))
    # A first byte that is no text, so that it is FFmpeg that is asked.
    playlist = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\x01\n{other.as_uri()}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(RecordError, match="cannot be read"):
        audio.decode(playlist.encode(), SETTINGS)


def test_path_and_bytes_agree_whatever_the_name(tmp_path: Path) -> None:
    data = file_of(tone(44_100), 44_100, "FLAC")
    for name in ("声音.flac", "x.wav", "x.raw", "x"):
        path = tmp_path / name
        path.write_bytes(data)
        np.testing.assert_array_equal(audio.decode(path, SETTINGS), audio.decode(data, SETTINGS))


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_long_recording_is_cut_and_its_rest_not_read(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    sound = np.tile(tone(rate), 120)
    soundfile.write(path, sound, rate)
    settings = config.Audio(max_seconds=2)
    tracemalloc.start()
    result = audio.decode(path, settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = audio.decode(file_of(sound[: 2 * rate], rate), settings)
    np.testing.assert_array_equal(result, whole)
    assert len(result) == 2 * RATE
    assert peak < sound.nbytes / 3


def test_cutting_happens_at_the_same_place_in_every_reader() -> None:
    settings = config.Audio(max_seconds=0.5)
    for data in (file_of(tone(48_000), 48_000), coded("webm", "libopus", 48_000)):
        assert len(audio.decode(data, settings)) == RATE // 2


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "webm"])
def test_too_long_a_recording_is_refused_by_its_header(kind: str) -> None:
    settings = config.Audio(limit_seconds=1.5)
    if kind == "webm":
        data = coded("webm", "libopus", 48_000, seconds=2)
    else:
        data = file_of(tone(seconds=2), kind=kind)
    with pytest.raises(RecordError, match=r"lasts 2 s, at most 2 s .*audio\.limit_seconds"):
        audio.decode(data, settings)


def test_a_3_hour_recording_is_refused_unread(tmp_path: Path) -> None:
    path, seconds = tmp_path / "meeting.wav", 3 * 3600
    header = bytearray(file_of(np.zeros(1, np.float32))[:44])
    header[4:8] = (36 + seconds * 2 * RATE).to_bytes(4, "little")
    header[40:44] = (seconds * 2 * RATE).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(44 + seconds * 2 * RATE)  # a hole: takes no disk
    with pytest.raises(RecordError, match=r"meeting\.wav: lasts 10,800 s, at most 3,600 s"):
        audio.decode(path, SETTINGS)


def test_a_flac_that_does_not_know_its_length_is_read() -> None:
    given = np.round(tone() * 32768) / 32768
    data = bytearray(file_of(given, kind="FLAC", subtype="PCM_16"))
    data[21] &= 0xF0  # STREAMINFO's 36 bits of total samples: 0 = unknown, as piped encoders write
    data[22:26] = bytes(4)
    np.testing.assert_array_equal(audio.decode(bytes(data), SETTINGS), given)


@pytest.mark.parametrize("kind", ["WAV", "OGG"])
def test_a_recording_of_no_samples_is_refused(kind: str) -> None:
    with pytest.raises(RecordError, match="holds no sound"):
        audio.decode(file_of(np.zeros(0, np.float32), kind=kind), SETTINGS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_samples_that_are_not_numbers_are_refused(value: float, rate: int) -> None:
    sound = np.stack([tone(), -tone()], axis=1)
    sound[700] = value, -value
    with pytest.raises(RecordError, match="NaN or infinite"):
        audio.decode(file_of(sound, rate, subtype="FLOAT"), SETTINGS)


def test_samples_stay_within_one() -> None:
    square = np.sign(tone(48_000)) * 3
    result = audio.decode(file_of(square, 48_000, subtype="FLOAT"), SETTINGS)
    assert np.abs(result).max() == 1


def test_a_bad_path_is_named(tmp_path: Path) -> None:
    empty, text, picture = tmp_path / "e.wav", tmp_path / "notes.wav", tmp_path / "p.mp3"
    huge = tmp_path / "huge.wav"
    empty.touch()
    text.write_text("What a lovely day, 真开心！ It could not be better.", encoding="utf-8")
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with huge.open("wb") as file:
        file.truncate(audio.MAX_BYTES + 1)
    for path, words in (
        (tmp_path / "gone.wav", r"gone\.wav: No such file"),
        (tmp_path, "is not a file"),
        (empty, r"e\.wav: is empty"),
        (text, r"notes\.wav: is a text file, not a recording; wav, flac, mp3 and ogg"),
        (picture, r"p\.mp3: is a PNG picture, not a recording"),
        (huge, "at most 2,000,000,000"),
    ):
        with pytest.raises(RecordError, match=words) as raised:
            audio.decode(path, SETTINGS)
        assert raised.value.field == "audio"


def test_an_array_is_refused_since_it_could_be_features() -> None:
    with pytest.raises(RecordError, match="features"):
        audio.decode(tone(), SETTINGS)


def test_damage_is_a_rejection_and_nothing_else() -> None:
    rng = np.random.default_rng(2)
    files = [file_of(tone(), kind=kind) for kind in ("WAV", "FLAC", "MP3", "OGG")]
    files += [coded("ipod", "aac", 44_100), coded("webm", "libopus", 48_000)]
    n_refused = 0
    for data in files:
        for _ in range(15):
            broken = np.frombuffer(data, np.uint8).copy()[: rng.integers(1, len(data))]
            places = rng.integers(0, min(len(broken), 400), 4)
            broken[places] = rng.integers(0, 256, 4)
            try:
                assert len(audio.decode(broken.tobytes(), SETTINGS)) > 0
            except RecordError:
                n_refused += 1
    assert n_refused > 10


def test_wav_round_trip() -> None:
    given = np.append(tone(), [1.0, -1.0]).astype(np.float32)
    result = audio.decode(audio.wav(given), SETTINGS)
    np.testing.assert_allclose(result, given, atol=1.01 / 32768)
    info = soundfile.info(io.BytesIO(audio.wav(given)))
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")


def reference_logmel(
    samples: NDArray[np.float32], settings: config.Audio, n_fft: int
) -> NDArray[np.float64]:
    """The definition, as sums over n, k and m: no FFT, no matrix of filters, float64."""
    length, hop = round(settings.frame_ms * 16), round(settings.hop_ms * 16)
    top = 2595 * np.log10(1 + 8000 / 700)
    corner = [700 * (10 ** (top * i / (settings.n_mels + 1) / 2595) - 1) for i in range(99)]
    rows = []
    for start in range(0, len(samples) - length + 1, hop):
        n = np.arange(length)
        x = samples[start : start + length] * np.sin(np.pi * n / length) ** 2
        k = np.arange(n_fft // 2 + 1)[:, None]
        power = np.abs((x * np.exp(-2j * np.pi * k * n / n_fft)).sum(axis=1)) ** 2
        row = []
        for m in range(settings.n_mels):
            low, middle, high = corner[m : m + 3]
            energy = 0.0
            for i, p in enumerate(power):
                hertz = i * RATE / n_fft
                if low < hertz <= middle:
                    energy += p * (hertz - low) / (middle - low)
                elif middle < hertz < high:
                    energy += p * (high - hertz) / (high - middle)
            row.append(np.log(max(energy, 1e-10)))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(("frame_ms", "n_fft"), [(25.0, 512), (32.0, 512), (10.1, 256)])
def test_logmel_is_what_its_definition_says(frame_ms: float, n_fft: int) -> None:
    settings = config.Audio(normalise="none", frame_ms=frame_ms, hop_ms=12.5, n_mels=23)
    samples = (tone(seconds=0.2) + np.random.default_rng(0).normal(0, 0.1, 3200)).astype(np.float32)
    result = audio.frames(samples, settings)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference_logmel(samples, settings, n_fft), atol=2e-4)


def test_many_frames_agree_with_each_frame_alone() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, RATE * 4).astype(np.float32)
    result = audio.frames(samples, SETTINGS)
    assert len(result) == 1 + (4 * RATE - 400) // 160
    for s in (0, 127, 128, 129, 255, 256, len(result) - 1):
        alone = audio.frames(samples[s * 160 : s * 160 + 400], SETTINGS)
        np.testing.assert_allclose(result[s : s + 1], alone, atol=1e-4)


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    # Band m is centred at (m + 1) / 65 of 2840 mel; 1000 Hz is 1000 mel: m + 1 = 22.9.
    assert audio.frames(tone(hertz=1000), SETTINGS).mean(axis=0).argmax() == 22


def test_twice_the_amplitude_adds_ln_4() -> None:
    soft = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    louder = audio.frames(2 * soft, SETTINGS) - audio.frames(soft, SETTINGS)
    np.testing.assert_allclose(louder, np.log(4), atol=1e-3)


def test_mfcc_is_the_cosine_transform_of_logmel() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    logmel = audio.frames(samples, config.Audio(normalise="none", n_mels=30)).astype(np.float64)
    mfcc = audio.frames(
        samples, config.Audio(normalise="none", feature="mfcc", n_mels=30, n_mfcc=30, deltas=False)
    )
    for k in range(30):
        scale = np.sqrt((1 if k == 0 else 2) / 30)
        expected = sum(
            scale * logmel[:, n] * np.cos(np.pi * k * (2 * n + 1) / 60) for n in range(30)
        )
        np.testing.assert_allclose(mfcc[:, k], expected, atol=1e-4)
    # All of an orthonormal transform keeps lengths.
    np.testing.assert_allclose((mfcc**2).sum(axis=1), (logmel**2).sum(axis=1), rtol=1e-4)


def test_differences_by_hand() -> None:
    ramp = np.array([[0], [1], [2], [3], [4]], np.float32)
    # ((next - last) + 2 (next but one - last but one)) / 10, the ends repeated.
    expected = [[(1 + 2 * 2) / 10], [(2 + 2 * 3) / 10], [1], [(2 + 2 * 3) / 10], [(1 + 2 * 2) / 10]]
    np.testing.assert_allclose(audio._differences(ramp), expected, atol=1e-6)


def test_mfcc_carries_its_first_and_second_differences() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    result = audio.frames(samples, config.Audio(feature="mfcc"))
    np.testing.assert_array_equal(result[:, 20:40], audio._differences(result[:, :20]))
    np.testing.assert_array_equal(result[:, 40:], audio._differences(result[:, 20:40]))


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        (config.Audio(), 64),
        (config.Audio(feature="mfcc"), 60),
        (config.Audio(feature="mfcc", n_mfcc=13, deltas=False), 13),
    ],
)
@pytest.mark.parametrize("n_samples", [1, 399, 400, 559, 560, 700])
def test_the_shape_is_as_promised(settings: config.Audio, width: int, n_samples: int) -> None:
    result = audio.frames(np.full(n_samples, 0.1, np.float32), settings)
    assert result.shape == (1 if n_samples < 560 else 2, width)
    assert audio.n_features(settings) == width
    assert np.isfinite(result).all()


def test_silence_has_a_floor() -> None:
    silence = audio.frames(np.zeros(800, np.float32), SETTINGS)
    np.testing.assert_allclose(silence, np.log(1e-10), rtol=1e-6)


def test_frames_leave_what_they_are_given_as_it_is() -> None:
    samples = tone()
    samples.flags.writeable = False
    audio.frames(samples, SETTINGS)


def test_more_coefficients_than_bands_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"n_mfcc=20 is above audio\.n_mels=10"):
        audio.frames(tone(), config.Audio(feature="mfcc", n_mels=10))


def test_a_fixed_filter_leaves_no_trace_once_bands_are_normalised() -> None:
    bands = config.Audio(normalise="bands")
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    clear = audio.frames(noise, bands)
    assert np.abs(clear.mean(axis=0)).max() < 1e-4
    np.testing.assert_allclose(audio.frames(0.25 * noise, bands), clear, atol=1e-3)


def test_level_takes_loudness_away_and_leaves_the_balance_of_bands() -> None:
    plain = audio.frames(tone(), SETTINGS)
    plain = np.maximum(plain, plain.max() - np.log(1e8))  # 80 dB under the loudest, no lower
    level = audio.frames(tone(), config.Audio(normalise="level"))
    np.testing.assert_allclose(level, plain - plain.mean(), atol=1e-4)
