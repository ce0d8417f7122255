"""Review: the queue by hand and by key; what a reviewer says is in the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.serve.conftest import Running
from tests.serve.ui.browser import until
from tests.serve.ui.conftest import Visit
from tests.tiny import LABELS, picture, png, tone, wav

RNG = np.random.default_rng(0)
TEXTS = ("this film was great", "the room was awful", "my order was plain")
WHOLE = {
    "text": "<b>that song</b> was lovely",
    "image": png(picture("good", RNG)),
    "audio": wav(tone("good", RNG)),
}

Start = Callable[..., Running]


@pytest.fixture
def queue(start: Start) -> Running:
    """A service that has given three answers and kept no inputs."""
    server = start()
    for text in TEXTS:
        assert server.send("/v1/predict", {"text": text}).status == 200
    assert server.service.spool.flush(10)
    return server


def open_review(server: Running, visit: Visit) -> Page:
    page = visit(f"{server.url}/#review")
    expect(page.locator(".reviewed")).to_be_visible()
    return page


def said(server: Running) -> list[tuple[str, str, str]]:
    return [(j.label, j.comment, j.by) for _, j in server.service.journal.judged()]


def test_one_key_a_label(queue: Running, visit: Visit) -> None:
    page = open_review(queue, visit)
    for key in "132":
        place = page.locator(".places span").inner_text()
        page.keyboard.press(key)
        expect(page.locator(".places span, .review > .empty")).not_to_have_text(place)
    expect(page.get_by_text("3 labelled in this round")).to_be_visible()
    labels = [LABELS[0], LABELS[2], LABELS[1]]
    assert said(queue) == [(label, "", "reviewer") for label in labels]
    page.get_by_role("button", name="Fetch more").click()
    expect(page.get_by_text("Nothing to review")).to_be_visible()


def test_j_and_k_move_and_a_label_can_be_changed(queue: Running, visit: Visit) -> None:
    page = open_review(queue, visit)
    place = page.locator(".places span")
    page.keyboard.press("j")
    expect(place).to_have_text("2 of 3")
    page.keyboard.press("k")
    expect(place).to_have_text("1 of 3")
    page.keyboard.press("1")
    expect(place).to_have_text("2 of 3")
    page.keyboard.press("k")
    expect(page.get_by_role("button", name=LABELS[0])).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("2")
    expect(place).to_have_text("2 of 3")
    assert [label for label, _, _ in said(queue)] == [LABELS[1]]


def test_what_is_written_into_the_comment_labels_nothing(queue: Running, visit: Visit) -> None:
    page = open_review(queue, visit)
    page.keyboard.press("c")
    page.keyboard.type("1 of 3, j")
    expect(page.locator(".places span")).to_have_text("1 of 3")
    page.get_by_role("button", name=LABELS[0]).click()
    expect(page.locator(".places span")).to_have_text("2 of 3")
    assert said(queue) == [(LABELS[0], "1 of 3, j", "reviewer")]


def test_single_keys_can_be_switched_off(queue: Running, visit: Visit) -> None:
    page = open_review(queue, visit)
    page.keyboard.press("?")
    page.get_by_label("Single keys do something").uncheck()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("j")
    page.keyboard.press("1")
    expect(page.locator(".places span")).to_have_text("1 of 3")
    assert said(queue) == []


def test_inputs_that_were_not_kept_are_missed_in_words(queue: Running, visit: Visit) -> None:
    page = open_review(queue, visit)
    expect(page.locator(".reviewed-asked")).to_contain_text("--keep-inputs")


def test_kept_inputs_are_shown(start: Start, visit: Visit, tmp_path: Path) -> None:
    server = start(keep_inputs=tmp_path / "inputs")
    assert server.send("/v1/predict", WHOLE).status == 200
    assert server.service.spool.flush(10)
    page = open_review(server, visit)
    expect(page.locator("blockquote")).to_have_text(str(WHOLE["text"]))
    until(page, "document.querySelector('.reviewed img')?.naturalWidth === 24")
    until(page, "document.querySelector('.reviewed audio')?.duration > 0.2")
    page.keyboard.press("p")
    until(page, "document.querySelector('.reviewed audio').currentTime > 0")


def test_each_order_is_asked_of_the_service(queue: Running, visit: Visit) -> None:
    page = open_review(queue, visit)
    for order in ("disagreeing", "drifted", "newest"):
        with page.expect_response(f"**/v1/review?order={order}*") as reply:
            page.get_by_label("First").select_option(order)
        assert reply.value.status == 200
        expect(page.locator(".reviewed")).to_be_visible()


def test_an_empty_queue_says_so(server: Running, start: Start, visit: Visit) -> None:
    page = visit(f"{start().url}/#review")
    expect(page.get_by_text("Nothing to review")).to_be_visible()
