"""Journals in both databases."""

from __future__ import annotations

import resource
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


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Sets how many bytes a file of this process may have: what a full disk is like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
