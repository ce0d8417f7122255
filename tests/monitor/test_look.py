"""A look at a real journal: what it holds, that it stays small, and what it says to people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny import train_once

from moodal import bundle
from moodal.cli import cli
from moodal.errors import ConfigError
from moodal.monitor import look
from moodal.monitor.look import Bucket
from moodal.monitor.table import table
from moodal.runtime import reference
from moodal.store import journal
from moodal.store.journal import Journal
from moodal.store.rows import Alert, Event, Served
from tests.store.samples import NOON, judgement, served

INFO = bundle.load(train_once())
VERSION = bundle.version(INFO)
REFERENCE = reference.load(train_once(), INFO)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Journal]:
    with journal.open(f"sqlite:///{tmp_path}/journal.sqlite") as made:
        yield made


def ours(n: int, **changes: Any) -> Served:
    return served(n, model=VERSION, **changes)


def taken(book: Journal, seconds: float = 3600) -> look.Look:
    return look.look(book, reference=REFERENCE, info=INFO, since=NOON, until=NOON + seconds)


def test_traffic_is_counted_by_span_of_time(book: Journal) -> None:
    book.add([ours(n, seconds=(n + 1) / 1000, confidence=0.5) for n in range(10)])
    book.add([ours(60, label="negative", modalities="image", language="", abstain=True)])
    book.add([served(61, model="another", label=None, value=1.5, modalities="")])
    book.add([ours(7200), served(99_999)])  # after the hour
    found = taken(book)
    assert found.requests == 12
    assert found.bucket_seconds == 60
    first, second = found.buckets
    assert first == Bucket(NOON, 10, 5, 10, 0.5, 0, {"positive": 10}, {"text": 10})
    assert (second.at, second.n, second.abstained) == (NOON + 60, 2, 1)
    assert second.labels == {"negative": 1}
    assert second.modalities == {"image": 1, "": 1}
    assert found.labels == {"positive": 10, "negative": 1}
    assert found.languages == {"en": 10}
    assert found.models == {VERSION: 11, "another": 1}


def test_confidence_of_a_span_is_the_mean_over_its_answers(book: Journal) -> None:
    book.add([ours(n, confidence=0.9) for n in range(3)])
    book.add([ours(n, confidence=0.5, label="negative") for n in range(3, 4)])
    [bucket] = taken(book).buckets
    assert bucket.confidence == pytest.approx((3 * 0.9 + 0.5) / 4)


def test_drift_and_accuracy_are_of_this_model_alone(book: Journal) -> None:
    book.add([ours(n, confidence=0.9) for n in range(5)])
    book.add([served(n, model="another", confidence=0.1) for n in range(5, 10)])
    book.judge(judgement(1, 1, at=NOON + 100))
    book.judge(judgement(2, 6, at=NOON + 100, label="negative"))
    found = taken(book).measured
    assert (found.rows, found.sampled) == (5, 5)
    assert found.quality.estimated == pytest.approx(0.9)
    assert (found.quality.n_feedback, found.quality.feedback) == (1, 1.0)
    lengths = next(d for d in found.drifts if d.measure == "text.length")
    assert (lengths.n, lengths.state) == (5, "few")


def test_what_was_said_later_is_not_of_this_stretch(book: Journal) -> None:
    book.add([ours(1)])
    book.judge(judgement(1, 1, at=NOON + 4000))
    assert taken(book).measured.quality.n_feedback == 0
    assert taken(book, 5000).measured.quality.n_feedback == 1


def test_alerts_and_events_of_the_time_are_there(book: Journal) -> None:
    for n, (raised, cleared) in enumerate([(-50.0, -10.0), (-50.0, 10.0), (20.0, None)]):
        name = f"drift:{n}"
        book.raise_alert(Alert(f"{n}", name, NOON + raised, None, 0.5, 0.25, "Drifted", "偏离"))
        if cleared is not None:
            book.clear_alert(name, NOON + cleared)
    book.record(Event("1", NOON, "promoted", VERSION, "tiny", {"gain": 0.1}))
    found = taken(book)
    assert {a.name for a in found.alerts} == {"drift:1", "drift:2"}
    told = found.to_dict()
    assert told["events"] == [
        {
            "id": "1",
            "at": NOON,
            "change": "promoted",
            "model": VERSION,
            "name": "tiny",
            "numbers": {"gain": 0.1},
        }
    ]
    assert [(a["name"], a["cleared"]) for a in told["alerts"]] == [
        ("drift:2", None),
        ("drift:1", NOON + 10),
    ]


def test_of_many_answers_a_sample_is_looked_at_over_all_the_time(
    book: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "SAMPLE", 60)
    book.add([ours(n) for n in range(600)])
    rows = {NOON: 120, NOON + 120: 120, NOON + 240: 360}
    found = list(look.sample(book, VERSION, rows, seconds=120))
    assert [sum(a <= row.at < b for row in found) for a, b in pairwise(rows)] == [12, 12]
    counts = taken(book).measured
    assert (counts.rows, counts.sampled) == (600, 60)


def test_a_burst_at_the_end_of_its_span_is_looked_at(
    book: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "SAMPLE", 60)
    book.add([ours(n, at=NOON + 119 + n / 1000) for n in range(600)])
    assert len(list(look.sample(book, VERSION, {NOON: 600}, seconds=120))) == 60


def test_nothing_at_all_is_a_look_too(book: Journal) -> None:
    found = taken(book)
    assert (found.requests, found.buckets, found.measured.rows) == (0, (), 0)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["accuracy"]["estimated"] is None
    assert {d["state"] for d in told["drift"]} == {"few"}
    lines = table(found).splitlines()
    assert "accuracy    nothing was answered by this model" in lines
    assert "drift       nothing was answered by this model" in lines
    assert "alerts      none" in lines


def test_the_json_is_what_the_page_reads(book: Journal) -> None:
    book.add([ours(n) for n in range(3)])
    told = json.loads(json.dumps(taken(book).to_dict(), allow_nan=False))
    assert {
        "since",
        "until",
        "model",
        "requests",
        "buckets",
        "labels",
        "modalities",
        "languages",
        "drift",
        "accuracy",
        "alerts",
        "events",
    } <= told.keys()
    assert told["buckets"][0].keys() == {
        "at",
        "n",
        "p50_ms",
        "p99_ms",
        "confidence",
        "abstained",
        "labels",
        "modalities",
    }
    assert {"measure", "modality", "psi", "ks", "ks_limit", "n", "state"} <= told["drift"][0].keys()
    names = ("estimated", "estimated_interval", "feedback", "feedback_interval", "n", "n_feedback")
    assert set(names) <= told["accuracy"].keys()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("2W", 1_209_600)],
)
def test_a_stretch_of_time_is_read(text: str, seconds: float) -> None:
    assert look.period(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1.5h", "7 days", "9999999d"])
def test_another_is_refused_with_what_is_right(text: str) -> None:
    with pytest.raises(ConfigError, match="write it as 90s, 30m, 24h, 7d or 2w"):
        look.period(text)


@pytest.mark.parametrize(
    ("seconds", "span"),
    [(600, 10), (3600, 60), (86_400, 3600), (604_800, 10_800), (60 * 604_800 * 10, 6_048_000)],
)
def test_a_plot_has_at_most_sixty_spans(seconds: float, span: float) -> None:
    assert look.span(seconds) == span


def test_people_get_a_table(book: Journal) -> None:
    book.add([ours(n, seconds=0.004, confidence=0.8) for n in range(8)])
    book.add([served(9, model="another", abstain=True)])
    book.judge(judgement(1, 1, at=NOON + 100))
    book.raise_alert(Alert("1", "drift:label", NOON + 5, None, 0.5, 0.25, "The labels drifted", ""))
    book.record(Event("1", NOON, "promoted", VERSION, "tiny", {}))
    lines = table(taken(book)).splitlines()
    assert lines[0] == f"2023-11-14 22:13:20 to 2023-11-14 23:13:20 (UTC), model model {VERSION}"
    assert "requests    9, 1 of them answered by other models" in lines
    assert "labels      positive 100.0%" in lines
    assert "abstained   11.1%" in lines
    assert any(line.startswith("latency     at worst p50 4.0 ms, p99 4.0 ms") for line in lines)
    everything = next(line for line in lines if line.startswith("all "))
    assert everything.split()[:3] == ["all", "8", "80.0%"]
    assert "100.0%" in everything
    assert any(line.split()[0] == "text.length" for line in lines if line)
    assert "alert       The labels drifted (since 2023-11-14 22:13:25, still on)" in lines
    assert f"model       2023-11-14 22:13:20  promoted tiny {VERSION}" in lines


def test_the_command_prints_either(book: Journal, tmp_path: Path) -> None:
    book.add([ours(1)])
    store = ["monitor", "--store", f"sqlite:///{tmp_path}/journal.sqlite", "--since", "999999d"]
    model = ["--model", str(train_once())]
    told = CliRunner().invoke(cli, [*store, *model, "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.output)["requests"] == 1
    told = CliRunner().invoke(cli, [*store, *model])
    assert "requests    1\n" in told.output


def test_a_journal_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none.sqlite"
    result = CliRunner().invoke(cli, ["monitor", "--store", f"sqlite:///{path}"])
    assert isinstance(result.exception, ConfigError)
    assert not path.exists()
