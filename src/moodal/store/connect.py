"""To a database and back: SQLite in a file or PostgreSQL, created and migrated when first used.

Every error of theirs becomes one of ours, so that nobody above need know SQLAlchemy.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from moodal.errors import CapacityError, ConfigError, DataError
from moodal.store import migrations

_WRITES = "moodal_writes"
"""Execution option of a connection whose transactions write."""
_FOREVER = ()
"""What a server's identity is: it never changes under us."""


class Database:
    """A journal's database; threads may share one, processes open one each.

    It is asked for nothing until it is first used, and asked anew after it was away.
    patience: seconds to wait for a lock or a connection. create: make it when it is not there.
    Raises: ConfigError for a URL that is no journal's, or a journal of a newer moodal;
    CapacityError while the database cannot be reached.
    """

    def __init__(self, url: str, *, patience: float, create: bool) -> None:
        parsed = _parse(url)
        shown = parsed.set(drivername=parsed.get_backend_name())
        self.name = shown.render_as_string(hide_password=True)
        self._file = _file(parsed)
        self._patience = patience
        self._create = create
        self._engine = _engine(parsed, self.name, patience=patience)
        self._writer = self._engine.execution_options(**{_WRITES: True})
        self._prepared: tuple[int, ...] | None = None
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that reads."""
        with self._guarded():
            self._prepare()
            with self._engine.begin() as connection:
                yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes, alone from its first statement; all of it or nothing."""
        with self._guarded():
            self._prepare()
            with self._writer.begin() as connection:
                yield connection

    def close(self) -> None:
        self._engine.dispose()

    def _prepare(self) -> None:
        """Create and migrate, at first and whenever another file has taken the file's place.

        SQLite itself would go on writing to a file that was deleted.
        """
        if self._prepared is not None and self._identity() == self._prepared:
            return
        with self._lock:
            if self._prepared is not None and self._identity() == self._prepared:
                return
            self._prepared = None
            self._engine.dispose()
            self._require()
            with self._engine.begin() as connection:
                number = migrations.version(connection)
            if number == 0 and not self._create:
                raise ConfigError(_absent(self.name))
            if not migrations.check(number, self.name):
                self._migrate()
            self._prepared = self._identity()

    def _identity(self) -> tuple[int, ...] | None:
        if self._file is None:
            return _FOREVER
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _require(self) -> None:
        if self._file is None or self._file.exists():
            return
        if not self._create:
            raise ConfigError(_absent(self.name))
        if not self._file.parent.is_dir():
            raise CapacityError(
                f"the journal {self._file} cannot be used: there is no folder"
                f" {self._file.parent}; make it, or name another file"
            )

    def _migrate(self) -> None:
        if self._file is not None:
            self._wal()
        with self._writer.begin() as connection:
            migrations.migrate(connection, self.name)

    def _wal(self) -> None:
        """Readers and one writer at a time. SQLite does not wait by itself for this one lock."""
        until = time.monotonic() + self._patience
        while True:
            try:
                with self._engine.connect() as connection:
                    cursor = connection.connection.cursor()
                    cursor.execute("PRAGMA journal_mode = WAL")
                    cursor.close()
                return
            except sqlite3.Error as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise CapacityError(_unusable(self.name, str(error))) from error
                time.sleep(0.01)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (exc.DataError, exc.IntegrityError) as error:
            raise DataError(f"the journal {self.name} refuses a row: {_reason(error)}") from error
        except exc.SQLAlchemyError as error:
            raise CapacityError(_unusable(self.name, _reason(error))) from error


def _absent(name: str) -> str:
    return f"there is no journal {name}; name the one the service writes"


def _unusable(name: str, reason: str) -> str:
    return (
        f"the journal {name} cannot be used: {reason};"
        " see that the database runs, is writable and has space"
    )


def _reason(error: exc.SQLAlchemyError) -> str:
    text = str(error.orig if isinstance(error, exc.DBAPIError) else error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError as error:
        raise ConfigError(_unlike(url)) from error
    kind = parsed.get_backend_name()
    if kind == "postgres":
        kind = "postgresql"
    if kind == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if kind != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise ConfigError(_unlike(parsed.render_as_string(hide_password=True)))
    if parsed.database.startswith("file:"):
        return parsed
    return parsed.set(database=str(Path(parsed.database).absolute()))


def _unlike(url: str) -> str:
    return (
        f"store {url!r} is no journal; give sqlite:///FILE (four slashes before an absolute path)"
        " or postgresql://USER@HOST/DATABASE"
    )


def _file(url: sa.URL) -> Path | None:
    if url.get_backend_name() != "sqlite" or url.database is None:
        return None
    return Path(url.database.removeprefix("file:"))


def _engine(url: sa.URL, name: str, *, patience: float) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": patience}, pool_timeout=patience)
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        return engine
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, round(patience)),  # libpq takes 1 for 2
        # A server that vanished without a word is noticed, not waited for.
        "tcp_user_timeout": round(patience * 1000),
        "keepalives_idle": max(1, round(patience)),
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": "moodal",
    }
    try:
        return sa.create_engine(
            url,
            connect_args={k: v for k, v in arguments.items() if k not in url.query},
            pool_timeout=patience,
            pool_pre_ping=True,
        )
    except ImportError as error:
        raise CapacityError(
            f"the journal {name} needs psycopg, which is not installed;"
            " pip install 'moodal[postgres]'"
        ) from error


def _on_connect(connection: Any, _: object) -> None:
    # A power cut may lose the newest rows, never the file; a killed process loses nothing.
    connection.execute("PRAGMA synchronous = NORMAL")


def _on_begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later is refused at once when another wrote between.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
