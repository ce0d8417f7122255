"""HTTP from the wire, with the one thing that uvicorn leaves out: a request must arrive in time."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from moodal.serve.errors import RefusalError

GRACE_SECONDS = 5.0
"""Beyond a request's time, for whoever reads its body to say so before the connection is cut."""


class Timed(HttpToolsProtocol):
    """uvicorn's protocol; where a request takes too long to arrive, its headers or its body, or the
    rest of a body that was refused, the connection is cut.

    Inherited, as uvicorn knows no other way to be given one.
    """

    seconds = 30.0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._late is None:
            self._begin()
        super().data_received(data)

    def on_message_complete(self) -> None:
        self._end()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._end()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        body = RefusalError("bad_request", f"{msg} Speak HTTP/1.1").body()
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        self.transport.write(head + b"content-length: %d\r\n" % len(body))
        self.transport.write(b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def _begin(self) -> None:
        self._late = self.loop.call_later(self.seconds + GRACE_SECONDS, self._cut)

    def _end(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _cut(self) -> None:
        self._late = None
        self.transport.abort()


def protocol(seconds: float) -> type[asyncio.Protocol]:
    """For requests that must have arrived after so many seconds."""
    return type("Protocol", (Timed,), {"seconds": seconds})
