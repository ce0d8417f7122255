"""What the service does on its own: it forgets what is too old."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from moodal.store import journal
from tests.serve.conftest import Running, settings_of, until
from tests.store.samples import served

DAY = 86_400.0


def test_answers_older_than_they_may_be_are_deleted(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    now = time.time()
    with journal.open(settings_of(tmp_path).store) as book:
        book.add([served(1, at=now - 3 * DAY), served(2, at=now - DAY)])
    running = start(journal_days=2)
    until(lambda: [int(row.id, 16) for row in running.service.journal.served()] == [2], seconds=10)
