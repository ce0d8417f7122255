"""What the journal is asked: each question a statement made from plain values, none run here."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa

from moodal.store.tables import ALERTS, FEEDBACK, MODELS, PREDICTIONS, SERVED, clean

Order = Literal["uncertain", "disagreeing", "drifted", "newest"]
Last = tuple[float, str] | None
"""Time and id of the last row of the page before; None = there was none."""

NEWEST = 1_000
"""Rows among which the most surprising are looked for."""

_P, _F = PREDICTIONS.c, FEEDBACK.c
_Keys = tuple[tuple[sa.Column[Any], bool], ...]

_ORDERS: dict[Order, _Keys] = {
    "uncertain": ((_P.confidence, True), (_P.id, False)),
    "disagreeing": ((_P.disputed, False), (_P.disagreement, False), (_P.id, False)),
    "drifted": ((_P.surprise, False), (_P.id, False)),
    "newest": ((_P.at, False), (_P.id, False)),
}
"""Order -> the columns it goes by, and whether upwards."""


def one(id: str) -> sa.Select[Any]:
    return sa.select(*SERVED).where(_P.id == clean(id))


def answer(id: str) -> sa.Select[Any]:
    """What was answered: label, value, said."""
    return sa.select(_P.label, _P.value, _P.said).where(_P.id == clean(id))


def served(since: float, until: float | None, *, model: str | None, last: Last) -> sa.Select[Any]:
    question = sa.select(*SERVED).where(*_span(_P.at, since, until), *_after(PREDICTIONS, last))
    if model is not None:
        question = question.where(_P.model == clean(model))
    return question.order_by(_P.at, _P.id)


def judged(since: float, until: float | None, *, reviewed: bool, last: Last) -> sa.Select[Any]:
    """The columns of a prediction, then those of the judgement that counts."""
    question = (
        sa.select(*SERVED, *FEEDBACK.c)
        .join_from(FEEDBACK, PREDICTIONS, _P.id == _F.prediction)
        .where(*_span(_F.at, since, until), *_after(FEEDBACK, last), ~_is_outdone())
        .order_by(_F.at, _F.id)
    )
    return question.where(_F.judge == "reviewer") if reviewed else question


def place(order: Order, id: str) -> sa.Select[Any]:
    """Where in an order a prediction stands."""
    return sa.select(*(column for column, _ in _ORDERS[order])).where(_P.id == clean(id))


def review(order: Order, *, seen: tuple[Any, ...] | None, kept: bool) -> sa.Select[Any]:
    """seen: the place of the last one seen."""
    keys = _ORDERS[order]
    reviewed = sa.exists().where(_F.prediction == _P.id, _F.judge == "reviewer")
    where = [_P.modalities != "", ~reviewed]
    if kept:
        where.append(_P.inputs != "{}")
    if order == "drifted":
        newest = sa.select(_P.id).where(*where).order_by(_P.at.desc(), _P.id.desc())
        where = [_P.id.in_(newest.limit(NEWEST))]
    if seen is not None:
        where.append(_beyond(keys, seen))
    order_by = (column if up else column.desc() for column, up in keys)
    return sa.select(*SERVED).where(*where).order_by(*order_by)


def said_of(ids: list[str]) -> sa.Select[Any]:
    """Judgements of these predictions, the latest last."""
    return sa.select(FEEDBACK).where(_F.prediction.in_(ids)).order_by(_F.at, _F.id)


def latest_of_users(prediction: str) -> sa.Select[Any]:
    """The label of the latest judgement by a user."""
    return (
        sa.select(_F.label)
        .where(_F.prediction == prediction, _F.judge == "user")
        .order_by(_F.at.desc(), _F.id.desc())
        .limit(1)
    )


def events() -> sa.Select[Any]:
    return sa.select(MODELS).order_by(MODELS.c.at.desc(), MODELS.c.id.desc())


def open_alert(name: str) -> sa.Select[Any]:
    return sa.select(ALERTS).where(ALERTS.c.name == clean(name), ALERTS.c.cleared.is_(None))


def alerts(*, open_only: bool) -> sa.Select[Any]:
    columns = ALERTS.c
    question = sa.select(ALERTS).order_by(
        columns.cleared.is_not(None), columns.raised.desc(), columns.id.desc()
    )
    return question.where(columns.cleared.is_(None)) if open_only else question


def counts(since: float, until: float, bucket: float) -> sa.Select[Any]:
    """Number of the bucket, what is alike, how many, mean confidence."""
    at = _bucket(since, bucket)
    kinds = (_P.model, _P.label, _P.modalities, _P.language, _P.abstain)
    return (
        sa.select(at, *kinds, sa.func.count(), sa.func.avg(_P.confidence))
        .where(*_span(_P.at, since, until))
        .group_by(at, *kinds)
        .order_by(at, *kinds)
    )


def latencies(since: float, until: float, bucket: float) -> sa.Select[Any]:
    """Number of the bucket, median, 99th percentile: the first whose rank is at least q n."""
    at = _bucket(since, bucket).label("bucket")
    rank = sa.func.row_number().over(partition_by=at, order_by=_P.seconds).label("rank")
    n = sa.func.count().over(partition_by=at).label("n")
    ranked = sa.select(at, _P.seconds, rank, n).where(*_span(_P.at, since, until)).subquery().c
    quantiles = (
        sa.func.min(sa.case((ranked.rank * 100 >= ranked.n * percent, ranked.seconds)))
        for percent in (50, 99)
    )
    return sa.select(ranked.bucket, *quantiles).group_by(ranked.bucket).order_by(ranked.bucket)


def older(before: float) -> sa.Select[Any]:
    """Ids of predictions, the oldest first."""
    return sa.select(_P.id).where(_P.at < before).order_by(_P.at, _P.id)


def _span(
    column: sa.Column[float], since: float, until: float | None
) -> list[sa.ColumnElement[bool]]:
    return [column >= since] + ([] if until is None else [column < until])


def _after(table: sa.Table, last: Last) -> list[sa.ColumnElement[bool]]:
    return [] if last is None else [sa.tuple_(table.c.at, table.c.id) > sa.tuple_(*last)]


def _beyond(keys: _Keys, seen: tuple[Any, ...]) -> sa.ColumnElement[bool]:
    """Rows after one: equal in some keys, and further in the next."""
    column, up = keys[0]
    value = sa.literal(seen[0], column.type)
    further: sa.ColumnElement[bool] = column > value if up else column < value
    if len(keys) == 1:
        return further
    return sa.or_(further, sa.and_(column == value, _beyond(keys[1:], seen[1:])))


def _bucket(since: float, seconds: float) -> sa.ColumnElement[int]:
    # SQLite's cast cuts off, PostgreSQL's rounds: go back one where that was up.
    spans = (_P.at - since) / seconds
    near = sa.cast(spans, sa.BigInteger)
    return near - sa.case((near > spans, 1), else_=0)


def _is_outdone() -> sa.Exists:
    """Another judgement of the same prediction counts more: a reviewer's, or a later one."""
    other = FEEDBACK.alias("other").c
    ours, theirs = (sa.case((c.judge == "reviewer", 1), else_=0) for c in (_F, other))
    more = sa.tuple_(theirs, other.at, other.id) > sa.tuple_(ours, _F.at, _F.id)
    return sa.exists().where(other.prediction == _F.prediction, more)
