"""One HTTP request, as the edge sees it and the endpoints read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fastapi import Request

from moodal.serve import limits
from moodal.serve.limits import Receive
from moodal.serve.service import Service

__all__ = ["Lane", "Receive", "Visit", "body", "visit_of", "whole"]

VISIT = "moodal.visit"
"""The key of a scope under which its Visit lies."""


@dataclass(slots=True)
class Visit:
    """headers: their names in lower case. request: its id. started: as time.perf_counter tells.
    caller: the name of its key, or "". who: whose rate it counts for: that name, or an address.
    route: the path's pattern, for the metrics. code: of the error it was told. held_bytes: of its
    body, in service.room.
    """

    headers: Mapping[bytes, bytes]
    request: str
    started: float
    caller: str = ""
    who: str = ""
    route: str = ""
    code: str = ""
    status: int = 0
    held_bytes: int = 0


def visit_of(request: Request) -> Visit:
    visit: Visit = request.scope[VISIT]
    return visit


Lane = Callable[[Visit, Receive], Awaitable[bytes]]
"""A request to the JSON that answers it; may raise RefusalError."""


async def body(service: Service, request: Request) -> bytes:
    """All of it. Raises: RefusalError (400, 408, 413, 503)."""
    return await whole(service, visit_of(request), request.receive)


async def whole(service: Service, visit: Visit, receive: Receive) -> bytes:
    """As body, of what is received."""

    def enter(n_bytes: int) -> None:
        service.room.enter(n_bytes)
        visit.held_bytes += n_bytes

    return await limits.body(receive, visit.headers, service.settings.limits, enter=enter)
