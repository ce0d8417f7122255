"""Token buckets, of one process and of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodal.serve import rate
from moodal.serve.errors import RefusalError
from moodal.serve.rate import Rate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000_000.0]
    monkeypatch.setattr(rate.time, "time", lambda: now[0])
    return now


def allowed(limit: Rate, who: str, n: int) -> int:
    """How many of n records, asked for one by one, are allowed."""
    for count in range(n):
        try:
            limit.take(who)
        except RefusalError:
            return count
    return n


def test_a_minute_holds_so_many_and_fills_evenly(clock: list[float]) -> None:
    limit = Rate(60)
    assert allowed(limit, "ann", 100) == 60
    clock[0] += 10
    assert allowed(limit, "ann", 100) == 10
    clock[0] += 3600
    assert allowed(limit, "ann", 100) == 60


def test_each_caller_has_a_bucket_of_its_own(clock: list[float]) -> None:
    limit = Rate(5)
    assert [allowed(limit, f"caller {n}", 9) for n in range(500)] == [5] * 500


def test_the_seconds_to_wait_are_told(clock: list[float]) -> None:
    limit = Rate(60)
    limit.take("ann", 60)
    with pytest.raises(RefusalError, match="come again in 7 s") as caught:
        limit.take("ann", 7)
    assert (caught.value.status, caught.value.headers) == (429, {"retry-after": "7"})
    clock[0] += 7
    limit.take("ann", 7)


def test_what_was_refused_costs_nothing(clock: list[float]) -> None:
    limit = Rate(10)
    limit.take("ann", 5)
    with pytest.raises(RefusalError):
        limit.take("ann", 6)
    limit.take("ann", 5)


def test_more_than_a_bucket_holds_is_allowed_when_it_is_full(clock: list[float]) -> None:
    limit = Rate(10)
    limit.take("ann", 64)
    with pytest.raises(RefusalError, match="in 60 s"):
        limit.take("ann", 64)


def test_none_is_no_limit(clock: list[float]) -> None:
    assert allowed(Rate(0), "ann", 1000) == 1000


def test_a_clock_that_is_set_back_gives_nothing(clock: list[float]) -> None:
    limit = Rate(10)
    limit.take("ann", 10)
    clock[0] -= 3600
    assert allowed(limit, "ann", 9) == 0
    clock[0] += 60
    assert allowed(limit, "ann", 99) == 10


def test_workers_count_together(clock: list[float], tmp_path: Path) -> None:
    one, other = Rate(10, tmp_path / "rate"), Rate(10, tmp_path / "rate")
    assert allowed(one, "ann", 6) == 6
    assert allowed(other, "ann", 99) == 4
    one.close()
    other.close()


def test_of_too_many_callers_the_one_longest_unused_is_forgotten(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate, "SLOTS", rate.PROBES)
    limit = Rate(5)
    for n in range(rate.PROBES + 1):
        clock[0] += 0.001
        assert allowed(limit, f"caller {n}", 9) == 5
    assert allowed(limit, "caller 2", 9) == 0
    assert allowed(limit, "caller 0", 9) == 5
