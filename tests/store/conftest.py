"""Journals in both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moodal.store import journal
from moodal.store.journal import Journal
from tests.postgres import postgres  # noqa: F401 - a fixture


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new journal may be made: once in each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/journal.sqlite"
    make: Callable[[], str] = request.getfixturevalue("postgres")
    return make()


@pytest.fixture
def book(url: str) -> Iterator[Journal]:
    """A new journal, once in each database."""
    with journal.open(url) as made:
        yield made
