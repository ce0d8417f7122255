"""What a client of the stream may not send: too wrong, too large, too long, too slow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed

from moodal.serve import incoming
from tests.serve.conftest import Running
from tests.serve.speech import cut, pcm, recorded, say, silence
from tests.serve.talk import error_of, eventually, is_quiet, opened, say_to, told


@pytest.mark.parametrize(
    ("first", "code", "says", "close"),
    [
        (b"\x00\x01", "invalid", "sound comes after", 1008),
        ("hello", "not_json", "not JSON", 1007),
        ("[]", "invalid", "holds", 1008),
        ("{}", "invalid", "required", 1008),
        ('{"type": "end"}', "invalid", "'start'", 1008),
        ('{"type": "start", "format": "mp3"}', "invalid", "'pcm16', 'webm' or 'ogg'", 1008),
        ('{"type": "start", "sample_rate": 7999}', "invalid", "8000", 1008),
        ('{"type": "start", "sample_rate": 192001}', "invalid", "192000", 1008),
        ('{"type": "start", "sample_rate": NaN}', "invalid", "nan", 1008),
        ('{"type": "start", "sample_rate": 1e999}', "invalid", "inf", 1008),
        ('{"type": "start", "volume": 1}', "invalid", "no such field", 1008),
        ('{"type": "start", "text": 1}', "invalid", "holds 1", 1008),
        ('{"type": "start", "id": "%s"}' % ("x" * 201), "invalid", "200", 1008),
    ],
)
def test_a_wrong_first_message_is_refused(
    server: Running, first: str | bytes, code: str, says: str, close: int
) -> None:
    with opened(server) as socket:
        socket.send(first)
        refused = error_of(told(socket))
    assert (refused[0], refused[2]) == (code, close)
    assert says in refused[1]


@pytest.mark.parametrize(
    ("later", "code", "says", "close"),
    [
        ("{", "not_json", "not JSON", 1007),
        ('{"type": "start"}', "invalid", "'text', 'end'", 1008),
        ('{"type": "text"}', "invalid", "required", 1008),
        ('{"type": "text", "text": ["a"]}', "invalid", "holds", 1008),
    ],
)
def test_a_wrong_later_message_is_refused(
    server: Running, later: str | bytes, code: str, says: str, close: int
) -> None:
    refused = error_of(say_to(server, [pcm(say(0.5)), later], end=False))
    assert (refused[0], refused[2]) == (code, close)
    assert says in refused[1]
    eventually(lambda: is_quiet(server))


@pytest.mark.parametrize("message", [bytes(300_000), "x" * 300_000])
@pytest.mark.parametrize("begun", [False, True])
def test_too_large_a_message_is_refused_packed_too(
    server: Running, message: str | bytes, begun: bool
) -> None:
    with opened(server) as socket:  # which packs what it sends, here to some hundred bytes
        if begun:
            socket.send('{"type": "start"}')
        socket.send(message)
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(timeout=60)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009
    assert "256000" in caught.value.rcvd.reason
    eventually(lambda: is_quiet(server))


@pytest.mark.parametrize(
    ("format", "data", "says"),
    [
        ("webm", pcm(say(1)), "neither WebM nor Ogg"),
        ("ogg", b"", "begins with nothing"),
        ("webm", recorded(say(1))[1000:], "neither WebM nor Ogg"),
        ("webm", b"\x1a\x45\xdf\xa3" + bytes(9000), "damaged"),
        ("webm", recorded(say(0.3))[:600] + bytes(1_300_000), "without a sound"),
        ("webm", recorded(say(0.3), "matroska", "pcm_s16le"), "record Opus"),
    ],
)
def test_what_is_no_recording_is_refused(
    server: Running, format: str, data: bytes, says: str
) -> None:
    code, message, close = error_of(say_to(server, cut(data, 50_000), format=format))
    assert (code, close) == ("record", 1007)
    assert says in message
    eventually(lambda: is_quiet(server))


def test_too_long_a_text_is_refused(server: Running) -> None:
    code, message, _ = error_of(say_to(server, [pcm(say(1.1))], text="x" * 10_001))
    assert code == "record"
    assert "10,001 characters" in message


def test_an_endless_stream_is_ended(start: Callable[..., Running]) -> None:
    server = start(limits={"seconds": 1})
    endless = (pcm(silence(0.5)) for _ in range(10_000))
    code, message, close = error_of(say_to(server, endless, end=False))
    assert (code, close) == ("too_large", 1009)
    assert "more than 10 s" in message
    eventually(lambda: is_quiet(server))


def test_endless_bytes_are_ended(start: Callable[..., Running]) -> None:
    server = start(limits={"megabytes": 0.02})
    endless = (pcm(silence(1)) for _ in range(10_000))
    code, message, close = error_of(say_to(server, endless, end=False))
    assert (code, close) == ("too_large", 1009)
    assert "200,000 bytes" in message


@pytest.mark.parametrize("begun", [False, True])
def test_an_idle_client_is_ended(start: Callable[..., Running], begun: bool) -> None:
    server = start(limits={"idle_seconds": 0.2})
    with opened(server) as socket:
        if begun:
            socket.send('{"type": "start"}')
        code, message, close = error_of(told(socket))
    assert (code, close) == ("too_slow", 1008)
    assert "nothing came for 0.2 s" in message
    eventually(lambda: is_quiet(server))


def test_a_client_that_dawdles_is_ended_too(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its time by the clock is over long before it counts as idle.
    monkeypatch.setattr(incoming, "LONGER", -119.5)
    server = start(limits={"idle_seconds": 120, "seconds": 1})
    with opened(server) as socket:
        socket.send('{"type": "start"}')
        code, message, close = error_of(told(socket))
    assert (code, close) == ("too_slow", 1008)
    assert "open for more than" in message
