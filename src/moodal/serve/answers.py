"""POST /v1/predict and /v1/predict/batch: the road of almost every request, kept short."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import pydantic
from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from moodal.data.manifest import features_of
from moodal.errors import RecordError
from moodal.serve import forms, limits
from moodal.serve.errors import RefusalError, refusal_of
from moodal.serve.schema import Answer, Answers, Ask, AskMany, AskOne, Body, Sequence
from moodal.serve.service import Service
from moodal.types import Media, Modality, Record, Rejection

Asked = TypeVar("Asked", bound=Body)

FIELDS = ("text", "image", "audio", "explain", "id")
TRUE, FALSE = (b"true", b"1", b"yes", b"on"), (b"false", b"0", b"no", b"off", b"")


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["answers"])

    @routes.post("/v1/predict", response_model=Answer)
    async def predict(request: Request) -> Response:
        """Answer one record."""
        headers = dict(request.scope["headers"])
        content = await limits.body(request.receive, headers, service.settings.limits)
        record, explain = one(content, headers.get(b"content-type", b""))
        return _json(await service.answer(record, source="http", explain=explain))

    @routes.post("/v1/predict/batch", response_model=Answers)
    async def predict_batch(request: Request) -> Response:
        """Answer up to so many records; one bad record fails alone."""
        headers = dict(request.scope["headers"])
        content = await limits.body(request.receive, headers, service.settings.limits)
        _only_json(headers.get(b"content-type", b""))
        asked = parsed(AskMany, content)
        records = [_or_rejection(ask, str(place)) for place, ask in enumerate(asked.records)]
        return _json({"answers": await service.answers(records, explain=asked.explain)})

    return routes


def _json(values: object) -> Response:
    return Response(to_json(values), media_type="application/json")


def one(content: bytes, content_type: bytes) -> tuple[Record, bool]:
    """A record and whether to explain it, from JSON or a form. Raises: RefusalError."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        return _from_form(forms.parse(content, content_type))
    _only_json(content_type)
    ask = parsed(AskOne, content)
    try:
        return record_of(ask, "0"), ask.explain
    except RecordError as error:
        raise refusal_of(error) from error


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
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return RefusalError("invalid", "there is no such field; leave it out", place)
    found = repr(first["input"])
    shown = found if len(found) <= 60 else found[:57] + "..."
    return RefusalError("invalid", f"holds {shown}: {first['msg']}", place)


def record_of(ask: Ask, id: str) -> Record:
    """id: what it is called where it has no name. Raises: RecordError."""
    text = ask.text if isinstance(ask.text, str | None) else features_of(ask.text, "text")
    image, audio = _media(ask.image, "image"), _media(ask.audio, "audio")
    return Record(ask.id or id, text=text, image=image, audio=audio)


def _or_rejection(ask: Ask, id: str) -> Record | Rejection:
    try:
        return record_of(ask, id)
    except RecordError as error:
        return error.rejection(ask.id or id, "record")


def _media(value: str | Sequence | None, modality: Modality) -> Media | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        return features_of(value, modality)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordError(
            f"is not base64 ({error}); send the bytes of a file so encoded", field=modality
        ) from error


def _from_form(fields: dict[str, bytes]) -> tuple[Record, bool]:
    if extra := sorted(set(fields) - set(FIELDS)):
        raise RefusalError(
            "invalid",
            f"there is no such field; a form may have {', '.join(FIELDS)}",
            extra[0][:100],
        )
    flag = fields.get("explain", b"").strip().lower()
    if flag not in TRUE + FALSE:
        raise RefusalError("invalid", "must be true or false", "explain")
    words = {name: _utf8(fields[name], name) for name in ("text", "id") if name in fields}
    record = Record(
        words.get("id") or "0",
        text=words.get("text"),
        image=fields.get("image") or None,
        audio=fields.get("audio") or None,
    )
    return record, flag in TRUE


def _utf8(value: bytes, field: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusalError("invalid", f"is not UTF-8 ({error.reason})", field) from error


def _only_json(content_type: bytes) -> None:
    kind = content_type.partition(b";")[0].strip().lower()
    if kind not in (b"application/json", b""):
        raise RefusalError(
            "media_type",
            f"the content type is {kind[:100]!r}; send application/json or multipart/form-data",
        )
