"""The outermost ring: whoever asks is let in or not, and whatever happens is counted and told.

Inside it, a RefusalError may be raised anywhere; outside it, no error escapes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from fastapi import FastAPI

from moodal.serve import logs
from moodal.serve.errors import RefusalError, refusal_of
from moodal.serve.metrics import OTHER
from moodal.serve.service import Service
from moodal.serve.settings import is_loopback
from moodal.serve.visit import VISIT, Lane, Visit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

OWN_BELOW = "/v2"
"""The other protocol, which checks keys itself, to answer in its own way."""
JSON = (b"content-type", b"application/json")
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
SHOWN_PATH = 200
"""Characters of a path in the log."""

_log = logging.getLogger("moodal.serve")


class Edge:
    """ASGI in, ASGI out: what the server runs in the place of the application, and around it.

    lanes: path -> what answers a POST to it without the application.
    """

    def __init__(self, app: FastAPI, service: Service, lanes: Mapping[str, Lane]) -> None:
        self._app, self._inside, self._lanes = app, app.build_middleware_stack(), lanes
        self._service = service
        self._keys = service.settings.api_keys is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self._app
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._web_socket(scope, receive, send)
        else:
            await self._inside(scope, receive, send)

    async def _web_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._admit(dict(scope["headers"]))
        except RefusalError as error:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
            return
        await self._inside(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        name = logs.request_id(headers.get(b"x-request-id", b""))
        scope[VISIT] = Visit(headers, name, time.perf_counter())
        logs.REQUEST.set(name)
        if self._service.traces.on:
            with self._service.traces.request(scope["method"], scope["path"], headers):
                await self._answer(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope[VISIT]
        try:
            self._admit(visit.headers)
            self._identify(scope, visit)
            lane = self._lanes.get(scope["path"]) if scope["method"] == "POST" else None
            if lane is None:
                await self._inside(scope, receive, _noting(visit, send))
            else:
                visit.route = scope["path"]
                await _send(visit, 200, await lane(visit, receive), send)
        except Exception as error:  # noqa: BLE001 - the server's edge
            await self._refuse(error, visit, send)
        finally:
            self._note(scope, visit)

    def _admit(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a browser that another site, or another name for us, sent here.

        Raises: RefusalError (403).
        Source: https://owasp.org/www-community/attacks/csrf (verifying the origin), and
        https://en.wikipedia.org/wiki/DNS_rebinding, protection by checking the Host header.
        """
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._keys and host and not is_loopback(_name(host)):
            raise RefusalError(
                "foreign_host",
                f"this service answers to localhost and 127.0.0.1, not to {host[:100]!r}; with API "
                "keys it answers to every name",
            )
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").partition("://")[2] != host:
            raise RefusalError(
                "foreign_origin",
                f"the page {origin[:100].decode('latin-1')!r} is not this service's own and may "
                "not ask for its visitors",
            )

    def _identify(self, scope: Scope, visit: Visit) -> None:
        """Whose request it is. Raises: RefusalError (401)."""
        path = scope["path"]
        settings = self._service.settings
        if self._keys and not (settings.is_open(path) or path.startswith(OWN_BELOW)):
            visit.who = visit.caller = self._service.identify(visit.headers)
        else:
            visit.who = (scope.get("client") or ("",))[0]

    async def _refuse(self, error: Exception, visit: Visit, send: Send) -> None:
        refusal = refusal_of(error)
        if refusal.code == "internal":
            _log.error("a request failed", exc_info=error)
        visit.code = refusal.code
        if visit.status:  # the answer has begun: all that is left is to break it off
            raise error
        more = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in refusal.headers.items()]
        await _send(visit, refusal.status, refusal.body(), send, *more)

    def _note(self, scope: Scope, visit: Visit) -> None:
        service, seconds = self._service, time.perf_counter() - visit.started
        service.room.leave(visit.held_bytes)
        route = visit.route or getattr(scope.get("route"), "path", OTHER)
        service.metrics.request(route, visit.status, seconds)
        if visit.code:
            service.metrics.error(visit.code)
        if service.lines is not None:
            service.lines.add(
                {
                    "request": visit.request,
                    "method": scope["method"],
                    "path": scope["path"][:SHOWN_PATH],
                    "status": visit.status,
                    "ms": round(1000 * seconds, 2),
                    **({"caller": visit.caller} if visit.caller else {}),
                    **({"code": visit.code} if visit.code else {}),
                }
            )


def _name(host: str) -> str:
    """A Host header without its port; an IPv6 address keeps its brackets."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _noting(visit: Visit, send: Send) -> Send:
    """The status is noted, and our headers are added, of what the application sends."""

    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            visit.status = message["status"]
            own = ((b"x-request-id", visit.request.encode()), NO_SNIFFING)
            message["headers"] = [*message.get("headers", ()), *own]
        await send(message)

    return noting


async def _send(
    visit: Visit, status: int, body: bytes, send: Send, *more: tuple[bytes, bytes]
) -> None:
    visit.status = status
    name = (b"x-request-id", visit.request.encode())
    headers = [JSON, (b"content-length", b"%d" % len(body)), name, NO_SNIFFING, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
