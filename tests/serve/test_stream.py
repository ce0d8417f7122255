"""Live speech, to a real server over a real WebSocket, and everything that may go wrong with it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from websockets.exceptions import InvalidStatus

from moodal import config
from moodal.preprocess import audio
from moodal.runtime.predict import Model
from moodal.serve import keys, stream
from moodal.serve.errors import RefusalError
from moodal.serve.service import Service
from tests.serve.conftest import Running
from tests.serve.speech import cut, pcm, recorded, say, silence
from tests.serve.talk import Message, error_of, eventually, is_quiet, opened, say_to, told
from tests.tiny import hear_once, train_once, write_once

CONTRACT = {"label", "probabilities", "confidence", "modalities", "contributions", "model_version"}
SPOKEN = np.concatenate([silence(1.5), say(2.5), silence(2)])


# What is answered


def test_each_second_is_told_and_the_end_is_over_all_that_was_said(server: Running) -> None:
    messages, code = say_to(server, cut(pcm(SPOKEN), 3200))
    *seconds, final = messages
    assert [m["at"] for m in seconds] == [1, 2, 3, 4, 5, 6]
    assert [m["type"] for m in seconds] == ["silence", *["answer"] * 4, "silence"]
    assert (final["type"], final["at"], code) == ("final", 6, 1000)
    for message in (*seconds, final):
        answered = message["type"] != "silence"
        assert message["speech"] is answered
        assert (set(message) >= CONTRACT) is answered
    most = server.service.model.info.audio.max_seconds
    assert final["speech_seconds"] == pytest.approx(most, abs=0.02)
    assert 0 < seconds[1]["speech_seconds"] <= final["speech_seconds"]


def test_the_final_answer_is_that_of_predict_on_what_was_said(server: Running) -> None:
    *_, final = say_to(server, [pcm(say(0.9))], text="lovely")[0]
    expected = Model(train_once()).predict(text="lovely", audio=audio.wav(say(0.9))).to_dict()
    assert final["modalities"] == ["text", "audio"]
    assert final["label"] == expected["label"]
    for label, probability in expected["probabilities"].items():
        # The detector leaves out what comes before the first syllable.
        assert final["probabilities"][label] == pytest.approx(probability, abs=0.02)


def test_only_the_final_answer_is_journalled(server: Running) -> None:
    *seconds, final = say_to(server, [pcm(say(3))], text="okay", id="call 7")[0]
    assert {m["prediction_id"] for m in seconds} == {""}
    assert server.service.spool.flush(30)
    served = server.service.journal.find(final["prediction_id"])
    assert served is not None
    assert (served.source, served.modalities, served.label) == (
        "stream",
        "text+audio",
        final["label"],
    )
    assert final["id"] == "call 7"


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_pcm_of_any_rate_is_heard(server: Running, rate: int) -> None:
    sound = soxr.resample(SPOKEN, 16_000, rate)
    messages, code = say_to(server, cut(pcm(sound), 4801), sample_rate=rate)
    assert [m["type"] for m in messages] == ["silence", *["answer"] * 4, "silence", "final"]
    assert code == 1000


@pytest.mark.parametrize("format", ["webm", "ogg"])
def test_a_browsers_recording_is_heard(server: Running, format: str) -> None:
    messages, code = say_to(server, cut(recorded(SPOKEN, format), 777), format=format)
    types = [m["type"] for m in messages]
    assert types[:3] == ["silence", "answer", "answer"]
    assert (types[-1], code) == ("final", 1000)
    assert messages[-1]["at"] == pytest.approx(6, abs=0.1)


def test_an_answer_comes_while_the_speech_goes_on(server: Running) -> None:
    with opened(server) as socket:
        socket.send('{"type": "start"}')
        socket.send(pcm(say(1.1)))
        first = json.loads(socket.recv(timeout=60))
        assert (first["type"], first["at"]) == ("answer", 1)
        socket.send(pcm(say(1, seed=1)))
        assert json.loads(socket.recv(timeout=60))["at"] == 2
        socket.send('{"type": "end"}')
        assert told(socket)[0][-1]["type"] == "final"


def test_text_counts_from_when_it_comes_until_it_is_taken_back(server: Running) -> None:
    heard = []
    with opened(server) as socket:
        socket.send('{"type": "start"}')
        for second, text in enumerate([None, "lovely", None, "糟糕"]):
            socket.send(json.dumps({"type": "text", "text": text}))
            socket.send(pcm(say(5)[second * 16_400 : (second + 1) * 16_400]))
            heard.append(json.loads(socket.recv(timeout=60))["modalities"])
        socket.send('{"type": "end"}')
        heard.append(told(socket)[0][-1]["modalities"])
    assert heard == [["audio"], ["text", "audio"], ["audio"], ["text", "audio"], ["text", "audio"]]


def test_text_alone_is_answered_at_the_end(server: Running) -> None:
    *seconds, final = say_to(server, [pcm(silence(1.2))], text="superb")[0]
    assert [m["type"] for m in seconds] == ["silence"]
    assert (final["modalities"], final["speech"]) == (["text"], False)


@pytest.mark.parametrize("sound", [b"", pcm(silence(2))])
def test_of_nothing_there_is_no_answer(server: Running, sound: bytes) -> None:
    messages, code = say_to(server, [sound], text="")
    assert set(messages[-1]) == {"type", "at", "speech", "speech_seconds"}
    assert (messages[-1]["type"], messages[-1]["speech"], code) == ("final", False, 1000)


def test_an_explanation_comes_with_the_end_alone(server: Running) -> None:
    *seconds, final = say_to(server, [pcm(say(2))], text="so lovely", explain=True)[0]
    assert [m["words"] for m in seconds] == [[], []]
    assert [word for word, _ in final["words"]] == ["so", "lovely"]


def test_bytes_may_be_cut_within_a_sample(server: Running) -> None:
    data = pcm(SPOKEN)
    whole = say_to(server, [data[:200_000]])[0]
    pieces = say_to(server, cut(data[:200_000], 9_999))[0]
    for one, other in zip(whole, pieces, strict=True):
        for told_of in (one, other):
            told_of.pop("prediction_id", None)
            told_of.pop("probabilities", None)  # another batch: equal to 1e-5 or so
            told_of.pop("confidence", None)
            told_of.pop("contributions", None)
        assert one == other


def test_streams_at_a_time_are_answered_as_if_alone(server: Running) -> None:
    n_streams = server.service.settings.limits.streams
    answered: dict[int, list[Message]] = {}

    def speak(seed: int) -> None:
        answered[seed] = say_to(server, cut(pcm(say(2.2, seed)), 8000))[0]

    threads = [threading.Thread(target=speak, args=(seed,)) for seed in range(n_streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for seed in range(n_streams):
        alone = say_to(server, [pcm(say(2.2, seed))])[0]
        for one, other in zip(answered[seed], alone, strict=True):
            assert (one["type"], one["at"], one["label"]) == (
                other["type"],
                other["at"],
                other["label"],
            )
            assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-5)
    eventually(lambda: is_quiet(server))


def test_a_long_talk_is_answered_over_its_latest_words(start: Callable[..., Running]) -> None:
    server = start()
    seconds = server.service.model.info.audio.max_seconds
    *_, final = say_to(server, cut(pcm(say(seconds + 2)), 8000))[0]
    assert final["speech_seconds"] == pytest.approx(seconds, abs=0.02)


def test_what_is_said_is_written_down_by_a_model_that_does(start: Callable[..., Running]) -> None:
    server = start(model=hear_once())
    *_, final = say_to(server, [pcm(say(2))])[0]
    assert final["type"] == "final"
    assert isinstance(final["text"], str)


# What is refused


def test_a_model_that_reads_no_speech_says_so_at_once(start: Callable[..., Running]) -> None:
    server = start(model=write_once())
    code, message, close = error_of(say_to(server, []))
    assert (code, close) == ("invalid", 1008)
    assert "text" in message


@pytest.mark.parametrize("format", ["pcm16", "webm"])
def test_a_client_that_vanishes_leaves_nothing_behind(server: Running, format: str) -> None:
    data = pcm(say(3)) if format == "pcm16" else recorded(say(3))
    for _ in range(10):
        with opened(server) as socket:
            socket.send(json.dumps({"type": "start", "format": format}))
            socket.send(data[: len(data) // 2])
            socket.recv(timeout=60)
            socket.socket.close()  # no goodbye
    eventually(lambda: is_quiet(server))
    assert say_to(server, [data], format=format)[1] == 1000


def test_a_client_that_leaves_politely_leaves_nothing_behind(server: Running) -> None:
    with opened(server) as socket:
        socket.send('{"type": "start"}')
        socket.send(pcm(say(1)))
    eventually(lambda: is_quiet(server))


def test_more_streams_than_may_be_are_refused_and_come_later(
    start: Callable[..., Running],
) -> None:
    server = start(limits={"streams": 1})
    with opened(server) as first:
        first.send('{"type": "start"}')
        first.send(pcm(say(1.1)))
        first.recv(timeout=60)
        code, message, close = error_of(say_to(server, []))
        assert (code, close) == ("busy", 1013)
        assert "at most 1 at a time" in message
        first.send('{"type": "end"}')
        assert told(first)[1] == 1000
    eventually(lambda: is_quiet(server))
    assert say_to(server, [pcm(say(1))])[1] == 1000


def test_connections_that_never_say_who_they_are_are_few(start: Callable[..., Running]) -> None:
    server = start(limits={"streams": 1})
    silent = [opened(server) for _ in range(stream.CONNECTIONS)]
    for one in silent:
        one.__enter__()
    try:
        with opened(server) as last:
            assert error_of(told(last))[0] == "busy"
    finally:
        for one in silent:
            one.__exit__(None, None, None)


def test_a_foreign_page_cannot_open_a_stream(server: Running) -> None:
    with (
        pytest.raises(InvalidStatus) as caught,
        opened(server, Origin="https://elsewhere.example"),
    ):
        pass
    assert caught.value.response.status_code == 403
    with opened(server, Origin=server.url) as own:
        own.send('{"type": "start"}')


def test_a_key_is_asked_for_in_the_header_or_the_first_message(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    key = keys.add(file, "phone")
    server = start(api_keys=file)
    code, message, close = error_of(say_to(server, []))
    assert (code, close) == ("key_missing", 1008)
    assert "key" in message
    assert error_of(say_to(server, [], key="moodal_wrong"))[0] == "key_unknown"
    assert error_of(say_to(server, [], key="schlüssel"))[0] == "key_unknown"
    *_, final = say_to(server, [pcm(say(1))], key=key)[0]
    with opened(server, Authorization=f"Bearer {key}") as socket:
        socket.send('{"type": "start"}')
        socket.send('{"type": "end"}')
        assert told(socket)[1] == 1000
    assert server.service.spool.flush(30)
    served = server.service.journal.find(final["prediction_id"])
    assert served is not None
    assert served.caller == "phone"


def test_a_full_service_leaves_out_a_second_and_goes_on(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, refused = Service.answer, []

    async def full(self: Service, *args: Any, **given: Any) -> Any:
        if not refused:
            refused.append(True)
            raise RefusalError("busy", "256 records wait")
        return await answer(self, *args, **given)

    monkeypatch.setattr(Service, "answer", full)
    messages, code = say_to(server, [pcm(say(2.5))])
    assert [m["type"] for m in messages] == ["busy", "answer", "final"]
    assert (messages[0]["error"]["code"], code) == ("busy", 1000)


def test_answers_that_fall_behind_the_speech_are_left_out(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, gate = Service.answer, threading.Event()

    async def slow(self: Service, *args: Any, **given: Any) -> Any:
        await asyncio.to_thread(gate.wait)
        return await answer(self, *args, **given)

    monkeypatch.setattr(Service, "answer", slow)
    monkeypatch.setattr(stream, "LATE_SECONDS", -100)  # as if the sound had taken so long
    with opened(server) as socket:
        socket.send('{"type": "start"}')
        for chunk in cut(pcm(say(5.1)), 3200):
            socket.send(chunk)
        socket.send('{"type": "end"}')
        assert socket.ping().wait(60)  # all before it has arrived
        gate.set()
        messages, code = told(socket)
    assert [m["type"] for m in messages[-2:]] == ["busy", "final"]
    assert "behind the speech" in messages[-2]["error"]["message"]
    assert code == 1000


def test_a_final_answer_is_tried_again_and_then_refused(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_tries = 0

    async def full(self: Service, *args: Any, **given: Any) -> Any:
        nonlocal n_tries
        n_tries += 1
        raise RefusalError("busy", "256 records wait")

    monkeypatch.setattr(Service, "answer", full)
    monkeypatch.setattr(stream, "RETRY_SECONDS", 0.01)
    code, _, close = error_of(say_to(server, [pcm(say(0.8))]))
    assert (code, close, n_tries) == ("busy", 1013, stream.TRIES)


def test_a_fault_of_ours_tells_nothing_of_itself(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Service, *args: Any, **given: Any) -> Any:
        raise ValueError("a secret")

    monkeypatch.setattr(Service, "answer", broken)
    code, message, close = error_of(say_to(server, [pcm(say(1.1))]))
    assert (code, close) == ("internal", 1011)
    assert "secret" not in message
    eventually(lambda: is_quiet(server))


def test_a_stopping_server_lets_go_of_its_streams(start: Callable[..., Running]) -> None:
    from tests.serve.conftest import serving

    settings = start().service.settings.model_copy(update={"port": 0, "spool": None})
    settings = settings.model_copy(update={"store": f"{settings.store}.other"})
    with serving(settings) as server, opened(server) as socket:
        socket.send('{"type": "start"}')
        socket.send(pcm(say(1.1)))
        socket.recv(timeout=60)
        stopping = threading.Thread(target=told, args=(socket,))
        stopping.start()
    stopping.join(60)
    assert not stopping.is_alive()
    assert not [t for t in threading.enumerate() if t.name.startswith("moodal-ear")]


# Real voices


@pytest.mark.real
@pytest.mark.parametrize("format", ["pcm16", "webm"])
def test_actors_are_answered_as_their_files_are(
    start: Callable[..., Running], real_data: Path, format: str
) -> None:
    from moodal import bundle

    server = start(model=bundle.PACKAGED)
    model = server.service.model
    agreed = []
    for path in sorted((real_data / "ravdess" / "audio").iterdir())[::60]:
        clip = audio.decode(path, config.Audio())
        whole = model.predict(audio=path)
        loud = np.concatenate([silence(0.5), clip, silence(0.5)])
        data = pcm(loud) if format == "pcm16" else recorded(loud)
        *_, final = say_to(server, cut(data, 8000), format=format)[0]
        agreed.append(final["label"] == whole.label)
    assert np.mean(agreed) >= 0.8, agreed
