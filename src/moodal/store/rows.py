"""What the journal holds, as its readers and writers see it. Times are seconds since 1970, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Source = Literal["http", "batch", "stream", "v2"]
By = Literal["user", "reviewer"]
Change = Literal["served", "promoted", "refused", "rolled_back", "reload_failed"]


@dataclass(slots=True)
class Served:  # frozen, it would take five times as long to make, and one is made of every answer
    """One answer that was given.

    id: UUID version 7, 32 hexadecimal digits, which sort by time. model: the version, as
    bundle.version gives it. source: the road it came by. caller: the name of the API key, or "".
    label, value, confidence, probabilities, contributions, abstain, reason: as in Prediction. said:
    an answer that is a text, kept only where inputs are. modalities: joined by "+", "" = none.
    language: of the text, as data.language tells it, or "". measures: runtime.measure of the
    record, name -> number. seconds: from the request's arrival to its answer. inputs: modality ->
    sha256 of what was kept. surprise: in [0, 1], how far outside the reference the measures lie, as
    runtime.measure.surprise tells it.
    """

    id: str
    at: float
    model: str
    source: Source
    caller: str
    label: str | None
    value: float | None
    said: str | None
    confidence: float
    probabilities: Mapping[str, float]
    modalities: str
    contributions: Mapping[str, float]
    abstain: bool
    reason: str
    language: str
    measures: Mapping[str, float]
    seconds: float
    inputs: Mapping[str, str] = field(default_factory=dict)
    surprise: float = 0.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody says the right answer was. label: a label, a number or a text, as a manifest's
    label cell holds it."""

    id: str
    prediction: str
    at: float
    label: str
    comment: str
    caller: str
    by: By


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a model. numbers: whatever decided it, as JSON holds it."""

    id: str
    at: float
    change: Change
    model: str
    name: str
    numbers: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that was out of bounds. cleared: None while it lasts.

    name: what, e.g. "drift:text.length". value: the furthest beyond the limit since it was raised.
    sentence_zh: the same in Chinese.
    """

    id: str
    name: str
    raised: float
    cleared: float | None
    value: float
    limit: float
    sentence: str
    sentence_zh: str = ""
