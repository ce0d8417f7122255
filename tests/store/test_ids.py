"""Identifiers sort by time, and no two are alike."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from moodal.store import ids
from moodal.store.ids import new_id
from tests.store.samples import NOON


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has made none yet."""
    monkeypatch.setattr(ids, "_last", (0, 0))


def test_an_id_is_a_uuid_of_version_7_that_holds_its_time() -> None:
    made = uuid.UUID(new_id(NOON + 0.123))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == 1_700_000_000_123
    assert len(new_id(NOON)) == 32


def test_the_example_of_the_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Source: RFC 9562, appendix A.6: 2022-02-22 14:22:22 -05:00, all its random bits given."""
    random = (0xCC3 << 62 | 0x18C4DC0C0C07398F) << 6
    monkeypatch.setattr(ids.os, "urandom", random.to_bytes)
    assert new_id(1645557742.0) == "017f22e279b07cc398c4dc0c0c07398f"


def test_ids_of_one_millisecond_rise() -> None:
    made = [new_id(NOON) for _ in range(1_000)]
    assert made == sorted(set(made))


def test_ids_rise_when_the_clock_goes_back() -> None:
    made = [new_id(NOON), new_id(NOON - 3_600), new_id(NOON + 1)]
    assert made == sorted(made)
    assert int(made[1][:12], 16) == 1_700_000_000_000  # the newest time is kept


def test_a_millisecond_that_is_full_runs_over_into_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ids.os, "urandom", lambda n: b"\xff" * n)
    first, second = new_id(NOON), new_id(NOON)
    assert second > first
    assert uuid.UUID(second).version == 7
    assert uuid.UUID(second).int >> 80 == 1_700_000_000_001


def test_ids_of_many_threads_differ() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(new_id, [NOON] * 4_000))
    assert len(set(made)) == 4_000
