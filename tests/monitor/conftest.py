"""A journal, the inputs that a service kept, and somebody who asks and judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from moodal.store import journal
from moodal.store.inputs import Inputs
from moodal.store.journal import Journal
from moodal.store.rows import By
from tests.store import samples


class Asked:
    """Answers and judgements, one second after the other."""

    def __init__(self, book: Journal) -> None:
        self.book, self.n = book, 0

    def answer(self, kept: Mapping[Any, str], **given: Any) -> str:
        """kept: what Inputs.keep returned."""
        self.n += 1
        values = {"label": "bad", "modalities": "+".join(kept), "language": "en", **given}
        row = samples.served(self.n, inputs=kept, **values)
        self.book.add([row])
        return row.id

    def judge(self, id: str, label: str, by: By = "reviewer", comment: str = "") -> None:
        self.n += 1
        self.book.judge(samples.judgement(self.n, int(id, 16), label=label, by=by, comment=comment))


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Journal]:
    with journal.open(f"sqlite:///{tmp_path}/journal.sqlite") as opened:
        yield opened


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return Inputs(tmp_path / "kept", 30)


@pytest.fixture
def asked(book: Journal) -> Asked:
    return Asked(book)
