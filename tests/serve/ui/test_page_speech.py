"""The microphone: a recording that is sent with the form, and live answers over the stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import soundfile
from playwright.sync_api import expect

from tests.serve.conftest import Running
from tests.serve.ui.browser import until
from tests.serve.ui.conftest import Visit

Start = Callable[..., Running]


def test_a_recording_is_made_and_sent(start: Start, visit: Visit, tmp_path: Path) -> None:
    server = start(keep_inputs=tmp_path / "inputs")
    page = visit(server.url)
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("meter", name="Loudness")).to_be_visible()
    until(page, "document.querySelector('meter').value > 0.3")
    expect(page.locator(".clock")).to_have_text("0:01")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".attached audio")).to_be_visible()
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".shares .bar-name")).to_have_text(["sound"])
    samples, rate = soundfile.read(kept(server, page.locator(".answer .print code").inner_text()))
    assert len(samples) / rate >= 1
    assert abs(samples).max() > 0.05, "the voice, not silence"


def kept(server: Running, prediction: str) -> Path:
    """The recording that a prediction was made of."""
    assert server.service.spool.flush(10)
    served = server.service.journal.find(prediction)
    assert served is not None
    assert server.service.inputs is not None
    found = server.service.inputs.path(served.inputs["audio"])
    assert found is not None
    return found


def test_live_speech_is_answered_while_it_lasts_and_at_the_end(start: Start, visit: Visit) -> None:
    server = start()
    page = visit(server.url)
    sent: list[str | bytes] = []

    def keep(payload: str | bytes) -> None:
        sent.append(payload)

    page.on("websocket", lambda socket: socket.on("framesent", keep))
    page.get_by_label("Text", exact=True).fill("this film was great")
    page.get_by_role("button", name="Talk live").click()
    expect(page.locator(".strip .answer")).not_to_have_count(0)
    expect(page.locator(".try-answer .label")).to_be_visible()
    page.get_by_label("Text", exact=True).fill("this film was awful")
    page.get_by_role("button", name="Stop").click()
    code = page.locator(".answer .print code")
    expect(code).to_be_visible()
    expect(page.locator(".answer audio")).to_be_visible()
    assert page.locator(".words").inner_text() == "this film was awful"
    assert server.service.spool.flush(10)
    served = server.service.journal.find(code.inner_text())
    assert served is not None
    assert (served.source, served.modalities) == ("stream", "text+audio")

    words = [json.loads(frame) for frame in sent if isinstance(frame, str)]
    sound = [frame for frame in sent if isinstance(frame, bytes)]
    assert [word["type"] for word in words] == ["start", "text", "end"]
    assert words[0]["format"] == "pcm16"
    assert {len(chunk) for chunk in sound} == {2 * words[0]["sample_rate"] // 10}


def test_a_live_answer_can_be_corrected(start: Start, visit: Visit) -> None:
    server = start()
    page = visit(server.url)
    page.get_by_role("button", name="Talk live").click()
    expect(page.locator(".strip .answer")).not_to_have_count(0)
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Yes, right").click()
    expect(page.get_by_text("Noted as right")).to_be_visible()
    [(served, _)] = server.service.journal.judged()
    assert served.source == "stream"


def test_silence_is_no_answer(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.evaluate(
        """() => {
            AudioContext.prototype.createMediaStreamSource = function () {
                const quiet = this.createConstantSource();
                quiet.offset.value = 0;
                quiet.start();
                return quiet;
            };
        }"""
    )
    page.get_by_role("button", name="Talk live").click()
    expect(page.get_by_text("Silence")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".empty")).to_contain_text("Nobody spoke, or the microphone is mute.")
    expect(page.get_by_role("button", name="Talk live")).to_be_enabled()


def test_without_permission_the_page_says_what_to_do(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.evaluate(
        """() => {
            navigator.mediaDevices.getUserMedia = () =>
                Promise.reject(new DOMException("no", "NotAllowedError"));
        }"""
    )
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("alert")).to_contain_text("Allow it in the address bar")
    expect(page.get_by_role("button", name="Record")).to_be_enabled()
