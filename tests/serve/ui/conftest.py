"""A real browser, with a voice in its microphone, that complains of every error on a page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from moodal.preprocess.audio import wav
from tests.serve.speech import say

CHROMIUM = Path("/usr/bin/chromium")
"""Debian's; `make` installs it."""
TIMEOUT_MS = 20_000
"""Far more than anything takes: two cores, shared."""

Visit = Callable[..., Page]

LOUD = ("error", "warning")
"""What a console says that no page should."""
MOVED = "ERR_NETWORK_CHANGED"
"""What Chromium says of every request under way when a network interface comes or goes."""
FELL_OUT = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """A test whose requests Chromium threw away, since some container started or stopped on this
    machine, says nothing of the page."""
    try:
        return (yield)
    except (AssertionError, Error):
        if pyfuncitem.stash.get(FELL_OUT, False):
            pytest.skip("the network of this machine changed under the browser; run it again")
        raise


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """For one module: as long as it runs, no other test of this thread may use asyncio."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not here; apt-get install chromium")
    expect.set_options(timeout=TIMEOUT_MS)
    voice = tmp_path_factory.mktemp("voice") / "voice.wav"
    voice.write_bytes(wav(say(4.0)))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={voice}",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """visit(url, expected="", **options of a context) -> Page, shown.

    A test fails when its page logs an error or raises one, unless `expected`, a pattern, matches.
    """
    complaints: list[str] = []
    with ExitStack() as stack:

        def opened(url: str, *, expected: str = "", **options: Any) -> Page:
            given = {"locale": "en-US", "permissions": ["microphone", "camera"], **options}
            context = browser.new_context(**given)
            stack.callback(context.close)
            context.set_default_timeout(TIMEOUT_MS)
            page = context.new_page()

            def complain(text: str) -> None:
                if MOVED in text:
                    request.node.stash[FELL_OUT] = True
                elif not (expected and re.search(expected, text)):
                    complaints.append(text)

            page.on("console", lambda m: complain(m.text) if m.type in LOUD else None)
            page.on("pageerror", lambda error: complain(str(error)))
            page.goto(url)
            return page

        yield opened
    assert not complaints
