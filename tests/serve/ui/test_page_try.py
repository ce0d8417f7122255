"""Try: a question by hand, its answer on the page and in the journal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.serve.conftest import Running
from tests.serve.ui.browser import drop, ink, until
from tests.serve.ui.conftest import Visit
from tests.tiny import picture, png, tone, wav

RNG = np.random.default_rng(0)
PICTURE, SOUND = png(picture("good", RNG)), wav(tone("good", RNG))
ATTACK = "<img src=x onerror=\"document.title='owned'\"> great"

Start = Callable[..., Running]


def ask(page: Page, text: str) -> None:
    page.get_by_label("Text", exact=True).fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".answer .print code")).to_be_visible()


def prediction(page: Page) -> str:
    return page.locator(".answer .print code").inner_text()


def test_a_typed_question_is_answered_and_explained(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    ask(page, "This film was great, truly.")
    answer = page.locator(".answer")
    given = server.service.journal
    assert server.service.spool.flush(10)
    served = given.find(prediction(page))
    assert served is not None
    assert served.label is not None
    expect(answer.locator(".label")).to_contain_text(served.label)
    assert answer.locator(".bars").first.locator(".bar").count() == 3
    expect(answer.locator(".chosen .bar-name")).to_have_text(served.label)
    assert answer.locator(".words").inner_text() == "This film was great, truly."
    marks = answer.locator(".words mark").all_inner_texts()
    assert marks == ["This", "film", "was", "great", ",", "truly", "."]
    expect(answer.locator(".print")).to_contain_text(f"model {server.service.version}")
    expect(answer.locator(".print")).to_contain_text(" ms")


def test_shift_enter_writes_a_line(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.get_by_label("Text", exact=True).fill("great")
    page.keyboard.press("Shift+Enter")
    assert page.get_by_label("Text", exact=True).input_value() == "great\n"
    expect(page.get_by_text("No answer yet")).to_be_visible()


def test_files_that_are_dropped_are_read_and_shown(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    drop(page, "sight.png", "image/png", PICTURE)
    drop(page, "sound.wav", "audio/wav", SOUND)
    drop(page, "words.txt", "text/plain", b"this film was great")
    expect(page.get_by_label("Text", exact=True)).to_have_value("this film was great")
    page.get_by_role("button", name="Ask").click()
    names = page.locator(".shares .bar-name")
    expect(names).to_have_text(["text", "picture", "sound"])
    assert ink(page, ".picture canvas") > 0
    page.get_by_label("Show what mattered").uncheck()
    expect(page.locator(".picture canvas")).to_have_count(0)
    expect(page.locator(".answer audio")).to_be_visible()


def test_what_the_model_cannot_read_is_said_at_once(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    drop(page, "table.xlsx", "application/vnd.ms-excel", b"PK")
    expect(page.get_by_role("alert")).to_have_text("table.xlsx is nothing that this model reads.")


def test_a_refusal_says_why_and_the_same_can_be_asked_again(server: Running, visit: Visit) -> None:
    page = visit(server.url, expected="422")
    drop(page, "broken.png", "image/png", b"no picture at all")
    page.get_by_role("button", name="Ask").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The service cannot read this.")
    expect(alert).to_contain_text("image")
    page.get_by_role("button", name="Remove broken.png").click()
    ask(page, "great")


def test_one_click_corrects_an_answer_in_the_journal(start: Start, visit: Visit) -> None:
    server = start()
    page = visit(server.url)
    ask(page, "this film was great")
    other = page.get_by_role("group", name="No, it should have been").get_by_role("button").first
    label = other.inner_text()
    other.click()
    expect(page.get_by_role("status").filter(has_text="Thank you")).to_contain_text(label)
    assert server.service.spool.flush(10)
    [(served, judgement)] = server.service.journal.judged()
    assert (served.id, judgement.label, judgement.by) == (prediction(page), label, "user")


def test_right_is_one_click_and_may_be_changed(start: Start, visit: Visit) -> None:
    server = start()
    page = visit(server.url)
    ask(page, "this film was great")
    page.get_by_role("button", name="Yes, right").click()
    expect(page.get_by_text("Noted as right")).to_be_visible()
    page.get_by_role("button", name="Change").click()
    page.get_by_role("group", name="No, it should have been").get_by_role("button").last.click()
    expect(page.get_by_text("Thank you. Noted:")).to_be_visible()
    [(served, judgement)] = server.service.journal.judged()
    assert judgement.label != served.label


def test_what_a_user_writes_is_never_markup(start: Start, visit: Visit) -> None:
    server = start()
    page = visit(server.url)
    ask(page, ATTACK)
    assert page.locator(".words").inner_text() == ATTACK
    page.get_by_text("Add a comment first").click()
    page.get_by_label("Comment").fill(ATTACK)
    page.get_by_role("group", name="No, it should have been").get_by_role("button").first.click()
    expect(page.get_by_text("Thank you")).to_be_visible()
    page.get_by_role("link", name="Review").click()
    expect(page.locator(".reviewed .notice")).to_contain_text(ATTACK)
    assert page.locator("img").count() == 0
    assert "owned" not in page.title()


def test_an_answer_not_to_rely_on_says_so_in_words(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    ask(page, "zyx qwv jkl mnb vcx")
    expect(page.locator(".answer .caution")).to_contain_text("Better not to rely on this.")
    expect(page.locator(".answer .caution")).to_contain_text("another language")


def test_an_example_fills_the_form(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    example = page.locator(".example").first
    words = example.inner_text()
    example.click()
    expect(page.get_by_label("Text", exact=True)).to_have_value(words)


def test_the_camera_takes_a_picture_that_is_asked_about(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    page.get_by_role("button", name="Camera").click()
    shutter = page.get_by_role("button", name="Take the picture")
    expect(shutter).to_be_enabled()
    until(page, "document.querySelector('video').videoWidth > 0")
    shutter.click()
    expect(page.locator(".attached img")).to_be_visible()
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".shares .bar-name")).to_have_text(["picture"])


def test_a_picture_can_be_pasted(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    expect(page.get_by_label("Text", exact=True)).to_be_focused()
    page.evaluate(
        """bytes => {
            const clipboardData = new DataTransfer();
            const file = new File([new Uint8Array(bytes)], "p.png", { type: "image/png" });
            clipboardData.items.add(file);
            const options = { clipboardData, bubbles: true, cancelable: true };
            document.activeElement.dispatchEvent(new ClipboardEvent("paste", options));
        }""",
        list(PICTURE),
    )
    expect(page.locator(".attached img")).to_be_visible()


@pytest.mark.parametrize("explain", [True, False])
def test_reasons_are_given_if_wanted(server: Running, visit: Visit, explain: bool) -> None:
    page = visit(server.url)
    page.get_by_label("Explain the answer").set_checked(explain)
    ask(page, "this film was great")
    assert page.locator(".words").count() == int(explain)
