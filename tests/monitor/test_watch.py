"""The watch: alerts reach the journal once, end there, and survive a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import train_once

from moodal import bundle
from moodal.errors import CapacityError
from moodal.monitor import look, watch
from moodal.monitor.watch import Watch
from moodal.runtime import reference
from moodal.runtime.reference import Reference, Seen
from moodal.store import journal
from moodal.store.journal import Journal
from moodal.store.rows import Alert, Served
from tests.store.samples import NOON, judgement, served

INFO = bundle.load(train_once()).model_copy(update={"scores": {}})
HELD = reference.of(
    Seen({"text.length": float(n % 50), "confidence": 0.5}, {"language": ("en", "zh")[n % 2]})
    for n in range(1000)
)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Journal]:
    with journal.open(f"sqlite:///{tmp_path}/journal.sqlite") as made:
        yield made


def rows(first: int, n: int, *, length: float | None = None, **changes: Any) -> list[Served]:
    """Ordinary answers, or all of one length."""
    return [
        served(
            i,
            model=bundle.version(INFO),
            language=("en", "zh")[i % 2],
            measures={"text.length": float(i % 50) if length is None else length},
            **changes,
        )
        for i in range(first, first + n)
    ]


def test_ordinary_traffic_raises_nothing(book: Journal) -> None:
    book.add(rows(0, 400))
    watcher = Watch(book, INFO, HELD)
    for minute in range(1, 4):
        gauges = watcher.step(NOON + 400 + 60 * minute)
    assert gauges.psi["text.length"] < 0.05
    assert gauges.ks["text.length"] < 0.05
    assert gauges.psi["language"] == pytest.approx(0, abs=1e-3)
    assert not any(gauges.alerts.values())
    assert book.alerts() == []


def test_drift_is_raised_at_the_second_look_and_ends_when_it_is_over(book: Journal) -> None:
    book.add(rows(0, 300, length=200.0))
    watcher = Watch(book, INFO, HELD)
    assert watcher.step(NOON + 360).alerts["drift:text.length"] is False
    assert book.alerts() == []
    gauges = watcher.step(NOON + 420)
    assert gauges.alerts["drift:text.length"] is True
    [raised] = book.alerts(open_only=True)
    assert (raised.name, raised.raised, raised.limit) == ("drift:text.length", NOON + 420, 0.25)
    assert raised.value == gauges.psi["text.length"] > 1
    assert raised.sentence.startswith("The length of texts drifted")
    assert raised.sentence_zh.startswith("文本长度")
    watcher.step(NOON + 480)
    assert len(book.alerts()) == 1
    # Two hours later, with ordinary answers only.
    book.add(rows(10_000, 1200))
    watcher.step(NOON + 11_260)
    assert len(book.alerts(open_only=True)) == 1
    assert watcher.step(NOON + 11_320).alerts["drift:text.length"] is False
    [ended] = book.alerts()
    assert (ended.id, ended.cleared) == (raised.id, NOON + 11_320)


def test_an_alert_goes_on_after_a_restart(book: Journal) -> None:
    book.add(rows(0, 300, length=200.0))
    before = Watch(book, INFO, HELD)
    before.step(NOON + 360)
    before.step(NOON + 420)
    after = Watch(book, INFO, HELD)
    assert after.step(NOON + 480).alerts["drift:text.length"] is True
    assert len(book.alerts()) == 1


def test_an_alert_of_what_this_model_does_not_measure_ends(book: Journal) -> None:
    for name in ("drift:image.brightness", "disk"):
        book.raise_alert(Alert(name, name, NOON, None, 1.0, 0.25, "", ""))
    Watch(book, INFO, HELD).step(NOON + 60)
    assert [alert.name for alert in book.alerts(open_only=True)] == ["disk"]


def test_little_traffic_is_looked_at_over_a_longer_time(
    book: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ENOUGH", 150)
    book.add(rows(0, 200, length=200.0))
    book.add(rows(20_000, 100))
    watcher = Watch(book, INFO, HELD)
    # An hour back are 100; six hours back all 300.
    late = watcher.step(NOON + 20_200)
    assert late.psi["text.length"] > 0.25
    book.add(rows(20_300, 100))
    assert watcher.step(NOON + 20_500).psi["text.length"] < 0.25  # now the hour has 200


def test_accuracy_that_falls_is_told_by_estimate_and_by_feedback(book: Journal) -> None:
    info = INFO.model_copy(update={"scores": {"all": {"accuracy": 0.9}}})
    book.add(rows(0, 120, confidence=0.7))
    for n in range(40):
        book.judge(judgement(n, n, at=NOON + 200, label="negative" if n < 30 else "positive"))
    watcher = Watch(book, info, Reference())
    watcher.step(NOON + 300)
    gauges = watcher.step(NOON + 360)
    assert gauges.estimated_accuracy == pytest.approx(0.7)
    assert gauges.feedback_accuracy == 0.25
    assert gauges.alerts == {"accuracy:estimated": True, "accuracy:feedback": True}
    assert {a.name: round(a.value, 2) for a in book.alerts()} == {
        "accuracy:estimated": 0.2,
        "accuracy:feedback": 0.3,  # 0.7 less 0.402, the upper end of 10 right of 40
    }


def test_people_are_heard_for_a_week(book: Journal) -> None:
    book.add(rows(0, 5))
    book.judge(judgement(1, 1, at=NOON + 10))
    watcher = Watch(book, INFO, HELD)
    assert watcher.step(NOON + 6 * 86_400).feedback_accuracy == 1.0
    assert watcher.step(NOON + 8 * 86_400).feedback_accuracy is None


def test_a_step_costs_the_same_whatever_the_traffic(
    book: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "SAMPLE", 50)
    book.add(rows(0, 1500))
    read = list[int]()
    plain = Journal.served

    def counting(*args: Any, **named: Any) -> Iterator[Served]:
        for row in plain(*args, **named):
            read.append(1)
            yield row

    monkeypatch.setattr(Journal, "served", counting)
    Watch(book, INFO, HELD).step(NOON + 1600)
    assert len(read) <= 50 + look.BUCKETS


def test_a_journal_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    book = Journal(f"sqlite:///{tmp_path}/nowhere/journal.sqlite")
    with pytest.raises(CapacityError):
        Watch(book, INFO, HELD)
