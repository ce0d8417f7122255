"""What requests and answers look like on the wire; OpenAPI is made from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from moodal.serve.errors import RefusalError

Sequence = list[float] | list[list[float]]
"""Precomputed features: (D,) or (S, D) numbers."""
Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]
Name = Annotated[str, Field(max_length=200)]
Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
ModalityName = Literal["text", "image", "audio"]
Order = Literal["uncertain", "disagreeing", "drifted", "newest"]

SHOWN = 60
"""Characters of a wrong value that are told back."""
_UNION = ("str", "list[float]", "list[list[float]]", "int", "float")
"""What pydantic calls the members of our unions, where it says which part is wrong."""


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
    explain: bool = Field(False, description="As for one record, of each.")


class Feedback(Body):
    """What the right answer was."""

    prediction_id: Id
    label: str | float | None = Field(None, description="The right label, number or text.")
    correct: bool | None = Field(None, description="true: the answer was right; then no label.")
    comment: str = ""
    reviewed: bool = Field(False, description="Said by a reviewer, whose word counts most.")


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
    modalities: list[ModalityName]
    contributions: dict[str, float]
    text: str | None
    tokens: list[Spoken]
    words: list[tuple[str, float]]
    regions: list[list[float]]
    abstain: bool
    reason: Literal["", "unsure", "unfamiliar", "empty"]
    prediction_id: Id
    model_version: str


class FailedRecord(Failed):
    id: str


class Answers(Reply):
    answers: list[Answer | FailedRecord]


class Accepted(Reply):
    id: Id = Field(description="Of the judgement.")


class JudgementRow(Reply):
    label: str
    comment: str
    at: float
    by: Literal["user", "reviewer"]


class ReviewRow(Reply):
    """A prediction that no reviewer has judged. inputs: modality -> SHA-256, see /v1/inputs."""

    id: Id
    at: float
    model: str
    source: str
    label: str | None
    value: float | None
    said: str | None
    confidence: float
    probabilities: dict[str, float]
    modalities: str
    contributions: dict[str, float]
    abstain: bool
    reason: str
    language: str
    surprise: float
    inputs: dict[str, Sha256]
    judgement: JudgementRow | None


class ReviewRows(Reply):
    rows: list[ReviewRow]


class Alive(Reply):
    status: Literal["alive"]


class Ready(Reply):
    ready: bool
    model_version: str
    journal: str = Field(description='"reachable", or why rows wait in the spool.')
    waiting_bytes: int = Field(description="Of rows on their way to the journal.")


class ModelCard(Reply):
    name: str
    version: str
    task: str
    labels: list[str]
    modalities: list[ModalityName]
    kinds: dict[str, str]
    created: str
    threshold: float | None
    parameters: int
    scores: dict[str, Any]
    transcriber: bool
    keeps_inputs: bool
    limits: dict[str, float]


Asked = TypeVar("Asked", bound=Body)


def parsed(model: type[Asked], content: bytes) -> Asked:
    """A JSON body. Raises: RefusalError (400, 422)."""
    try:
        return model.model_validate_json(content)
    except pydantic.ValidationError as error:
        raise refused(error) from None


def refused(error: pydantic.ValidationError) -> RefusalError:
    """The first of pydantic's errors, for people."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return RefusalError("not_json", f"the body is not JSON: {first['ctx']['error']}")
    return invalid(first["type"], first["msg"], first["loc"], first["input"])


def invalid(kind: str, message: str, place: tuple[int | str, ...], found: object) -> RefusalError:
    """kind, message: as pydantic names them. found: what stood there."""
    named = [str(part) for part in place if part not in _UNION]
    if kind == "extra_forbidden":
        return RefusalError("invalid", "there is no such field; leave it out", ".".join(named))
    shown = repr(found)
    shown = shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "..."
    return RefusalError("invalid", f"holds {shown}: {message}", ".".join(named))
