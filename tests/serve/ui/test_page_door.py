"""A service that wants a key, and a service that is gone: the page says so and recovers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from moodal.serve import keys
from tests.serve.conftest import Running, serving, settings_of
from tests.serve.ui.conftest import Visit

Start = Callable[..., Running]
REFUSED = "401|403|ERR_CONNECTION_REFUSED"


@pytest.fixture
def locked(start: Start, tmp_path: Path) -> tuple[Running, str]:
    """A service that wants a key, and the key."""
    key = keys.add(tmp_path / "keys", "ann")
    return start(api_keys=tmp_path / "keys", keep_inputs=tmp_path / "inputs"), key


def enter(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def ask(page: Page) -> str:
    """The prediction's id."""
    page.get_by_label("Text", exact=True).fill("this film was great")
    page.keyboard.press("Enter")
    return page.locator(".answer .print code").inner_text()


def test_a_wrong_key_is_refused_and_the_right_one_opens(
    locked: tuple[Running, str], visit: Visit
) -> None:
    server, key = locked
    page = visit(server.url, expected=REFUSED)
    door = page.get_by_role("dialog", name="This service wants a key")
    expect(page.get_by_label("API key")).to_be_focused()
    enter(page, "wrong")
    expect(door.get_by_role("alert")).to_have_text("This key is not known.")
    enter(page, key)
    expect(door).to_have_count(0)
    id = ask(page)
    assert server.service.spool.flush(10)
    served = server.service.journal.find(id)
    assert served is not None
    assert served.caller == "ann"


def test_with_a_key_every_view_and_the_stream_work(
    locked: tuple[Running, str], visit: Visit
) -> None:
    server, key = locked
    page = visit(server.url, expected=REFUSED)
    enter(page, key)
    ask(page)
    page.get_by_role("button", name="Yes, right").click()
    expect(page.get_by_text("Noted as right")).to_be_visible()
    page.get_by_role("link", name="Review").click()
    expect(page.locator("blockquote")).to_have_text("this film was great")
    page.get_by_role("link", name="Monitor").click()
    expect(page.locator(".tile dd").first).to_have_text("1")
    page.get_by_role("link", name="Try").click()
    page.get_by_role("button", name="Talk live").click()
    expect(page.locator(".strip .answer")).not_to_have_count(0)


def test_the_key_is_kept_in_this_tab_alone(locked: tuple[Running, str], visit: Visit) -> None:
    server, key = locked
    page = visit(server.url, expected=REFUSED)
    enter(page, key)
    expect(page.get_by_role("heading", name="Ask the model")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Ask the model")).to_be_visible()
    in_tab, in_browser = page.evaluate(
        "[sessionStorage, localStorage].map((kept) => JSON.stringify({ ...kept }))"
    )
    assert key in in_tab
    assert key not in in_browser
    other = page.context.new_page()
    other.goto(server.url)
    expect(other.get_by_role("dialog")).to_be_visible()


def test_who_will_not_give_a_key_is_told_what_is_missing(
    locked: tuple[Running, str], visit: Visit
) -> None:
    page = visit(locked[0].url, expected=REFUSED)
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("alert")).to_contain_text("This needs a key.")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_private_documents_ask_for_the_key_too(start: Start, visit: Visit, tmp_path: Path) -> None:
    key = keys.add(tmp_path / "keys", "ann")
    server = start(api_keys=tmp_path / "keys", private_docs=True)
    page = visit(f"{server.url}/docs", expected=REFUSED)
    enter(page, key)
    expect(page.get_by_text("/v1/predict/batch")).to_be_visible()


def test_a_service_that_is_gone_is_missed_and_found_again(visit: Visit, tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    with serving(settings) as server:
        page = visit(server.url, expected=REFUSED)
        expect(page.locator("form.ask")).to_be_visible()
        port = server.port
    page.get_by_label("Text", exact=True).fill("this film was great")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The service does not answer.")).to_be_visible()
    expect(page.get_by_text("Is it still running?")).to_be_visible()
    with serving(settings.model_copy(update={"port": port})):
        expect(page.get_by_text("The service does not answer.")).to_have_count(0)
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".answer .print")).to_be_visible()
