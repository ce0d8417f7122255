"""What a model said, seen as sentiment, and what the checklist may expect of it.

Source: Ribeiro, Wu, Guestrin, Singh, Beyond Accuracy: Behavioral Testing of NLP Models with
CheckList (ACL 2020), section 2.2: MFT, minimum functionality test, a known answer; INV,
invariance test; DIR, directional expectation test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from moodal.types import Prediction, Rejection

TOLERANCE = 0.1
"""By how much a probability or the positivity may move and be said to stay. Our choice."""
SURE = 0.7
"""Confidence from which an answer counts as a confident guess. Our choice."""

Type = Literal["MFT", "INV", "DIR"]
Polarity = Literal["negative", "neutral", "positive"]

POLARITIES: dict[str, Polarity] = {
    **dict.fromkeys(("negative", "neg", "bad", "负面", "消极", "负向", "差评"), "negative"),
    **dict.fromkeys(("neutral", "neu", "中性", "中立"), "neutral"),
    **dict.fromkeys(("positive", "pos", "good", "正面", "积极", "正向", "好评"), "positive"),
}
"""A label's name in small letters -> what it means. Labels of other names mean none of these."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said. label: None where it refused, and then `refused` says why.

    polarity: what the label means. positivity: (1 + p(positive) - p(negative)) / 2, in [0, 1];
    None where it refused, or does not know both polarities.
    """

    label: str | None
    polarity: Polarity | None
    probabilities: Mapping[str, float]
    positivity: float | None
    confidence: float
    abstain: bool
    refused: str = ""

    def __str__(self) -> str:
        if self.label is None:
            return f"nothing ({self.refused})"
        felt = "" if self.positivity is None else f", positivity {self.positivity:.2f}"
        return f"{self.label} {self.confidence:.2f}{felt}{', unsure' if self.abstain else ''}"


def polarities_of(labels: Iterable[str]) -> dict[str, Polarity]:
    """Label -> what it means, of those whose name is known."""
    lowered = {label: label.strip().lower() for label in labels}
    return {label: POLARITIES[name] for label, name in lowered.items() if name in POLARITIES}


def answer(said: Prediction | Rejection, polarities: Mapping[str, Polarity]) -> Answer:
    """polarities: as polarities_of makes them, of every label of the model."""
    if isinstance(said, Rejection):
        return Answer(None, None, {}, None, 0.0, abstain=True, refused=said.reason)
    share = dict.fromkeys(polarities.values(), 0.0)
    for label, polarity in polarities.items():
        share[polarity] += said.probabilities[label]
    both = share.keys() >= _BOTH
    return Answer(
        label=said.label,
        polarity=polarities.get(said.label or ""),
        probabilities=said.probabilities,
        positivity=(1 + share["positive"] - share["negative"]) / 2 if both else None,
        confidence=said.confidence,
        abstain=said.abstain,
    )


@dataclass(frozen=True, slots=True)
class Expectation:
    """needs: polarities that the model must know to be asked. holds: (answer, before) -> bool;
    a case that stands alone has itself for `before`."""

    type: Type
    needs: frozenset[Polarity]
    holds: Callable[[Answer, Answer], bool]


def _is(*polarities: Polarity) -> Callable[[Answer, Answer], bool]:
    return lambda said, _: said.polarity in polarities


def _same(said: Answer, before: Answer) -> bool:
    """Stricter than the paper's, for which it is enough that the label stays."""
    moves = [abs(p - before.probabilities.get(k, 0)) for k, p in said.probabilities.items()]
    return said.label == before.label and all(move <= TOLERANCE for move in moves)


def _unsure(said: Answer, before: Answer) -> bool:
    return said.abstain or said.confidence < SURE


def _moved(holds: Callable[[float, float], bool]) -> Callable[[Answer, Answer], bool]:
    """A test of the positivity now and before; a refusal fails it."""

    def moved(said: Answer, before: Answer) -> bool:
        if said.positivity is None or before.positivity is None:
            return False
        return holds(said.positivity, before.positivity)

    return moved


_BOTH: frozenset[Polarity] = frozenset(("negative", "positive"))
_NEGATIVE: frozenset[Polarity] = frozenset(("negative",))
_NEUTRAL: frozenset[Polarity] = frozenset(("neutral",))
_POSITIVE: frozenset[Polarity] = frozenset(("positive",))
_NOT_LOWER = _moved(lambda now, before: now >= before - TOLERANCE)
_NOT_HIGHER = _moved(lambda now, before: now <= before + TOLERANCE)
# What has no room left to move may stay at the end of the scale.
_LOWER = _moved(lambda now, before: now <= max(before - TOLERANCE, TOLERANCE))
_HIGHER = _moved(lambda now, before: now >= min(before + TOLERANCE, 1 - TOLERANCE))

EXPECTATIONS: dict[str, Expectation] = {
    "negative": Expectation("MFT", _NEGATIVE, _is("negative")),
    "neutral": Expectation("MFT", _NEUTRAL, _is("neutral")),
    "positive": Expectation("MFT", _POSITIVE, _is("positive")),
    "not negative": Expectation("MFT", _BOTH, _is("neutral", "positive")),
    "unsure": Expectation("MFT", frozenset(), _unsure),
    "same": Expectation("INV", frozenset(), _same),
    "not lower": Expectation("DIR", _BOTH, _NOT_LOWER),
    "not higher": Expectation("DIR", _BOTH, _NOT_HIGHER),
    "lower": Expectation("DIR", _BOTH, _LOWER),
    "higher": Expectation("DIR", _BOTH, _HIGHER),
}
