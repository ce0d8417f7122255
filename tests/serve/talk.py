"""A client of the stream, and whether the server is rid of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.serve.conftest import Running

Message = dict[str, Any]


@contextmanager
def opened(server: Running, **headers: str) -> Iterator[ClientConnection]:
    url = f"ws://{server.host}:{server.port}/v1/stream"
    with connect(url, additional_headers=headers, open_timeout=30, close_timeout=30) as socket:
        yield socket


def told(socket: ClientConnection) -> tuple[list[Message], int]:
    """All messages until the server closes, and the code it closes with."""
    messages = []
    while True:
        try:
            messages.append(json.loads(socket.recv(timeout=60)))
        except ConnectionClosed as closed:
            return messages, closed.rcvd.code if closed.rcvd else 1006


def say_to(
    server: Running, chunks: Iterable[bytes | str], *, end: bool = True, **start: Any
) -> tuple[list[Message], int]:
    """What is answered to a whole stream."""
    with opened(server) as socket:
        try:
            socket.send(json.dumps({"type": "start", **start}))
            for chunk in chunks:
                socket.send(chunk)
            if end:
                socket.send(json.dumps({"type": "end"}))
        except ConnectionClosed:
            pass  # the server has said why
        return told(socket)


def error_of(answered: tuple[list[Message], int]) -> tuple[str, str, int]:
    """(code, message, close code) of a stream that was refused."""
    messages, code = answered
    assert messages[-1]["type"] == "error", messages
    return messages[-1]["error"]["code"], messages[-1]["error"]["message"], code


def is_quiet(server: Running, *, streams: float = 0) -> bool:
    """Whether no stream holds a place or a thread."""
    metric = f"moodal_streams {streams}"
    ears = [t.name for t in threading.enumerate() if t.name.startswith("moodal-ear")]
    return metric in server.get("/metrics").body.decode() and len(ears) <= streams


def eventually(true: Callable[[], bool]) -> None:
    """Whether it becomes so; it may take the server's event loop and threads a moment."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
