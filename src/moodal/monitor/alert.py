"""Alerts that do not flutter: raised after two looks above a limit, cleared after two below a lower
one, told in two languages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from moodal.monitor.drift import Drift
from moodal.monitor.quality import Quality

Step = Literal["raise", "clear", "stay"]

TWICE = 2
"""Looks in a row that raise an alert, or clear it."""
CALM = 0.4
"""An alert of drift clears under this share of its limit: 0.1 of 0.25, under which Siddiqi (2006)
sees no change."""
SHORTFALL, FADED = 0.1, 0.05
"""Estimated accuracy this far under that of the validation rows alerts; clears."""
WORSE, EVEN = 0.05, 0.0
"""The upper end of accuracy by feedback this far under what confidence says of the same answers."""
SHOWN_ONLY = ("modalities",)
"""What records consist of is their senders' choice, and whatever it is, it is answered."""
FEW_ESTIMATED, FEW_JUDGED = 100, 30
"""Under so many answers, or judgements, nothing is said."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A number to be watched; the larger the worse. From limit on it alerts, under clear no more.

    sentences: English, Chinese.
    """

    name: str
    value: float
    limit: float
    clear: float
    sentences: tuple[str, str]


class Hysteresis:
    """Which alerts are open. opened: those that were when it began."""

    def __init__(self, opened: Iterable[str] = ()) -> None:
        self.opened = set(opened)
        self._runs: Counter[str] = Counter()

    def step(self, signal: Signal) -> Step:
        """raise: it opens, or is open and still beyond the limit. clear: it is over."""
        name, is_open = signal.name, signal.name in self.opened
        beyond = signal.value >= signal.limit
        turns = signal.value < signal.clear if is_open else beyond
        self._runs[name] = self._runs[name] + 1 if turns else 0
        if self._runs[name] < TWICE:
            return "raise" if is_open and beyond else "stay"
        self._runs[name] = 0
        if is_open:
            self.opened.remove(name)
            return "clear"
        self.opened.add(name)
        return "raise"


def signals(
    drifts: Iterable[Drift], quality: Quality, *, validated: float | None
) -> Iterator[Signal]:
    """What there is to watch; of too few answers nothing. validated: accuracy on the validation
    rows."""
    for drift in drifts:
        if drift.state != "few" and drift.measure not in SHOWN_ONLY:
            yield _of_drift(drift)
    estimated, feedback, expected = quality.estimated, quality.feedback_interval, quality.expected
    if estimated is not None and validated is not None and quality.n >= FEW_ESTIMATED:
        yield _of_estimate(estimated, validated)
    if feedback is not None and expected is not None and quality.n_feedback >= FEW_JUDGED:
        yield _of_feedback(feedback[1], expected, quality.n_feedback)


def _of_drift(drift: Drift) -> Signal:
    # Beyond the limit by PSI alone is not beyond it.
    value = drift.psi if drift.state == "drifting" else min(drift.psi, CALM * drift.psi_limit)
    english, chinese = named(drift.measure)
    apart = "" if drift.ks is None else f", KS {drift.ks:.2f}"
    return Signal(
        f"drift:{drift.measure}",
        value,
        drift.psi_limit,
        CALM * drift.psi_limit,
        (
            f"{english} drifted from the validation data: PSI {drift.psi:.2f}{apart} over "
            f"{drift.n:,} answers (limit {drift.psi_limit:.2f})",
            f"{chinese}偏离了验证数据：{drift.n:,} 条回答的 PSI 为 {drift.psi:.2f}"
            f"{apart.replace(', ', '，')}（限值 {drift.psi_limit:.2f}）",
        ),
    )


def _of_estimate(estimated: float, validated: float) -> Signal:
    return Signal(
        "accuracy:estimated",
        validated - estimated,
        SHORTFALL,
        FADED,
        (
            f"By its own confidence the model is right in {estimated:.1%} of its answers; on the "
            f"validation data it was in {validated:.1%}",
            f"按模型自己的置信度，估计正确率为 {estimated:.1%}；验证数据上为 {validated:.1%}",
        ),
    )


def _of_feedback(upper: float, expected: float, n: int) -> Signal:
    return Signal(
        "accuracy:feedback",
        expected - upper,
        WORSE,
        EVEN,
        (
            f"Of {n:,} answers that people judged at most {upper:.1%} are right; by the model's "
            f"confidence {expected:.1%} should be",
            f"{n:,} 条有人评判的回答中至多 {upper:.1%} 正确；按模型的置信度应为 {expected:.1%}",
        ),
    )


def named(measure: str) -> tuple[str, str]:
    """What a measure is called, in English and in Chinese."""
    if measure in _NAMES:
        return _NAMES[measure]
    modality, _, name = measure.partition(".")
    english, chinese = _MODALITIES.get(modality, (modality, modality))
    if name.startswith("projection_"):
        place = name.removeprefix("projection_")
        return f"The content of {english} (projection {place})", f"{chinese}内容（投影 {place}）"
    if name == "length":
        return f"The length of {english}", f"{chinese}长度"
    return measure, measure


_MODALITIES = {
    "text": ("texts", "文本"),
    "image": ("pictures", "图片"),
    "audio": ("recordings", "录音"),
}
_NAMES = {
    "text.known": ("The share of known words", "已知词语比例"),
    "image.brightness": ("The brightness of pictures", "图片亮度"),
    "image.contrast": ("The contrast of pictures", "图片对比度"),
    "audio.loudness_db": ("The loudness of recordings", "录音响度"),
    "audio.seconds": ("The duration of recordings", "录音时长"),
    "confidence": ("The confidence of answers", "回答的置信度"),
    "value": ("The value of answers", "回答的数值"),
    "label": ("The shares of the labels", "各标签的占比"),
    "reason": ("The share of answers that abstain", "弃权回答的占比"),
    "language": ("The shares of the languages", "各语言的占比"),
    "modalities": ("What records consist of", "记录的模态组成"),
}
