"""What one caller may ask: bytes while they arrive, pixels and seconds before they are decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from moodal.serve.errors import RefusalError
from moodal.serve.settings import Limits

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MEGABYTE = 1_000_000


async def body(receive: Receive, headers: dict[bytes, bytes], limits: Limits) -> bytes:
    """All of a request's body. Raises: RefusalError (408, 413)."""
    most = int(limits.megabytes * MEGABYTE)
    said = headers.get(b"content-length", b"")
    if said.isdigit() and int(said) > most:
        raise _too_large(int(said), most)
    first = await asyncio.wait_for(receive(), limits.read_seconds)
    if not first.get("more_body", False):
        return _bounded(first.get("body", b""), most)
    parts = bytearray(first.get("body", b""))
    try:
        async with asyncio.timeout(limits.read_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RefusalError("bad_request", "the connection ended before the body did")
                parts += message.get("body", b"")
                if len(parts) > most:
                    raise _too_large(len(parts), most)
                if not message.get("more_body", False):
                    return bytes(parts)
    except TimeoutError:
        raise RefusalError(
            "too_slow",
            f"the body did not arrive within {limits.read_seconds:g} s; send it faster, or less",
        ) from None


def _bounded(content: bytes, most: int) -> bytes:
    if len(content) > most:
        raise _too_large(len(content), most)
    return content


def _too_large(found: int, most: int) -> RefusalError:
    return RefusalError(
        "too_large",
        f"the body has {found:,} bytes or more, at most {most:,} are read; send less at a time",
        headers={"connection": "close"},
    )
