"""A service that is killed while it answers: what it acknowledged is there afterwards."""

from __future__ import annotations

from pathlib import Path

from benchmarks import reliability
from tests.tiny import train_once


def test_what_was_acknowledged_is_in_the_journal_after_kill_9_under_load(tmp_path: Path) -> None:
    given = ("--model", str(train_once()), "--set", "limits.rate=0")
    told = reliability.rounds(tmp_path, 3, *given)
    assert len(told.predictions) > 30, "there was load"
    assert told.judgements
    assert reliability.missing(tmp_path, told) == (0, 0, "ok")
    assert not told.faults
