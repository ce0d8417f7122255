"""GET /v1/monitor: traffic, drift, accuracy, alerts and models' fates, as the page plots them."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json

from moodal.monitor import look
from moodal.serve import documents
from moodal.serve.service import Service
from moodal.serve.visit import visit_of
from moodal.store.journal import Journal

FRESH_SECONDS = 5.0
"""A look is dear, and tells nothing new so soon."""
KEPT = 32
"""Looks at stretches of different lengths."""
Since = Annotated[
    str,
    Query(
        pattern="^[1-9][0-9]{0,4}[smhdw]$",
        max_length=6,
        description="How far back: 90s, 30m, 24h, 7d or 2w.",
    ),
]


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["about"])
    seen: dict[str, tuple[float, bytes]] = {}
    one_at_a_time = asyncio.Lock()

    @routes.get("/v1/monitor", response_model=dict[str, Any], **documents.refusals(422, 429, 503))
    async def monitor(request: Request, since: Since = "24h") -> Response:
        """What happened since, and whether it still looks like the model's training data."""
        service.rate.take(visit_of(request).who)
        async with one_at_a_time:
            at, told = seen.get(since, (0.0, b""))
            if time.monotonic() >= at + FRESH_SECONDS or not told:
                told = await service.asks_journal(lambda book: _look(book, service, since))
                if len(seen) >= KEPT:
                    seen.clear()
                seen[since] = time.monotonic(), told
        return Response(told, media_type=documents.JSON)

    return routes


def _look(book: Journal, service: Service, since: str) -> bytes:
    now, loaded = time.time(), service.loaded
    found = look.look(
        book,
        reference=loaded.reference,
        info=loaded.model.info,
        since=now - look.period(since),
        until=now,
    )
    return to_json(found.to_dict(), inf_nan_mode="null")
