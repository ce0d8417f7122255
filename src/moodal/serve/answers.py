"""POST /v1/predict and /v1/predict/batch: the road of almost every request, kept short."""

from __future__ import annotations

import asyncio
import base64
import binascii

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from moodal.data.manifest import features_of
from moodal.errors import RecordError
from moodal.serve import documents, forms, visit
from moodal.serve.errors import RefusalError, refusal_of
from moodal.serve.schema import (
    Answer,
    Answers,
    Ask,
    AskMany,
    AskOne,
    Sequence,
    parsed,
    refused,
)
from moodal.serve.service import Service
from moodal.serve.visit import Lane, Receive, Visit, visit_of
from moodal.types import Media, Modality, Record, Rejection

__all__ = ["lanes", "one", "parsed", "record_of", "refused", "router"]

FIELDS = ("text", "image", "audio", "explain", "id")
TRUE, FALSE = (b"true", b"1", b"yes", b"on"), (b"false", b"0", b"no", b"off", b"")
LARGE_BYTES = 1_000_000
"""A body that takes longer to parse than the way to a thread; the event loop is spared it."""
NAME_CHARACTERS = 200
ONE, MANY = "/v1/predict", "/v1/predict/batch"


def lanes(service: Service) -> dict[str, Lane]:
    """What is posted to a path -> how it is answered: the road that the edge takes at once, past
    everything that a framework does for requests in general."""
    limits = service.settings.limits

    async def predict(came: Visit, receive: Receive) -> bytes:
        kind = came.headers.get(b"content-type", b"")
        content = await visit.whole(service, came, receive)
        if len(content) < LARGE_BYTES:
            record, explain = one(content, kind)
        else:
            record, explain = await asyncio.to_thread(one, content, kind)
        service.rate.take(came.who)
        answer = await service.answer(record, source="http", caller=came.caller, explain=explain)
        return to_json(answer, inf_nan_mode="null")

    async def predict_batch(came: Visit, receive: Receive) -> bytes:
        only_json(came.headers.get(b"content-type", b""))
        content = await visit.whole(service, came, receive)
        if len(content) < LARGE_BYTES:
            records, explain = many(content)
        else:
            records, explain = await asyncio.to_thread(many, content)
        _few(len(records), limits.records)
        service.rate.take(came.who, len(records))
        answers = await service.answers(records, caller=came.caller, explain=explain)
        return to_json({"answers": answers}, inf_nan_mode="null")

    return {ONE: predict, MANY: predict_batch}


def router(service: Service) -> APIRouter:
    """The same roads, as routes: for the documents."""
    routes = APIRouter(tags=["answers"])
    asked = documents.asked(service.settings.limits)
    roads = lanes(service)

    @routes.post(ONE, response_model=Answer, **asked["one"])
    async def predict(request: Request) -> Response:
        """Answer one record: any of text, image and audio."""
        told = await roads[ONE](visit_of(request), request.receive)
        return Response(told, media_type=documents.JSON)

    @routes.post(MANY, response_model=Answers, **asked["many"])
    async def predict_batch(request: Request) -> Response:
        """Answer several records; what is wrong with one is told in its place."""
        told = await roads[MANY](visit_of(request), request.receive)
        return Response(told, media_type=documents.JSON)

    return routes


def one(content: bytes, content_type: bytes) -> tuple[Record, bool]:
    """A record and whether to explain it, from JSON or a form. Raises: RefusalError."""
    if content_type.lower().startswith(b"multipart/form-data"):
        return _from_form(forms.parse(content, content_type))
    only_json(content_type)
    ask = parsed(AskOne, content)
    try:
        return record_of(ask, "0"), ask.explain
    except RecordError as error:
        raise refusal_of(error) from error


def many(content: bytes) -> tuple[list[Record | Rejection], bool]:
    """Records and whether to explain them. Raises: RefusalError."""
    asked = parsed(AskMany, content)
    records = [_or_rejection(ask, str(place)) for place, ask in enumerate(asked.records)]
    return records, asked.explain


def _few(found: int, most: int) -> None:
    if found > most:
        raise RefusalError(
            "invalid", f"has {found:,} records, at most {most:,} are read; send less", "records"
        )


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
        known = ", ".join(FIELDS)
        raise RefusalError(
            "invalid", f"there is no such field; a form may have {known}", extra[0][:100]
        )
    flag = fields.get("explain", b"").strip().lower()
    if flag not in TRUE + FALSE:
        raise RefusalError("invalid", "must be true or false", "explain")
    words = {name: _utf8(fields[name], name) for name in ("text", "id") if name in fields}
    if len(name := words.get("id", "")) > NAME_CHARACTERS:
        raise RefusalError(
            "invalid", f"has {len(name):,} characters, at most {NAME_CHARACTERS} are read", "id"
        )
    record = Record(
        name or "0",
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


def only_json(content_type: bytes) -> None:
    """Raises: RefusalError (415), where another content type was sent."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind not in (b"application/json", b""):
        raise RefusalError(
            "media_type",
            f"the content type is {kind[:100].decode('latin-1')!r}; send application/json, or a "
            "record as multipart/form-data",
        )
