"""What single modules of the page compute, by hand; the browser runs them as they are served."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.serve.conftest import Running
from tests.serve.ui.conftest import Visit

BUCKET = {"p50_ms": 2.0, "p99_ms": 3.0, "confidence": 0.5, "abstained": 1, "modalities": {}}


def call(page: Page, module: str, does: str, *given: Any) -> Any:
    """does: a function of the module and `given`, in JavaScript."""
    return page.evaluate(
        f"""async ([name, given]) => {{
            const main = document.querySelector("script[type=module]").src;
            return ({does})(await import(new URL(name, main)), ...given);
        }}""",
        [module, list(given)],
    )


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("So OK!", [("so", 1), ("ok", 4)], [("So", 1), (" ", None), ("OK", 4), ("!", None)]),
        ("很好看", [("很", 0.1), ("好看", 0.2)], [("很", 0.1), ("好看", 0.2), ("", None)]),
        ("a ☺ b", [("a", 1), (":)", 2), ("b", 3)], [("a", 1), (" ☺ ", None), ("b", 3), ("", None)]),
        ("no no", [("no", 1), ("no", -1)], [("no", 1), (" ", None), ("no", -1), ("", None)]),
    ],
)  # fmt: skip
def test_words_are_found_where_they_were_written(
    server: Running, visit: Visit, text: str, words: Any, expected: Any
) -> None:
    page = visit(server.url)
    found = call(page, "weighted.js", "(m, text, words) => m.pieces(text, words)", text, words)
    assert [(piece["text"], piece["weight"]) for piece in found] == expected


def test_time_without_answers_is_a_gap_in_every_line(server: Running, visit: Visit) -> None:
    told = [{**BUCKET, "at": at, "n": n, "labels": {"good": 1}} for at, n in ((110, 2), (130, 1))]
    look = {
        "since": 85, "until": 145, "bucket_seconds": 10, "buckets": told, "requests": 3,
        "labels": {"good": 2}, "modalities": {}, "events": [], "accuracy": {"feedback": None},
    }  # fmt: skip
    page = visit(server.url)
    plots = call(page, "plots.js", "(m, look) => m.plotsOf(look).map(({ show, ...p }) => p)", look)
    traffic, latency, labels = plots[:3]
    assert traffic["at"] == [90, 100, 110, 120, 130, 140]
    assert traffic["lines"][0]["values"] == [0, 0, 2, 0, 1, 0]
    assert latency["lines"][0]["values"] == [None, None, 2.0, None, 2.0, None]
    assert labels["lines"][0]["values"] == [None, None, 0.5, None, 1.0, None]


def test_a_recording_is_a_file_that_says_what_it_holds(server: Running, visit: Visit) -> None:
    page = visit(server.url)
    made = call(
        page,
        "wav.js",
        """async (m) => {
            const blob = m.wav([new Int16Array([1, -2]), new Int16Array([3])], 8000);
            return [...new Uint8Array(await blob.arrayBuffer())];
        }""",
    )
    assert bytes(made) == (
        b"RIFF" + (36 + 6).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
        + b"\x01\x00\x01\x00" + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little")
        + b"\x02\x00\x10\x00" + b"data" + (6).to_bytes(4, "little") + b"\x01\x00\xfe\xff\x03\x00"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("milliseconds", "said"), [(4.21, "4.2 ms"), (120.4, "120 ms"), (1870, "1.9 s")]
)
def test_times_are_said_as_people_say_them(
    server: Running, visit: Visit, milliseconds: float, said: str
) -> None:
    page = visit(server.url)
    assert call(page, "words.js", "(m, ms) => m.duration(ms)", milliseconds) == said
