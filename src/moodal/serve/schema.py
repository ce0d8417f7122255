"""What requests and answers look like on the wire; OpenAPI is made from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Sequence = list[float] | list[list[float]]
"""Precomputed features: (D,) or (S, D) numbers."""
Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]
Name = Annotated[str, Field(max_length=200)]


class Body(BaseModel):
    """What a client sends: what is not known is refused rather than ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Ask(Body):
    """One record: any of text, image and audio."""

    text: str | Sequence | None = Field(None, description="Words, or features.")
    image: Base64 | Sequence | None = Field(None, description="A picture file, or features.")
    audio: Base64 | Sequence | None = Field(None, description="A sound file, or features.")
    id: Name | None = Field(None, description="Comes back with the answer.")


class AskOne(Ask):
    explain: bool = Field(False, description="Also say which words and regions moved the answer.")


class AskMany(Body):
    records: list[Ask] = Field(min_length=1)
    explain: bool = False


class Reply(BaseModel):
    """What the service sends."""

    model_config = ConfigDict(frozen=True)


class Fault(Reply):
    code: str = Field(description="For programs.")
    message: str = Field(description="For people: the value, what is allowed, what to do.")
    field: str = Field(description="The part of the request at fault, or nothing.")


class Failed(Reply):
    error: Fault


class Spoken(Reply):
    text: str
    confidence: float = Field(ge=0, le=1)
    start: float | None
    end: float | None


class Answer(Reply):
    """The contract of `moodal predict --json`, the prediction's id and the model's version."""

    id: str
    label: str | None
    value: float | None
    probabilities: dict[str, float]
    confidence: float = Field(ge=0, le=1)
    modalities: list[Literal["text", "image", "audio"]]
    contributions: dict[str, float]
    text: str | None
    tokens: list[Spoken]
    words: list[tuple[str, float]]
    regions: list[list[float]]
    abstain: bool
    reason: Literal["", "unsure", "unfamiliar", "empty"]
    prediction_id: str = Field(pattern="^[0-9a-f]{32}$")
    model_version: str


class FailedRecord(Failed):
    id: str


class Answers(Reply):
    answers: list[Answer | FailedRecord]


Schema = dict[str, Any]
