"""Models of other kinds: the page offers what they read, and shows and corrects what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from moodal import api
from tests.serve.conftest import Running
from tests.serve.ui.browser import drop, until
from tests.serve.ui.conftest import Visit
from tests.tiny import SETTINGS, article, hear_once, rows, spoken, wav, write_once

Start = Callable[..., Running]


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a number."""
    home = tmp_path_factory.mktemp("regression")
    data = rows(home / "data", numeric=True)
    settings = (*SETTINGS, "task=regress", "train.epochs=1", f"cache={home / 'cache'}")
    api.train(data / "train.csv", valid=data / "dev.csv", out=home / "model", settings=settings)
    return home / "model"


def test_what_was_heard_is_shown_word_by_word(start: Start, visit: Visit) -> None:
    page = visit(start(model=hear_once()).url)
    expect(page.get_by_text("This model reads sound.")).to_be_visible()
    expect(page.get_by_role("button", name="Camera")).to_have_count(0)
    expect(page.locator("textarea")).to_have_count(0)
    drop(page, "said.wav", "audio/wav", wav(spoken("abc ab", np.random.default_rng(0))))
    page.get_by_role("button", name="Ask").click()
    said = page.locator(".said").inner_text()
    words = page.locator("button.token")
    assert " ".join(words.all_inner_texts()) == said
    page.locator(".answer audio").evaluate(
        "player => player.addEventListener('seeked', () => (window.sought = player.currentTime))"
    )
    words.last.click()
    until(page, "window.sought > 0.2")
    assert "sure" in (words.last.get_attribute("title") or "")


def test_a_text_is_corrected_as_a_text(start: Start, visit: Visit, tmp_path: Path) -> None:
    server = start(model=write_once(), keep_inputs=tmp_path / "inputs")
    page = visit(server.url)
    page.get_by_label("Text", exact=True).fill(article(np.random.default_rng(0))[0])
    page.keyboard.press("Enter")
    better = page.get_by_label("No, it should have been")
    expect(better).to_have_value(page.locator(".said").inner_text())
    better.fill("some rice")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Noted: some rice.")).to_be_visible()
    page.get_by_role("link", name="Review").click()
    expect(page.locator(".reviewed .notice")).to_contain_text("A user says: some rice")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("1 labelled in this round")).to_be_visible()
    judged = [judgement for _, judgement in server.service.journal.judged()]
    assert [judgement.by for judgement in judged] == ["reviewer"]


def test_a_text_that_was_not_kept_is_missed_in_words(start: Start, visit: Visit) -> None:
    server = start(model=write_once())
    assert server.send("/v1/predict", {"text": "anna bought rice"}).status == 200
    assert server.service.spool.flush(10)
    page = visit(f"{server.url}/#review")
    expect(page.locator(".reviewed .said")).to_have_text("A text, which was not kept.")


def test_a_number_is_explained_and_corrected_as_a_number(
    start: Start, visit: Visit, regression: Path
) -> None:
    server = start(model=regression)
    page = visit(server.url)
    page.get_by_label("Text", exact=True).fill("this film was great")
    page.keyboard.press("Enter")
    value = float(page.locator(".answer .label").inner_text().replace("−", "-"))
    assert page.locator(".answer .chosen").count() == 0, "no probabilities"
    expect(page.locator(".shares .bar-value")).not_to_contain_text("points")
    better = page.get_by_label("No, it should have been")
    assert float(better.input_value()) == pytest.approx(value, abs=0.001)
    better.fill("7.5")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Noted: 7.5.")).to_be_visible()
    [(_, judgement)] = server.service.journal.judged()
    assert float(judgement.label) == 7.5
