"""The outermost ring: who is let in, and how everything that goes wrong is told."""

from __future__ import annotations

import re
import socket
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from moodal.serve import keys
from moodal.serve.settings import OPEN
from tests.serve.conftest import Running, until


def code_of(reply: Any) -> str:
    return str(reply.json()["error"]["code"])


# ---- names and origins -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.8.9.1:80", "[::1]:8000", "a.localhost"]
)
def test_this_machine_may_ask_by_its_names(server: Running, host: str) -> None:
    assert server.get("/v1/model", {"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]"],
)
def test_a_name_that_was_bound_anew_is_refused(server: Running, host: str) -> None:
    for path in ("/", "/v1/model", "/healthz", "/metrics"):
        reply = server.get(path, {"host": f"{host}:8000"})
        assert (reply.status, code_of(reply)) == (403, "foreign_host")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", ""])
def test_a_page_of_another_site_is_refused(server: Running, origin: str) -> None:
    reply = server.post("/v1/predict", {"text": "a"}, {"origin": origin})
    assert (reply.status, code_of(reply)) == (403, "foreign_origin")


def test_our_own_page_may_ask(server: Running) -> None:
    own = {"origin": f"http://127.0.0.1:{server.port}"}
    assert server.post("/v1/predict", {"text": "a"}, own).status == 200
    behind = {"origin": "https://localhost", "host": "localhost"}  # a proxy that speaks TLS
    assert server.post("/v1/predict", {"text": "a"}, behind).status == 200


def test_a_foreign_page_opens_no_web_socket(server: Running) -> None:
    lines = ["GET /v1/stream HTTP/1.1", "Host: localhost", "Origin: http://evil.example",
             "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw=="]  # fmt: skip
    with socket.create_connection((server.host, server.port), 20) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        assert client.recv(100).startswith(b"HTTP/1.1 403")


# ---- keys --------------------------------------------------------------------------------------


@pytest.fixture
def locked(start: Callable[..., Running], tmp_path: Path) -> tuple[Running, dict[str, str]]:
    """A service with keys, and the headers that open it."""
    key = keys.add(tmp_path / "keys", "ann")
    return start(api_keys=tmp_path / "keys"), {"authorization": f"Bearer {key}"}


def test_every_route_needs_a_key_but_those_that_tell_nothing(
    locked: tuple[Running, dict[str, str]],
) -> None:
    running, _ = locked
    document = running.get("/openapi.json").json()
    found = {}
    for path, methods in document["paths"].items():
        for method in methods:
            reply = running.request(method.upper(), re.sub("{.*?}", "x", path), b"{}")
            found[method, path] = reply.status
    shut = {route for route, status in found.items() if status == 401}
    opened = {path for method, path in found if (method, path) not in shut}
    assert opened == {*OPEN, "/metrics"} & set(document["paths"])
    assert ("post", "/v1/predict") in shut


def test_a_key_opens_and_names_its_caller(locked: tuple[Running, dict[str, str]]) -> None:
    running, key = locked
    reply = running.post("/v1/predict", {"text": "a"})
    assert (reply.status, code_of(reply)) == (401, "key_missing")
    answer = running.post("/v1/predict", {"text": "a"}, key).json()
    assert running.service.spool.flush(20)
    row = running.service.journal.find(answer["prediction_id"])
    assert row is not None
    assert row.caller == "ann"


def test_with_keys_every_name_may_be_used(locked: tuple[Running, dict[str, str]]) -> None:
    running, key = locked
    assert running.get("/v1/model", {**key, "host": "mood.example"}).status == 200
    own = {"host": "mood.example", "origin": "https://mood.example"}
    assert running.get("/v1/model", {**key, **own}).status == 200


def test_documents_and_metrics_can_be_put_behind_the_key(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    key = {"x-api-key": keys.add(tmp_path / "keys", "ann")}
    running = start(api_keys=tmp_path / "keys", private_docs=True, private_metrics=True)
    for path in ("/openapi.json", "/metrics"):
        assert running.get(path).status == 401
        assert running.get(path, key).status == 200


# ---- what goes wrong ---------------------------------------------------------------------------


def test_paths_and_methods_that_are_not_there(server: Running) -> None:
    reply = server.get("/nothing")
    assert (reply.status, code_of(reply)) == (404, "not_found")
    reply = server.get("/v1/predict")
    assert (reply.status, code_of(reply), reply.headers["allow"]) == (
        405,
        "method_not_allowed",
        "POST",
    )
    assert server.get("/v1/model/").status == 404  # rather than a redirect to where Host says


def test_a_fault_of_ours_tells_nothing_but_its_request(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    running = start()

    def fail() -> None:
        raise ZeroDivisionError("the password is hunter2")

    running.service.look = fail  # type: ignore[method-assign]
    reply = running.get("/metrics", {"x-request-id": "mine"})
    assert (reply.status, code_of(reply)) == (500, "internal")
    assert b"hunter2" not in reply.body
    assert reply.headers["x-request-id"] == "mine"
    assert any("hunter2" in str(r.exc_info) for r in caplog.records)


@pytest.mark.parametrize(
    "path", ["/%00", "/%ff%fe", "/v1/../v1/model", "//v1/model", "/v1/inputs/%2e%2e"]
)
def test_odd_paths_are_not_there(server: Running, path: str) -> None:
    assert server.get(path).status in (404, 422)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc-1.2_3:4", True), ("", False), ("a b", False), ("x" * 65, False), ("<script>", False)],
)
def test_a_request_has_an_id(server: Running, sent: str, kept: bool) -> None:
    found = server.get("/healthz", {"x-request-id": sent}).headers["x-request-id"]
    assert (found == sent) == kept
    assert re.fullmatch(r"[\w.:-]{1,64}", found)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\0\x01\0\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"GET / HTTP/1.1\r\na\0b: c\r\n\r\n",
    ],
)
def test_what_is_no_http_is_told_so_in_our_shape(server: Running, sent: bytes) -> None:
    with socket.create_connection((server.host, server.port), 20) as client:
        client.sendall(sent)
        reply = client.recv(1000)
    assert reply.startswith(b"HTTP/1.1 400")
    assert b'"code":"bad_request"' in reply


def test_slow_clients_are_told_and_cut(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moodal.serve.protocol.GRACE_SECONDS", 0.2)
    running = start(limits={"read_seconds": 0.2})
    began = time.monotonic()
    for sent, told in (
        (b"POST /v1/pre", b""),
        (b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\nx: ", b""),
        (
            b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{",
            b"HTTP/1.1 408",
        ),
    ):
        with socket.create_connection((running.host, running.port), 20) as client:
            client.sendall(sent)
            try:
                assert client.recv(1000)[: len(told) or None] == told
                while client.recv(1000):  # until it is cut
                    pass
            except ConnectionResetError:
                assert time.monotonic() > began
    assert running.get("/healthz").status == 200


def test_a_body_that_was_refused_is_not_read_for_ever(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moodal.serve.protocol.GRACE_SECONDS", 0.2)
    running = start(limits={"read_seconds": 0.2, "megabytes": 0.01})
    head = b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection((running.host, running.port), 20) as client:
        client.sendall(head + b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 413")
        endless = (client.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n") for _ in count())
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            deque(endless, 0)


def test_a_body_that_ends_early_is_no_fault_of_ours(start: Callable[..., Running]) -> None:
    running = start()
    with socket.create_connection((running.host, running.port), 20) as client:
        client.sendall(
            b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{"
        )
    until(lambda: 'code="bad_request"' in running.get("/metrics").body.decode())
    assert 'code="internal"' not in running.get("/metrics").body.decode()
