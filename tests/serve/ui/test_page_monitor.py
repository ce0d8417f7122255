"""Monitor: what the journal holds, drawn."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import expect

from moodal.store.ids import new_id
from moodal.store.rows import Alert, Event
from tests.serve.conftest import Running
from tests.serve.ui.browser import ink, until
from tests.serve.ui.conftest import Visit

Start = Callable[..., Running]
FIRST = (15, 118, 110)
"""The colour of each plot's first line, by day."""


def test_nothing_asked_is_said_in_words(start: Start, visit: Visit) -> None:
    page = visit(f"{start().url}/#monitor")
    expect(page.get_by_text("No answers in this time")).to_be_visible()


def test_every_plot_is_drawn_and_says_itself_in_words(start: Start, visit: Visit) -> None:
    server = start()
    for _ in range(3):
        for text in ("this film was great", "the room was awful"):
            assert server.send("/v1/predict", {"text": text}).status == 200
    assert server.service.spool.flush(10)
    page = visit(f"{server.url}/#monitor")
    expect(page.locator(".tile dd").first).to_have_text("6")
    plots = page.locator(".plot [role=img]")
    expect(plots).to_have_count(5)
    for place in range(5):
        assert plots.nth(place).get_attribute("aria-label")
        plots.nth(place).scroll_into_view_if_needed()
        until(page, f"document.querySelectorAll('.plot canvas')[{place}].width > 0")
        assert ink(page, f":nth-match(.plot canvas, {place + 1})", FIRST) > 5
    expect(page.locator(".drift tbody tr")).not_to_have_count(0)
    with page.expect_response("**/v1/monitor?since=7d"):
        page.get_by_role("combobox", name="Time").select_option("7d")
    expect(page.locator(".tile dd").first).to_have_text("6")


def test_alerts_and_versions_are_told(start: Start, visit: Visit) -> None:
    server = start()
    now = time.time()
    promoted = Event(new_id(now), now, "promoted", "0123456789ab", "better", {})
    server.service.journal.record(promoted)
    alert = Alert(
        new_id(now), "drift:text.length", now, None, 0.4, 0.25, "Texts grew.", "文字变长了。"
    )
    server.service.journal.raise_alert(alert)
    page = visit(f"{server.url}/#monitor")
    expect(page.locator(".events")).to_contain_text("Promoted better 0123456789ab")
    expect(page.get_by_role("alert")).to_contain_text("Texts grew.")
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("alert")).to_contain_text("文字变长了。")
