"""A real server in a thread, on a free port, and a client that hides nothing."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from moodal.serve import app, run
from moodal.serve.service import Service
from moodal.serve.settings import Serve
from tests.tiny import train_once

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Running:
    """A server that runs. service: what answers in it, the same object."""

    host: str
    port: int
    service: Service

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def request(
        self, method: str, path: str, body: Any = None, headers: Headers | None = None
    ) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Headers | None = None) -> Reply:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, values: Any, headers: Headers | None = None) -> Reply:
        """values: sent as JSON."""
        sent = {"content-type": "application/json", **(headers or {})}
        return self.request("POST", path, json.dumps(values).encode(), sent)

    def send(
        self, path: str, fields: Mapping[str, str | bytes], headers: Headers | None = None
    ) -> Reply:
        """fields: sent as a form, as `curl -F` sends it."""
        kind, body = form(fields)
        return self.request("POST", path, body, {"content-type": kind, **(headers or {})})


def form(fields: Mapping[str, str | bytes]) -> tuple[str, bytes]:
    """The content type and the body of a multipart form; bytes are sent as files."""
    boundary = uuid4().hex
    body = bytearray()
    for name, value in fields.items():
        file = "" if isinstance(value, str) else f'; filename="{name}.bin"'
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        )
        body += (value.encode() if isinstance(value, str) else value) + b"\r\n"
    return f"multipart/form-data; boundary={boundary}", bytes(body + f"--{boundary}--\r\n".encode())


def until(found: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """What `found` returns, once it is true; it fails after so many seconds."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.005)
    return value


@contextmanager
def serving(settings: Serve) -> Iterator[Running]:
    """A server in a thread of this process, ready to answer; it is stopped gracefully."""
    sock = run.bind(settings)
    application = app.create(settings)
    server = run.server(application, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    host, port = sock.getsockname()[:2]
    thread.start()
    try:
        running = Running(host, port, application.state.service)
        assert running.get("/readyz").status == 200  # waits, since the address is bound
        yield running
    finally:
        server.should_exit = True
        thread.join(60)


def settings_of(folder: Path, **settings: Any) -> Serve:
    """Of a service with the tiny model on a free port, its journal in `folder`."""
    given = {"model": train_once(), "port": 0, "store": f"sqlite:///{folder}/journal.sqlite"}
    return Serve.model_validate({**given, **settings})


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """start(**settings of Serve) -> Running, of the tiny model; stopped when the test ends."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serving(settings_of(tmp_path, **settings)))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the default settings that many tests share: leave it as it is."""
    with serving(settings_of(tmp_path_factory.mktemp("server"))) as running:
        yield running
