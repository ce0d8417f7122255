"""POST /v1/feedback: what the right answer was, in the journal before it is acknowledged."""

from __future__ import annotations

import asyncio
import math
import time

from fastapi import APIRouter, Request

from moodal.errors import DataError
from moodal.serve import answers, documents, visit
from moodal.serve.errors import RefusalError
from moodal.serve.schema import Accepted, Feedback, parsed
from moodal.serve.service import Service
from moodal.serve.settings import Limits
from moodal.serve.visit import visit_of
from moodal.store.ids import new_id
from moodal.store.rows import By, Judgement, Served

ARRIVE_SECONDS = 3.0
"""In which a prediction that another worker made is in the journal, unless it is away."""
PAUSE_SECONDS = 0.1
FLUSH_SECONDS = 1.0


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["feedback"])
    asked = documents.asked(service.settings.limits)["feedback"]

    @routes.post("/v1/feedback", response_model=Accepted, **asked)
    async def feedback(request: Request) -> Accepted:
        """Say what the right answer was. When this is answered, the journal holds it."""
        came = visit_of(request)
        answers.only_json(came.headers.get(b"content-type", b""))
        given = parsed(Feedback, await visit.body(service, request))
        _check(given, service.settings.limits)
        service.rate.take(came.who)
        served = await _find(service, given.prediction_id)
        judgement = _judgement(given, served, service, caller=came.caller)
        try:
            await service.asks_journal(lambda book: book.judge(judgement))
        except DataError as error:
            raise RefusalError("unknown_prediction", str(error), "prediction_id") from error
        service.metrics.judged(right=judgement.label == _told(served))
        return Accepted(id=judgement.id)

    return routes


def _check(given: Feedback, limits: Limits) -> None:
    """Raises: RefusalError (422)."""
    if (given.label is None) == (given.correct is not True):
        raise RefusalError("invalid", 'give the right label, or "correct": true', "label")
    if len(given.comment) > limits.comment_characters:
        raise RefusalError(
            "invalid",
            f"has {len(given.comment):,} characters, at most {limits.comment_characters:,} are "
            "read; shorten it",
            "comment",
        )
    for field, text in (("comment", given.comment), ("label", str(given.label))):
        if "\0" in text:
            raise RefusalError("invalid", "holds a NUL character; remove it", field)


async def _find(service: Service, id: str) -> Served:
    """The prediction; one that was just made may still be on its way.

    Raises: RefusalError (404, 503).
    """
    until = time.monotonic() + (ARRIVE_SECONDS if _is_fresh(id) else 0.0)
    while True:
        found = await service.asks_journal(lambda book: book.find(id))
        if found is None:
            await service.asks_journal(lambda book: service.spool.flush(FLUSH_SECONDS))
            found = await service.asks_journal(lambda book: book.find(id))
        if found is not None:
            return found
        if time.monotonic() >= until:
            raise RefusalError(
                "unknown_prediction",
                f"there is no prediction {id!r} in the journal; send a prediction_id that was "
                "answered by this service",
                "prediction_id",
            )
        await asyncio.sleep(PAUSE_SECONDS)


def _is_fresh(id: str) -> bool:
    """Whether it was made moments ago. Source: RFC 9562, section 5.7: 48 bits of milliseconds."""
    return abs(time.time() - int(id[:12], 16) / 1000) < 2 * ARRIVE_SECONDS


def _judgement(given: Feedback, served: Served, service: Service, *, caller: str) -> Judgement:
    """Raises: RefusalError (422)."""
    now = time.time()
    label = _told(served) if given.label is None else _label(given.label, served, service)
    if label is None:
        raise RefusalError(
            "label", "the answer was a text that was not kept; send it as the label", "correct"
        )
    by: By = "reviewer" if given.reviewed else "user"
    return Judgement(new_id(now), served.id, now, label, given.comment, caller, by)


def _told(served: Served) -> str | None:
    """What was answered, as a label cell holds it; None where it was not kept."""
    if served.label is not None:
        return served.label
    return served.said if served.value is None else repr(served.value)


def _label(label: str | float, served: Served, service: Service) -> str:
    """The label as a manifest's cell holds it. Raises: RefusalError (422)."""
    if served.value is not None:
        return _number(label)
    text = label if isinstance(label, str) else f"{label:g}"
    limits = service.settings.limits
    most = limits.label_characters if served.label is not None else limits.characters
    if len(text) > most:
        raise RefusalError(
            "label", f"has {len(text):,} characters, at most {most:,} are read; shorten it", "label"
        )
    known = {*served.probabilities, *service.model.info.labels}
    if served.label is not None and text not in known:
        raise RefusalError(
            "label",
            f"{text!r} is no label of this model; it knows {', '.join(sorted(known))}",
            "label",
        )
    return text


def _number(label: str | float) -> str:
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RefusalError("label", f"{label!r} is not a number, and the answer was one", "label")
    return repr(value)
