"""The journal: what was answered, what people said of it, what became of models, what was amiss.

One database: SQLite in a file, or PostgreSQL. Nothing outside this package knows its tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple, Self

import sqlalchemy as sa

from moodal.errors import DataError
from moodal.store import questions
from moodal.store.connect import Database
from moodal.store.questions import Order
from moodal.store.rows import Alert, Event, Judgement, Served
from moodal.store.tables import (
    ALERTS,
    FEEDBACK,
    MODELS,
    PREDICTIONS,
    SERVED,
    disputes,
    from_alert,
    from_event,
    from_judgement,
    from_served,
    to_alert,
    to_event,
    to_judgement,
    to_served,
)

_PAGE = 1_000
"""Rows fetched, or deleted, in one transaction: none is long."""


class Count(NamedTuple):
    """Answers of one span of time that are alike. confidence: their mean. at: where it begins."""

    at: float
    model: str
    label: str | None
    modalities: str
    language: str
    abstained: bool
    n: int
    confidence: float


class Latency(NamedTuple):
    """Seconds that half, and that 99 %, of one span's answers took at most; at: its beginning."""

    at: float
    p50: float
    p99: float


class Journal:
    """A journal by its URL; a context manager. Threads may share one; processes open one each.

    Nothing is asked of the database before the first call of a method, so one can be made while
    the database is away.

    patience: seconds to wait for a lock or a connection. create: make it when it is not there.
    Raises, like every method: CapacityError while the database cannot be reached or written,
    DataError when it refuses a row, ConfigError when a newer moodal made it; and ConfigError for a
    URL that is no journal's.
    """

    def __init__(self, url: str, *, patience: float = 5.0, create: bool = True) -> None:
        self._database = Database(url, patience=patience, create=create)
        self.name = self._database.name
        """The URL without its password."""

    def add(self, rows: Sequence[Served]) -> None:
        """Write answers; those that are there already stay as they are."""
        if rows:
            self._insert(PREDICTIONS, [from_served(row) for row in rows])

    def judge(self, judgement: Judgement) -> None:
        """Write what somebody says of an answer; it is in the database when this returns.

        Raises: DataError when there is no such prediction.
        """
        with self._database.writing() as connection:
            answer = connection.execute(questions.answer(judgement.prediction)).one_or_none()
            if answer is None:
                raise DataError(
                    f"there is no prediction {judgement.prediction[:80]!r}; give the"
                    " prediction_id of an answer"
                )
            _insert(connection, FEEDBACK, [from_judgement(judgement)])
            if judgement.by == "user":
                latest = questions.latest_of_users(judgement.prediction)
                label = connection.execute(latest).scalar_one()
                connection.execute(
                    sa.update(PREDICTIONS)
                    .where(PREDICTIONS.c.id == judgement.prediction)
                    .values(disputed=disputes(label, **answer._asdict()))
                )

    def find(self, id: str) -> Served | None:
        with self._database.reading() as connection:
            row = connection.execute(questions.one(id)).one_or_none()
        return None if row is None else to_served(row)

    def served(
        self, *, since: float = 0.0, until: float | None = None, model: str | None = None
    ) -> Iterator[Served]:
        """Answers with since <= at < until, in order of time, however many.

        model: only those of that version.
        """
        last = None
        while True:
            question = questions.served(since, until, model=model, last=last)
            rows = self._ask(question.limit(_PAGE))
            yield from map(to_served, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1].at, rows[-1].id

    def judged(
        self, *, since: float = 0.0, until: float | None = None, reviewed: bool = False
    ) -> Iterator[tuple[Served, Judgement]]:
        """Each judged answer with the judgement that counts: a reviewer's over a user's, then the
        latest. In order of the judgements' time, with since <= time < until.

        reviewed: only what a reviewer has judged.
        """
        last = None
        while True:
            question = questions.judged(since, until, reviewed=reviewed, last=last)
            rows = self._ask(question.limit(_PAGE))
            pairs = [(to_served(row), to_judgement(row[len(SERVED) :])) for row in rows]
            yield from pairs
            if len(rows) < _PAGE:
                return
            last = pairs[-1][1].at, pairs[-1][1].id

    def review(
        self, order: Order, *, limit: int, after: str | None = None, kept: bool = False
    ) -> list[tuple[Served, Judgement | None]]:
        """Answers that no reviewer has judged, the first to look at first, each with the latest
        that a user said of it. Answers to nothing are left out.

        uncertain: the least confident. disagreeing: those a user disputes, then those whose
        modalities pull against each other. drifted: the most surprising of the newest.
        after: the id of the last one seen. kept: only those whose inputs were kept.
        """
        seen = self._ask(questions.place(order, after)) if after is not None else []
        question = questions.review(order, seen=tuple(seen[0]) if seen else None, kept=kept)
        rows = [to_served(row) for row in self._ask(question.limit(limit))]
        judgements = map(to_judgement, self._ask(questions.said_of([row.id for row in rows])))
        said = {judgement.prediction: judgement for judgement in judgements}
        return [(row, said.get(row.id)) for row in rows]

    def record(self, event: Event) -> None:
        """Write what happened to a model."""
        self._insert(MODELS, [from_event(event)])

    def events(self, limit: int = 100) -> list[Event]:
        """What happened to models, the newest first."""
        return [to_event(row) for row in self._ask(questions.events().limit(limit))]

    def raise_alert(self, alert: Alert) -> Alert:
        """Open an alert; where one of that name is open, it keeps its beginning, and the value
        further beyond the limit. Returns the alert as it stands."""
        with self._database.writing() as connection:
            found = connection.execute(questions.open_alert(alert.name)).one_or_none()
            if found is None:
                connection.execute(sa.insert(ALERTS), from_alert(alert))
                return alert
            old = to_alert(found)
            if abs(alert.value - alert.limit) <= abs(old.value - old.limit):
                return old
            new = replace(alert, id=old.id, raised=old.raised)
            where = ALERTS.c.id == old.id
            connection.execute(sa.update(ALERTS).where(where).values(from_alert(new)))
            return new

    def clear_alert(self, name: str, at: float) -> bool:
        """Close the open alert of that name; whether there was one."""
        with self._database.writing() as connection:
            found = connection.execute(questions.open_alert(name)).one_or_none()
            if found is None:
                return False
            where = ALERTS.c.id == found.id
            connection.execute(sa.update(ALERTS).where(where).values(cleared=at))
            return True

    def alerts(self, *, open_only: bool = False, limit: int = 100) -> list[Alert]:
        """Alerts, those that last first, then the newest."""
        question = questions.alerts(open_only=open_only)
        return [to_alert(row) for row in self._ask(question.limit(limit))]

    def counts(self, *, since: float, until: float, bucket: float) -> list[Count]:
        """How many answers of each kind, by spans of `bucket` seconds, in order of time."""
        rows = self._ask(questions.counts(since, until, bucket))
        return [Count._make((since + row[0] * bucket, *row[1:])) for row in rows]

    def latencies(self, *, since: float, until: float, bucket: float) -> list[Latency]:
        """Quantiles of the seconds that answers took (nearest rank), by spans of time."""
        rows = self._ask(questions.latencies(since, until, bucket))
        return [Latency._make((since + row[0] * bucket, *row[1:])) for row in rows]

    def forget(self, before: float) -> int:
        """Delete answers given before a time, and what was said of them; how many answers."""
        total = 0
        while True:
            with self._database.writing() as connection:
                old = questions.older(before).limit(_PAGE)
                ids = list(connection.execute(old).scalars())
                connection.execute(sa.delete(FEEDBACK).where(FEEDBACK.c.prediction.in_(ids)))
                connection.execute(sa.delete(PREDICTIONS).where(PREDICTIONS.c.id.in_(ids)))
            total += len(ids)
            if len(ids) < _PAGE:
                return total

    def ping(self) -> None:
        """Do nothing, successfully, where the database can be reached."""
        self._ask(sa.select(sa.literal(1)))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, question: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        with self._database.reading() as connection:
            return connection.execute(question).all()

    def _insert(self, table: sa.Table, values: list[dict[str, object]]) -> None:
        with self._database.writing() as connection:
            _insert(connection, table, values)


def open(url: str, *, patience: float = 5.0, create: bool = True) -> Journal:
    """A journal that can be reached now, with its tables.

    Raises: as Journal does.
    """
    journal = Journal(url, patience=patience, create=create)
    try:
        journal.ping()
    except BaseException:
        journal.close()
        raise
    return journal


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, object]]) -> None:
    """Rows whose id is there already change nothing."""
    names = list(rows[0])
    # Written out, since SQLAlchemy takes longer over a row than SQLite does.
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({', '.join(names)})"
        f" VALUES ({', '.join([mark] * len(names))}) ON CONFLICT (id) DO NOTHING",
        [tuple(row.values()) for row in rows],
    )
