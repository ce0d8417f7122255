"""Every schema that was ever released becomes the newest, and what it held is still there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from moodal.errors import CapacityError, ConfigError
from moodal.store import journal, migrations
from moodal.store.rows import Alert, Event, Judgement, Served
from moodal.store.tables import METADATA
from tests.store.samples import NOON

SCHEMAS = Path(__file__).parent / "schemas"
Shape = dict[str, object]


def engine(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


def run(url: str, *statements: str) -> None:
    made = engine(url)
    with made.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    made.dispose()


def restore(url: str, number: int) -> None:
    """An old journal, as its dump has it."""
    text = (SCHEMAS / f"{number}.sql").read_text(encoding="utf-8")
    run(url, *(part for part in text.split(";\n") if part.strip()))


def shape(url: str) -> Shape:
    """All that a database knows of its tables."""
    made = engine(url)
    with made.connect() as connection:
        seen = sa.inspect(connection)
        found: Shape = {}
        for table in seen.get_table_names():
            for column in seen.get_columns(table):
                kind, default = str(column["type"]), str(column["default"]).split("::")[0]
                found[f"{table}.{column['name']}"] = (kind, column["nullable"], default)
            for index in seen.get_indexes(table):
                found[f"{index['name']}"] = (table, index["column_names"], index["unique"])
            found[f"{table} key"] = seen.get_pk_constraint(table)["constrained_columns"]
    made.dispose()
    return found


@pytest.fixture
def other(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> str:
    """A second new journal of the same kind of database."""
    if url.startswith("sqlite"):
        return f"sqlite:///{tmp_path}/other.sqlite"
    return str(request.getfixturevalue("postgres")())


def test_every_old_schema_has_its_dump() -> None:
    numbers = {int(path.stem) for path in SCHEMAS.glob("*.sql")}
    assert numbers == set(range(1, len(migrations.STEPS)))


@pytest.mark.parametrize("number", range(1, len(migrations.STEPS)))
def test_a_step_still_makes_what_it_made_when_it_was_released(
    url: str, other: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(url, number)
    monkeypatch.setattr(migrations, "STEPS", migrations.STEPS[:number])
    journal.open(other).close()
    assert shape(other) == shape(url)


@pytest.mark.parametrize("number", range(1, len(migrations.STEPS)))
def test_an_old_journal_becomes_like_a_new_one(url: str, other: str, number: int) -> None:
    restore(url, number)
    journal.open(url).close()
    journal.open(other).close()
    assert shape(url) == shape(other)


def test_the_tables_that_are_asked_are_those_that_the_steps_make(url: str, other: str) -> None:
    journal.open(url).close()
    made = engine(other)
    METADATA.create_all(made)
    made.dispose()
    ours, theirs = shape(url), shape(other)
    for name, table in METADATA.tables.items():
        names = [key for key in ours if key.startswith(f"{name}.")]
        assert names == [f"{name}.{column.name}" for column in table.c]
        for key in names:
            kind, nullable, _ = ours[key]
            assert nullable == theirs[key][1], key
            if url.startswith("postgresql"):
                assert kind == theirs[key][0], key


@pytest.mark.parametrize("number", range(1, len(migrations.STEPS)))
def test_what_an_old_journal_held_is_still_there(url: str, number: int) -> None:
    restore(url, number)
    with journal.open(url) as book:
        first, second, third = book.served()
        assert first == Served(
            id=f"{1:032x}",
            at=NOON + 1,
            model="0123456789ab",
            source="http",
            caller="",
            label="positive",
            value=None,
            said=None,
            confidence=0.75,
            probabilities={"negative": 0.25, "positive": 0.75},
            modalities="text",
            contributions={"text": 0.25},
            abstain=False,
            reason="",
            language="zh",
            measures={"text.length": 3.0},
            seconds=0.002,
        )
        assert (second.at, second.abstain, second.reason) == (NOON + 2.5, True, "unsure")
        assert second.inputs == {"text": "aa"}
        assert (third.label, third.value) == (None, 1.25)
        assert [said for _, said in book.judged()] == [
            Judgement(f"{10:032x}", first.id, NOON + 10, "negative", "反话", "", "user"),
            Judgement(
                f"{12:032x}",
                second.id,
                NOON + 12,
                "negative",
                "it was right after all",
                "",
                "user",
            ),
            Judgement(f"{13:032x}", third.id, NOON + 13, "1.25", "", "", "user"),
        ]
        assert book.events() == [Event(f"{14:032x}", NOON, "served", "0123456789ab", "base", {})]
        assert book.alerts() == [
            Alert(
                f"{15:032x}",
                "drift:text.length",
                NOON + 20,
                None,
                0.5,
                0.25,
                "Texts are longer than they were.",
            )
        ]


def test_old_answers_take_their_places_in_the_queue(url: str) -> None:
    restore(url, 1)
    with journal.open(url) as book:
        # 1 is disputed by its user; in 2 the picture spoke against, 0.25; 3 is undisputed.
        order = [int(row.id, 16) for row, _ in book.review("disagreeing", limit=9)]
    assert order == [1, 2, 3]


def test_a_step_that_fails_leaves_everything_as_it_was(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(connection: sa.Connection) -> None:
        connection.execute(sa.text("CREATE TABLE half (id INTEGER)"))
        connection.execute(sa.text("ALTER TABLE nowhere ADD COLUMN id INTEGER"))

    restore(url, 1)
    before = shape(url)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", (*migrations.STEPS, broken))
        with pytest.raises(CapacityError, match=r"cannot be used: .*nowhere"):
            journal.open(url)
    assert shape(url) == before
    journal.open(url).close()


def test_a_journal_of_a_newer_moodal_is_refused_and_left_alone(url: str) -> None:
    journal.open(url).close()
    run(url, "INSERT INTO schema_version VALUES (99, 0.0)")
    before = shape(url)
    with pytest.raises(ConfigError, match="has schema 99, this moodal knows schemas up to 2; upg"):
        journal.open(url)
    assert shape(url) == before


OPEN = """
import sys
from moodal.store import journal
print("ready", flush=True)
sys.stdin.readline()
with journal.open(sys.argv[1], patience=60) as book:
    print(len(book.alerts()), flush=True)
"""


@pytest.mark.parametrize("number", [None, *range(1, len(migrations.STEPS))])
def test_processes_that_open_it_at_once_all_find_it_whole(url: str, number: int | None) -> None:
    if number is not None:
        restore(url, number)
    command = [sys.executable, "-c", OPEN, url]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all wait: now all begin
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in processes]
    assert answers == ["0\n" if number is None else "1\n"] * 4
