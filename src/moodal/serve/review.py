"""GET /v1/review and /v1/inputs: what to label next, and what was asked then."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from moodal.errors import DataError
from moodal.serve import documents
from moodal.serve.errors import RefusalError
from moodal.serve.schema import Id, Order, ReviewRows
from moodal.serve.service import Service
from moodal.serve.visit import visit_of
from moodal.store.rows import Judgement, Served

MOST = 200
"""Rows told at once."""
SAFE = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src 'self'; media-src 'self'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, max-age=3600, immutable",
}
"""What somebody sent is shown as what it is, and runs nothing."""
LEFT_OUT = ("caller", "measures", "seconds")
"""Of a row of the journal: of no use to a reviewer, or not theirs to see."""


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["feedback"])

    @routes.get("/v1/review", response_model=ReviewRows, **documents.refusals(422, 503))
    async def review(
        request: Request,
        order: Order = "uncertain",
        limit: Annotated[int, Query(ge=1, le=MOST)] = 20,
        after: Annotated[Id | None, Query(description="The last one seen.")] = None,
        kept: Annotated[bool, Query(description="Only what can be shown.")] = False,
    ) -> Any:
        """What to label next: predictions that no reviewer has judged."""
        service.rate.take(visit_of(request).who)
        found = await service.asks_journal(
            lambda book: book.review(order, limit=limit, after=after, kept=kept)
        )
        return {"rows": [_row(served, judgement) for served, judgement in found]}

    @routes.get("/v1/inputs/{sha256}", **documents.refusals(404, 422, kind="*/*"))
    async def kept_input(sha256: str) -> Response:
        """A kept text, picture or recording."""
        if service.inputs is None:
            raise RefusalError(
                "unknown_input", "this service keeps no inputs; start it with --keep-inputs DIR"
            )
        try:
            found = await asyncio.to_thread(service.inputs.read, sha256)
        except DataError as error:
            raise RefusalError("invalid", str(error), "sha256") from error
        if found is None:
            raise RefusalError("unknown_input", f"{sha256} is not kept, or no longer", "sha256")
        content, media_type = found
        return Response(content, media_type=media_type, headers=SAFE)

    return routes


def _row(served: Served, judgement: Judgement | None) -> dict[str, Any]:
    values = {
        field.name: getattr(served, field.name)
        for field in dataclasses.fields(served)
        if field.name not in LEFT_OUT
    }
    said = None
    if judgement is not None:
        said = {name: getattr(judgement, name) for name in ("label", "comment", "at", "by")}
    return {**values, "judgement": said}
