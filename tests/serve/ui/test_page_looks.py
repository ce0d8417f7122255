"""For everybody: two languages, two themes, a phone, a keyboard, ears; colours that can be read."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.serve.conftest import Running
from tests.serve.ui.browser import drop, faint, overflowing
from tests.serve.ui.conftest import Visit
from tests.tiny import picture, png, tone, wav

RNG = np.random.default_rng(0)
PICTURE, SOUND = png(picture("good", RNG)), wav(tone("good", RNG))

Start = Callable[..., Running]
VIEWS = ("try", "review", "monitor")
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def asked(server: Running) -> Running:
    """A service that has something to show in every view."""
    reply = server.send("/v1/predict", {"text": "this film was great 这部电影真的很精彩"})
    assert reply.status == 200
    assert server.service.spool.flush(10)
    return server


def show(page: Page, view: str) -> None:
    """Go to a view and wait until it is whole."""
    page.locator(f"nav a[href='/#{view}']").click()
    whole = {"try": "form.ask", "review": ".reviewed", "monitor": ".drift"}
    expect(page.locator(whole[view])).to_be_visible()
    if view == "try":
        if page.locator(".attached").count() == 0:
            drop(page, "一张名字很长很长很长的图片.png", "image/png", PICTURE)
            drop(page, "一段名字很长很长很长的录音.wav", "audio/wav", SOUND)
        page.locator("textarea").first.fill("this film was great")
        page.keyboard.press("Enter")
        expect(page.locator(".answer .print")).to_be_visible()


@pytest.mark.parametrize(
    ("locale", "lang", "first"),
    [
        ("en-GB", "en", "Ask the model"),
        ("zh-CN", "zh-CN", "问问模型"),
        ("fr-FR", "en", "Ask the model"),
    ],
)
def test_the_browsers_language_is_spoken(
    asked: Running, visit: Visit, locale: str, lang: str, first: str
) -> None:
    page = visit(asked.url, locale=locale)
    expect(page.get_by_role("heading", level=1)).to_have_text(first)
    assert page.locator("html").get_attribute("lang") == lang


def test_the_language_can_be_switched_and_stays(asked: Running, visit: Visit) -> None:
    page = visit(asked.url)
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("问问模型")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("问问模型")
    for view in VIEWS:
        show(page, view)
        said = re.sub(r"[0-9a-f]{12,}", "", page.locator("main").inner_text())  # no identifiers
        latin = re.findall(r"[A-Za-z]{4,}", said)
        assert {word for word in latin if not re.fullmatch(KEPT, word)} == set(), view


KEPT = "(this|film|great|moodal|serve|keep|inputs|model|bad|fair|good)+"
"""Words of the question and of the command line, the tiny model's name and its labels."""


def test_the_theme_follows_the_system_until_it_is_switched(asked: Running, visit: Visit) -> None:
    page = visit(asked.url, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Colours: as the system has them").click()
    light = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == light
    page.get_by_role("button", name="Colours: light").click()
    page.get_by_role("button", name="Colours: dark").click()
    expect(page.get_by_role("button", name="Colours: as the system has them")).to_be_visible()
    assert page.evaluate(background) == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == light


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_a_phone_shows_everything_without_scrolling_sideways(
    asked: Running, visit: Visit, locale: str
) -> None:
    page = visit(asked.url, locale=locale, viewport=PHONE)
    for view in VIEWS:
        show(page, view)
        assert overflowing(page) == [], view
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_its_ground(asked: Running, visit: Visit, scheme: str) -> None:
    """WCAG 2.2, success criterion 1.4.3: 4.5 to 1."""
    page = visit(asked.url, color_scheme=scheme)
    for view in VIEWS:
        show(page, view)
        assert faint(page) == [], view


def test_every_control_and_region_has_a_name(asked: Running, visit: Visit) -> None:
    page = visit(asked.url)
    for view in VIEWS:
        show(page, view)
        nameless = page.locator("button, input, select, textarea, a, audio, meter").evaluate_all(
            """all => all.filter(e => e.checkVisibility()
                && !(e.ariaLabel || e.labels?.[0]?.textContent.trim() || e.textContent.trim()))
                .map(e => e.outerHTML)"""
        )
        assert nameless == [], view
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            expect(page.get_by_role(landmark)).to_have_count(1)
        assert page.get_by_role("heading", level=1).count() == 1


def test_the_answer_is_told_to_ears(asked: Running, visit: Visit) -> None:
    page = visit(asked.url)
    show(page, "try")
    label = page.locator(".answer .chosen .bar-name").inner_text()
    expect(page.locator(".try-answer > [role=status]")).to_contain_text(f"Answer: {label}, ")


def focused(page: Page) -> str:
    """What has the focus, in words; it must be seen to have it."""
    name, outline = page.evaluate(
        """() => {
            const at = document.activeElement;
            const words = at.labels?.[0]?.textContent ?? at.textContent;
            const name = at.ariaLabel || words.trim();
            const shown = at.type === "file" ? at.closest("label") : at;
            return [name, getComputedStyle(shown).outlineStyle];
        }"""
    )
    assert outline == "solid" or name == "", name
    return str(name)


def test_tab_goes_through_the_page_in_reading_order(asked: Running, visit: Visit) -> None:
    page = visit(asked.url)
    expect(page.locator("textarea")).to_be_focused()
    page.keyboard.type("great")
    while focused(page) != "Skip to the content":
        page.keyboard.press("Shift+Tab")
    passed = ["Skip to the content"]
    while "API" not in passed:
        page.keyboard.press("Tab")
        passed.append(focused(page))
    assert passed == [
        "Skip to the content", "Moodal", "Try", "Review", "Monitor", "中文",
        "Colours: as the system has them", "Keys", "Text", "Files", "Camera", "Record",
        "Talk live", "Explain the answer", "Ask", "API",
    ]  # fmt: skip


def test_by_keyboard_alone_from_a_question_to_its_correction_and_review(
    start: Start, visit: Visit
) -> None:
    server = start()
    page = visit(server.url)
    expect(page.locator("textarea")).to_be_focused()
    page.keyboard.type("this film was great")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .print")).to_be_visible()
    while focused(page) != "Yes, right":
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    label = focused(page)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Thank you")).to_be_visible()
    [(_, judgement)] = server.service.journal.judged()
    assert judgement.label == label

    while focused(page) != "Review":
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".reviewed")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert focused(page) == "Review"
    page.keyboard.press("1")
    expect(page.get_by_text("1 labelled in this round")).to_be_visible()
    [(_, judgement)] = server.service.journal.judged()
    assert judgement.by == "reviewer"


def test_the_skip_link_leads_past_the_head(asked: Running, visit: Visit) -> None:
    page = visit(f"{asked.url}/#monitor")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    assert focused(page).startswith("Time")
