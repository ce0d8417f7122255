"""The journal: what was answered, what people said of it, what became of models, what was amiss.

One database: SQLite in a file, or PostgreSQL. Every question to it is asked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import sqlalchemy as sa

from moodal.errors import DataError
from moodal.store.connect import Database
from moodal.store.ids import new_id
from moodal.store.rows import Alert, Event, Judgement, Served
from moodal.store.tables import (
    ALERTS,
    FEEDBACK,
    MODELS,
    PREDICTIONS,
    SERVED,
    disputes,
    from_event,
    from_judgement,
    from_served,
    to_alert,
    to_event,
    to_judgement,
    to_served,
)

Order = Literal["uncertain", "disagreeing", "drifted", "newest"]

NEWEST = 1_000
"""Rows among which the most surprising are looked for."""
_PAGE = 1_000
"""Rows fetched, or deleted, in one transaction: none is long."""

_P, _F = PREDICTIONS.c, FEEDBACK.c


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
        """Write what somebody says of an answer; it is on disk when this returns.

        Raises: DataError when there is no such prediction.
        """
        values = from_judgement(judgement)
        with self._database.writing() as connection:
            known = connection.execute(
                sa.select(_P.label, _P.value, _P.said).where(_P.id == values["prediction"])
            ).one_or_none()
            if known is None:
                raise DataError(
                    f"there is no prediction {judgement.prediction[:80]!r}; give the"
                    " prediction_id of an answer"
                )
            _insert(connection, FEEDBACK, [values])
            if judgement.by == "user":
                latest = connection.execute(
                    sa.select(_F.label)
                    .where(_F.prediction == values["prediction"], _F.judge == "user")
                    .order_by(_F.at.desc(), _F.id.desc())
                    .limit(1)
                ).scalar_one()
                connection.execute(
                    sa.update(PREDICTIONS)
                    .where(_P.id == values["prediction"])
                    .values(disputed=disputes(latest, **known._asdict()))
                )

    def find(self, id: str) -> Served | None:
        with self._database.reading() as connection:
            row = connection.execute(sa.select(*SERVED).where(_P.id == id)).one_or_none()
        return None if row is None else to_served(row)

    def served(
        self, *, since: float = 0.0, until: float | None = None, model: str | None = None
    ) -> Iterator[Served]:
        """Answers with since <= at < until, in order of time, however many."""
        where = _span(_P.at, since, until)
        if model is not None:
            where.append(_P.model == model)
        last = None
        while True:
            after = _after(PREDICTIONS, last)
            question = sa.select(*SERVED).where(*where, *after).order_by(_P.at, _P.id).limit(_PAGE)
            with self._database.reading() as connection:
                rows = connection.execute(question).all()
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
        where = [*_span(_F.at, since, until), ~sa.exists().where(*_better())]
        if reviewed:
            where.append(_F.judge == "reviewer")
        last = None
        while True:
            after = _after(FEEDBACK, last)
            question = (
                sa.select(*SERVED, *FEEDBACK.c)
                .join_from(FEEDBACK, PREDICTIONS, _P.id == _F.prediction)
                .where(*where, *after)
                .order_by(_F.at, _F.id)
                .limit(_PAGE)
            )
            with self._database.reading() as connection:
                rows = connection.execute(question).all()
            pairs = [(to_served(row), _judgement_after(row)) for row in rows]
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
        source = PREDICTIONS
        where = [_P.modalities != "", ~_is_reviewed()]
        if kept:
            where.append(_P.inputs != "{}")
        keys = _ORDERS[order]
        if order == "drifted":
            newest = (
                sa.select(_P.id).where(*where).order_by(_P.at.desc(), _P.id.desc()).limit(NEWEST)
            )
            where = [_P.id.in_(newest)]
        with self._database.reading() as connection:
            if after is not None:
                names = [column for column, _ in keys]
                seen = connection.execute(sa.select(*names).where(_P.id == after)).one_or_none()
                if seen is not None:
                    where.append(_beyond(keys, tuple(seen)))
            question = (
                sa.select(*SERVED)
                .select_from(source)
                .where(*where)
                .order_by(*(column if up else column.desc() for column, up in keys))
                .limit(limit)
            )
            rows = [to_served(row) for row in connection.execute(question)]
            said = _latest(connection, [row.id for row in rows])
        return [(row, said.get(row.id)) for row in rows]

    def record(self, event: Event) -> None:
        """Write what happened to a model."""
        self._insert(MODELS, [from_event(event)])

    def events(self, limit: int = 100) -> list[Event]:
        """What happened to models, the newest first."""
        columns = MODELS.c
        question = sa.select(MODELS).order_by(columns.at.desc(), columns.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [to_event(row) for row in connection.execute(question)]

    def raise_alert(self, alert: Alert) -> Alert:
        """Open an alert; where one of that name is open, it keeps its beginning, and the value
        further beyond the limit. Returns the alert as it stands."""
        with self._database.writing() as connection:
            found = connection.execute(
                sa.select(ALERTS).where(ALERTS.c.name == alert.name, ALERTS.c.cleared.is_(None))
            ).one_or_none()
            if found is None:
                values = {name: getattr(alert, name) for name in _ALERT}
                connection.execute(sa.insert(ALERTS), values | {"bound": alert.limit})
                return alert
            old = to_alert(found)
            if abs(alert.value - alert.limit) <= abs(old.value - old.limit):
                return old
            new = replace(alert, id=old.id, raised=old.raised, cleared=None)
            connection.execute(
                sa.update(ALERTS)
                .where(ALERTS.c.id == old.id)
                .values(
                    value=new.value,
                    bound=new.limit,
                    sentence=new.sentence,
                    sentence_zh=new.sentence_zh,
                )
            )
            return new

    def clear_alert(self, name: str, at: float) -> bool:
        """Close the open alert of that name; whether there was one."""
        with self._database.writing() as connection:
            result = connection.execute(
                sa.update(ALERTS)
                .where(ALERTS.c.name == name, ALERTS.c.cleared.is_(None))
                .values(cleared=at)
            )
            return bool(result.rowcount)

    def alerts(self, *, open_only: bool = False, limit: int = 100) -> list[Alert]:
        """Alerts, those that last first, then the newest."""
        columns = ALERTS.c
        question = sa.select(ALERTS).limit(limit)
        question = question.order_by(columns.cleared.is_not(None), columns.raised.desc())
        if open_only:
            question = question.where(columns.cleared.is_(None))
        with self._database.reading() as connection:
            return [to_alert(row) for row in connection.execute(question)]

    def counts(self, *, since: float, until: float, bucket: float) -> list[Count]:
        """How many answers of each kind, by spans of `bucket` seconds, in order of time."""
        at = _bucket(bucket, since)
        kinds = (_P.model, _P.label, _P.modalities, _P.language, _P.abstain)
        question = (
            sa.select(at, *kinds, sa.func.count(), sa.func.avg(_P.confidence))
            .where(*_span(_P.at, since, until))
            .group_by(at, *kinds)
            .order_by(at)
        )
        with self._database.reading() as connection:
            rows = connection.execute(question).all()
        return [Count(since + row[0] * bucket, *row[1:]) for row in rows]

    def latencies(self, *, since: float, until: float, bucket: float) -> list[Latency]:
        """Quantiles of the seconds that answers took (nearest rank), by spans of time."""
        at = _bucket(bucket, since).label("bucket")
        place = sa.func.row_number().over(partition_by=at, order_by=_P.seconds).label("place")
        n = sa.func.count().over(partition_by=at).label("n")
        ranked = sa.select(at, _P.seconds, place, n).where(*_span(_P.at, since, until)).subquery().c
        quantile = [
            # The first whose place is at least q n.
            sa.func.min(sa.case((ranked.place * 100 >= ranked.n * percent, ranked.seconds)))
            for percent in (50, 99)
        ]
        question = (
            sa.select(ranked.bucket, *quantile).group_by(ranked.bucket).order_by(ranked.bucket)
        )
        with self._database.reading() as connection:
            rows = connection.execute(question).all()
        return [Latency(since + row[0] * bucket, *row[1:]) for row in rows]

    def forget(self, before: float) -> int:
        """Delete answers given before a time, and what was said of them; how many answers."""
        total = 0
        while True:
            with self._database.writing() as connection:
                old = sa.select(_P.id).where(_P.at < before).order_by(_P.at, _P.id).limit(_PAGE)
                ids = list(connection.execute(old).scalars())
                connection.execute(sa.delete(FEEDBACK).where(_F.prediction.in_(ids)))
                connection.execute(sa.delete(PREDICTIONS).where(_P.id.in_(ids)))
            total += len(ids)
            if len(ids) < _PAGE:
                return total

    def ping(self) -> None:
        """Do nothing, successfully, where the database can be reached."""
        with self._database.reading() as connection:
            connection.execute(sa.select(sa.literal(1)))

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


def new_alert(
    name: str, *, at: float, value: float, limit: float, sentences: tuple[str, str]
) -> Alert:
    """An alert that begins now. sentences: English, Chinese."""
    return Alert(new_id(at), name, at, None, value, limit, *sentences)


_ALERT = ("id", "name", "raised", "cleared", "value", "sentence", "sentence_zh")

_ORDERS: dict[Order, tuple[tuple[sa.Column[object], bool], ...]] = {
    "uncertain": ((_P.confidence, True), (_P.id, True)),
    "disagreeing": ((_P.disputed, False), (_P.disagreement, False), (_P.id, False)),
    "drifted": ((_P.surprise, False), (_P.id, False)),
    "newest": ((_P.at, False), (_P.id, False)),
}
"""Order -> the columns it goes by, and whether upwards."""


def _beyond(
    keys: tuple[tuple[sa.Column[object], bool], ...], seen: tuple[object, ...]
) -> sa.ColumnElement[bool]:
    """Rows that come after one whose keys are known; each order goes one way."""
    columns = sa.tuple_(*(column for column, _ in keys))
    return columns > sa.tuple_(*seen) if keys[0][1] else columns < sa.tuple_(*seen)


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


def _span(
    column: sa.Column[float], since: float, until: float | None
) -> list[sa.ColumnElement[bool]]:
    return [column >= since] + ([] if until is None else [column < until])


def _after(table: sa.Table, last: tuple[float, str] | None) -> list[sa.ColumnElement[bool]]:
    """Rows that come after the last one of a page, in order of time."""
    return [] if last is None else [sa.tuple_(table.c.at, table.c.id) > sa.tuple_(*last)]


def _bucket(seconds: float, since: float) -> sa.ColumnElement[int]:
    # Times are not before `since`, so cutting off is rounding down, and PostgreSQL's cast rounds.
    return sa.cast(sa.func.floor((_P.at - since) / seconds), sa.Integer)


def _is_reviewed() -> sa.Exists:
    return sa.exists().where(_F.prediction == _P.id, _F.judge == "reviewer")


def _better() -> tuple[sa.ColumnElement[bool], ...]:
    """Another judgement of the same prediction counts more."""
    other = FEEDBACK.alias("other").c
    ours, theirs = (sa.case((c.judge == "reviewer", 1), else_=0) for c in (_F, other))
    more = sa.tuple_(theirs, other.at, other.id) > sa.tuple_(ours, _F.at, _F.id)
    return other.prediction == _F.prediction, more


def _judgement_after(row: sa.Row[Any]) -> Judgement:
    id, prediction, at, label, comment, caller, judge = row[len(SERVED) :]
    return Judgement(id, prediction, at, label, comment, caller, judge)


def _latest(connection: sa.Connection, ids: list[str]) -> dict[str, Judgement]:
    """The latest judgement of each prediction that has one."""
    question = sa.select(FEEDBACK).where(_F.prediction.in_(ids)).order_by(_F.at, _F.id)
    return {row.prediction: to_judgement(row) for row in connection.execute(question)}
