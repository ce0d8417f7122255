"""A database that is away, or not ours, is a sentence; when it is back, all is well."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from moodal.errors import CapacityError, ConfigError, DataError
from moodal.store import connect, journal
from moodal.store.journal import Journal
from tests.postgres import Server, server
from tests.store.samples import NOON, judgement, served


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def book(file: Path) -> Iterator[Journal]:
    with journal.open(f"sqlite:///{file}", patience=0.2) as made:
        yield made


@pytest.fixture
def running() -> Iterator[Server]:
    """A server that the test may stop."""
    made = server()
    yield made
    made.stop()
    made.start()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "journal.sqlite",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://root:secret@host/journal",
        "postgresql",
        "://",
    ],
)
def test_what_is_no_journals_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no journal; give sqlite:///FILE") as caught:
        Journal(url)
    assert "secret" not in str(caught.value)


def test_a_password_is_never_shown() -> None:
    book = Journal("postgresql://anna:secret@127.0.0.1:1/journal", patience=0.1)
    assert book.name == "postgresql://anna:***@127.0.0.1:1/journal"
    with pytest.raises(CapacityError, match="cannot be used") as caught:
        book.ping()
    assert "secret" not in str(caught.value)


def test_postgres_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(CapacityError, match=r"needs psycopg.*pip install 'moodal\[postgres\]'"):
        Journal("postgresql://localhost/journal")


def test_a_relative_file_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with journal.open("sqlite:///journal.sqlite") as book:
        assert book.name == f"sqlite:///{tmp_path}/journal.sqlite"
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        book.add([served(1)])
    assert (tmp_path / "journal.sqlite").exists()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match=r"there is no folder .*nowhere; make it, or name ano"):
        journal.open(f"sqlite:///{tmp_path}/nowhere/journal.sqlite")
    assert not list(tmp_path.iterdir())


def test_a_reader_makes_no_journal(url: str) -> None:
    for _ in range(2):
        with pytest.raises(
            ConfigError, match=r"there is no journal .*; name the one the service w"
        ):
            journal.open(url, create=False)
        assert not Path(url.removeprefix("sqlite:///")).exists()
    journal.open(url).close()
    journal.open(url, create=False).close()


def test_a_reader_leaves_an_empty_file_empty(file: Path) -> None:
    file.touch()
    with pytest.raises(ConfigError, match="there is no journal"):
        journal.open(f"sqlite:///{file}", create=False)
    assert file.stat().st_size == 0


def test_a_file_that_is_no_database_is_left_alone(file: Path) -> None:
    file.write_text("These are notes, not a database. " * 100)
    before = file.read_bytes()
    with pytest.raises(CapacityError, match="cannot be used: file is not a database"):
        journal.open(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_a_folder_in_the_files_place_is_refused(file: Path) -> None:
    file.mkdir()
    with pytest.raises(CapacityError, match="unable to open database file"):
        journal.open(f"sqlite:///{file}")


def test_a_database_of_something_else_is_left_alone(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE predictions (weather TEXT)")
    with pytest.raises(CapacityError, match="table predictions already exists"):
        journal.open(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("predictions",)]


def test_a_row_that_the_database_refuses_is_the_rows_fault(book: Journal) -> None:
    with pytest.raises(
        DataError, match=r"refuses a row: NOT NULL constraint failed: predictions.at"
    ):
        book.add([served(1), served(2, at=float("nan"))])
    assert list(book.served()) == []  # all or nothing


def test_a_locked_file_is_waited_for_and_then_a_sentence(book: Journal, file: Path) -> None:
    book.add([served(1)])
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for write in (
            lambda: book.add([served(2)]),
            lambda: book.judge(judgement(1, 1)),
            lambda: book.forget(NOON),
        ):
            with pytest.raises(CapacityError, match="database is locked"):
                write()
        assert list(book.served()) == [served(1)]  # readers are not held up
        other.execute("ROLLBACK")
    book.add([served(2)])
    assert len(list(book.served())) == 2


def test_a_file_that_another_is_making_is_waited_for(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE something (id INTEGER)")
        other.execute("BEGIN IMMEDIATE")
        waits: list[float] = []
        monkeypatch.setattr(
            connect.time, "sleep", lambda n: (waits.append(n), other.execute("ROLLBACK"))
        )
        journal.open(f"sqlite:///{file}").close()
        assert len(waits) == 1


def test_a_read_only_file_is_read_but_not_written(book: Journal, file: Path) -> None:
    book.add([served(1)])
    with journal.open(f"sqlite:///file:{file}?mode=ro&uri=true") as reader:
        assert list(reader.served()) == [served(1)]
        with pytest.raises(CapacityError, match="attempt to write a readonly database"):
            reader.add([served(2)])


def test_a_full_disk_is_a_sentence_and_the_file_stays_whole(
    book: Journal, file: Path, small_files: object
) -> None:
    book.add([served(1)])
    assert callable(small_files)
    small_files(100_000)
    with pytest.raises(
        CapacityError, match=r"cannot be used: (disk I/O error|database or disk is)"
    ):
        book.add([served(n, said="x" * 1_000) for n in range(2, 1_000)])
    small_files(1 << 30)
    assert list(book.served()) == [served(1)]
    book.add([served(2)])
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_folder_that_goes_away_is_noticed_and_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, aside = tmp_path / "disk", tmp_path / "aside"
    folder.mkdir()
    with journal.open(f"sqlite:///{folder}/journal.sqlite") as book:
        book.add([served(1)])
        folder.rename(aside)
        for use in (book.ping, lambda: book.add([served(2)]), lambda: book.judge(judgement(1, 1))):
            with pytest.raises(CapacityError, match=r"there is no folder .*disk; make it"):
                use()
        aside.rename(folder)
        book.add([served(3)])
        assert list(book.served()) == [served(1), served(3)]


def test_a_file_that_was_deleted_is_begun_anew_not_written_into_the_void(
    book: Journal, file: Path
) -> None:
    book.add([served(1)])
    for path in file.parent.glob("journal.sqlite*"):
        path.unlink()
    book.add([served(2)])
    with journal.open(f"sqlite:///{file}", create=False) as other:
        assert list(other.served()) == [served(2)]


def test_a_file_that_was_put_in_its_place_is_the_journal_now(book: Journal, file: Path) -> None:
    book.add([served(1)])
    book.close()
    file.rename(file.with_suffix(".old"))
    with journal.open(f"sqlite:///{file}") as other:
        other.add([served(2)])
    assert list(book.served()) == [served(2)]


def test_a_server_that_stops_and_starts_again(running: Server) -> None:
    with journal.open(running.database(), patience=1) as book:
        book.add([served(1)])
        running.stop()
        for use in (book.ping, lambda: book.add([served(2)]), lambda: book.judge(judgement(1, 1))):
            with pytest.raises(
                CapacityError, match=r"the journal postgresql://.* cannot be used: "
            ):
                use()
        running.start()
        book.judge(judgement(1, 1))
        running.stop()
        running.start()
        assert list(book.judged()) == [(served(1), judgement(1, 1))]  # a broken connection is left


def test_a_database_that_is_not_there_is_named(running: Server) -> None:
    url = running.database().replace("/journal_", "/nowhere_")
    with pytest.raises(CapacityError, match=r'database "nowhere_.*" does not exist'):
        journal.open(url)
