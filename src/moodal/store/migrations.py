"""How the journal's tables came to be: numbered steps, forward only, each in one transaction.

A step that has been released is never changed: a new one is added, with a dump of the schema
before it in tests/store/schemas.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pydantic_core
import sqlalchemy as sa

from moodal.errors import ConfigError
from moodal.store.tables import disagreement, disputes

_LOCK = 0x6D6F6F64616C
"""PostgreSQL's advisory lock of whoever migrates: "moodal"."""
_PAGE = 1_000


def version(connection: sa.Connection) -> int:
    """The number of the last step that was taken; 0 where there are no tables yet."""
    if not sa.inspect(connection).has_table("schema_version"):
        return 0
    return int(connection.execute(sa.text("SELECT max(version) FROM schema_version")).scalar_one())


def check(number: int, journal: str) -> bool:
    """Whether a journal of this version can be used as it is.

    Raises: ConfigError when a newer moodal made it.
    """
    if number > len(STEPS):
        raise ConfigError(
            f"the journal {journal} has schema {number}, this moodal knows schemas up to"
            f" {len(STEPS)}; upgrade moodal, or name another journal"
        )
    return number == len(STEPS)


def migrate(connection: sa.Connection, journal: str) -> None:
    """Take the steps that are missing. The connection's transaction must be one that writes.

    Raises: ConfigError when a newer moodal made the journal.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    first = version(connection)  # asked anew under the lock: another process may have been faster
    check(first, journal)
    for number in range(first + 1, len(STEPS) + 1):
        STEPS[number - 1](connection)
        connection.execute(
            sa.text("INSERT INTO schema_version (version, at) VALUES (:version, :at)"),
            {"version": number, "at": time.time()},
        )


def _all(connection: sa.Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(sa.text(statement))


def _tables(connection: sa.Connection) -> None:
    """1: predictions, feedback, models, alerts."""
    _all(
        connection,
        "CREATE TABLE schema_version (version INTEGER PRIMARY KEY, at DOUBLE PRECISION NOT NULL)",
        """CREATE TABLE predictions (
            id TEXT NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL, model TEXT NOT NULL,
            source TEXT NOT NULL, caller TEXT NOT NULL, label TEXT, value DOUBLE PRECISION,
            said TEXT, confidence DOUBLE PRECISION NOT NULL, probabilities TEXT NOT NULL,
            modalities TEXT NOT NULL, contributions TEXT NOT NULL, abstain BOOLEAN NOT NULL,
            reason TEXT NOT NULL, language TEXT NOT NULL, measures TEXT NOT NULL,
            seconds DOUBLE PRECISION NOT NULL, inputs TEXT NOT NULL)""",
        "CREATE INDEX predictions_at ON predictions (at, id)",
        """CREATE TABLE feedback (
            id TEXT NOT NULL PRIMARY KEY, prediction TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
            label TEXT NOT NULL, comment TEXT NOT NULL, caller TEXT NOT NULL,
            judge TEXT NOT NULL)""",
        "CREATE INDEX feedback_prediction ON feedback (prediction)",
        "CREATE INDEX feedback_at ON feedback (at, id)",
        """CREATE TABLE models (
            id TEXT NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL, change TEXT NOT NULL,
            model TEXT NOT NULL, name TEXT NOT NULL, numbers TEXT NOT NULL)""",
        "CREATE INDEX models_at ON models (at, id)",
        """CREATE TABLE alerts (
            id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, raised DOUBLE PRECISION NOT NULL,
            cleared DOUBLE PRECISION, value DOUBLE PRECISION NOT NULL,
            bound DOUBLE PRECISION NOT NULL, sentence TEXT NOT NULL)""",
    )


def _review(connection: sa.Connection) -> None:
    """2: what the queue of review is ordered by, and alerts in Chinese."""
    _all(
        connection,
        "ALTER TABLE predictions ADD COLUMN surprise DOUBLE PRECISION NOT NULL DEFAULT 0",
        "ALTER TABLE predictions ADD COLUMN disagreement DOUBLE PRECISION NOT NULL DEFAULT 0",
        "ALTER TABLE predictions ADD COLUMN disputed BOOLEAN NOT NULL DEFAULT false",
        "ALTER TABLE alerts ADD COLUMN sentence_zh TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX predictions_confidence ON predictions (confidence, id DESC)",
        "CREATE INDEX predictions_disagreement ON predictions (disputed, disagreement, id)",
        "CREATE UNIQUE INDEX alerts_open ON alerts (name) WHERE cleared IS NULL",
    )
    _fill_disagreement(connection)
    _fill_disputed(connection)


def _fill_disagreement(connection: sa.Connection) -> None:
    page = sa.text(
        "SELECT id, contributions FROM predictions WHERE id > :last ORDER BY id LIMIT :page"
    )
    update = sa.text("UPDATE predictions SET disagreement = :share WHERE id = :id")
    last = ""
    while rows := connection.execute(page, {"last": last, "page": _PAGE}).all():
        last = rows[-1].id
        shares = [(row.id, pydantic_core.from_json(row.contributions)) for row in rows]
        connection.execute(update, [{"id": id, "share": disagreement(s)} for id, s in shares])


def _fill_disputed(connection: sa.Connection) -> None:
    rows = connection.execute(
        sa.text(
            "SELECT p.id, p.label, p.value, p.said, f.label AS judged FROM feedback f"
            " JOIN predictions p ON p.id = f.prediction WHERE f.judge = 'user' ORDER BY f.at, f.id"
        )
    )
    newest = {row.id: row for row in rows}
    for row in newest.values():
        if disputes(row.judged, label=row.label, value=row.value, said=row.said):
            connection.execute(
                sa.text("UPDATE predictions SET disputed = true WHERE id = :id"), {"id": row.id}
            )


STEPS: tuple[Callable[[sa.Connection], None], ...] = (_tables, _review)
"""The step at place n - 1 makes schema n."""
