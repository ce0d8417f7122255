"""What was taken arrives: through a kill, a journal that is away, a full disk; once, and whole."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from moodal.errors import CapacityError, ConfigError
from moodal.store import journal, spool
from moodal.store.rows import Served
from moodal.store.spool import Spool
from tests.postgres import server
from tests.store.samples import served

ROOM = 1 << 26


@contextmanager
def spooling(folder: Path, url: str, *, room: int = ROOM) -> Iterator[Spool]:
    made = Spool(folder, url, limit_bytes=room, patience=0.2)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def away(tmp_path: Path) -> str:
    """A journal that cannot be reached, until its folder is made."""
    return f"sqlite:///{tmp_path}/later/journal.sqlite"


def arrived(url: str) -> list[int]:
    with journal.open(url) as book:
        return [int(row.id, 16) for row in book.served()]


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_what_was_appended_is_in_the_journal_after_a_flush(folder: Path, url: str) -> None:
    row = served(1, label="喜悦 👍", said="很好\n\n", measures={"a": 1 / 3}, surprise=0.1)
    with spooling(folder, url) as road:
        assert road.append([row, served(2)]) == 2
        assert road.flush(60)
        assert road.journal.find(row.id) == row
        assert road.counts == (0, 2, 0, 0, 0, "")


def test_rows_go_to_the_journal_without_being_asked(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = threading.Event()
    monkeypatch.setattr(
        journal.Journal,
        "add",
        lambda book, rows, add=journal.Journal.add: (add(book, rows), came.set()),
    )
    with spooling(folder, url) as road:
        road.append([served(1)])
        assert came.wait(60)


def test_a_flush_and_a_close_wait_for_no_gathering(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_GATHER", 86_400.0)
    with spooling(folder, url) as road:
        road.append([served(1)])
        assert road.flush(60)
        road.append([served(2)])
        assert road.close(60)
    assert arrived(url) == [1, 2]


def test_appending_nothing_is_nothing(folder: Path, url: str) -> None:
    with spooling(folder, url) as road:
        assert road.append([]) == 0
        assert road.flush(60)


def test_a_row_is_on_disk_before_append_returns(folder: Path, away: str) -> None:
    with spooling(folder, away) as road:
        road.append([served(7, label="好")])
        (file,) = files(folder)
        (line,) = file.read_text(encoding="utf-8").splitlines()
        assert json.loads(line)["label"] == "好"
        assert road.counts.waiting == file.stat().st_size


def test_only_the_owner_may_read_what_waits(folder: Path, away: str) -> None:
    with spooling(folder, away):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert files(folder)[0].stat().st_mode & 0o777 == 0o600


def test_closing_carries_all_over_and_leaves_no_file(folder: Path, url: str) -> None:
    road = Spool(folder, url, limit_bytes=ROOM)
    road.append([served(n) for n in range(1_000)])
    assert road.close(60)
    assert files(folder) == []
    assert arrived(url) == list(range(1_000))
    with pytest.raises(CapacityError, match="is closed"):
        road.append([served(1)])


def test_rows_are_not_read_back_where_all_goes_well(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool.Segment, "read", lambda self: pytest.fail("it was read"))
    with spooling(folder, url) as road:
        for n in range(4):
            road.append([served(2 * n), served(2 * n + 1)])
            if n % 2:
                assert road.flush(60)
    assert arrived(url) == list(range(8))


def test_more_rows_than_are_kept_in_memory_arrive_once_each(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_KEPT", 3)
    monkeypatch.setattr(spool, "_GATHER", 86_400.0)
    with spooling(folder, url) as road:
        for n in range(0, 12, 2):
            road.append([served(n), served(n + 1)])
        assert road.flush(60)
        road.append([served(12)])
        assert road.flush(60)
        assert road.counts.written == 13
    assert arrived(url) == list(range(13))


def test_rows_kept_while_the_journal_was_away_arrive_once_each(
    folder: Path, away: str, tmp_path: Path
) -> None:
    with spooling(folder, away) as road:
        road.append([served(1)])
        assert not road.flush(60)
        road.append([served(2)])
        assert not road.flush(60)
        (tmp_path / "later").mkdir()
        road.append([served(3)])
        assert road.flush(60)
        road.append([served(4)])
        assert road.flush(60)
        assert road.counts.written == 4
    assert arrived(away) == [1, 2, 3, 4]


def test_a_drained_file_gives_its_space_back(folder: Path, url: str) -> None:
    with spooling(folder, url) as road:
        for n in range(3):
            road.append([served(n)])
            assert road.flush(60)
            assert [path.stat().st_size for path in files(folder)] == [0]


def test_rows_that_never_end_do_not_grow_the_files(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    add = journal.Journal.add

    def add_while_another_comes(book: journal.Journal, rows: Sequence[Served]) -> None:
        if len(sizes) < 60:
            road.append([served(len(sizes) + 1)])
            sizes.append(sum(path.stat().st_size for path in files(folder)))
        add(book, rows)

    monkeypatch.setattr(spool, "_LARGE", 2_000)
    monkeypatch.setattr(journal.Journal, "add", add_while_another_comes)
    with spooling(folder, url) as road:
        road.append([served(0)])
        while len(sizes) < 60:
            road.flush(60)
    assert max(sizes) < 2_000 + 5 * len(spool._line(served(1)))
    assert arrived(url) == list(range(61))


def test_a_journal_that_is_away_is_waited_for(folder: Path, away: str, tmp_path: Path) -> None:
    with spooling(folder, away) as road:
        assert road.append([served(1), served(2)]) == 2
        assert not road.flush(60)  # at once: it was tried, and failed
        counts = road.counts
        assert "there is no folder" in counts.error
        assert (counts.written, counts.dropped) == (0, 0)
        assert counts.waiting > 0
        road.append([served(3)])
        (tmp_path / "later").mkdir()
        assert road.flush(60)
        assert road.counts == (0, 3, 0, 0, 0, "")
    assert arrived(away) == [1, 2, 3]


def test_a_flush_is_not_failed_by_an_attempt_that_began_before_it(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trying, asked = threading.Event(), threading.Event()
    add = journal.Journal.add

    def fail_once(book: journal.Journal, rows: Sequence[Served]) -> None:
        if not trying.is_set():
            trying.set()
            assert asked.wait(60)
            raise CapacityError("away, for this once")
        add(book, rows)

    monkeypatch.setattr(journal.Journal, "add", fail_once)
    with spooling(folder, url) as road, ThreadPoolExecutor(1) as pool:
        road.append([served(1)])
        assert trying.wait(60)
        waits = threading.Event()
        monkeypatch.setattr(road._some, "set", lambda set=road._some.set: (set(), waits.set()))
        flushed = pool.submit(road.flush, 60)
        assert waits.wait(60)  # it has looked at how things stand
        asked.set()
        assert flushed.result()
        assert road.counts == (0, 1, 0, 0, 0, "")


def test_what_waited_when_the_service_stopped_arrives_when_it_starts(
    folder: Path, away: str, tmp_path: Path
) -> None:
    road = Spool(folder, away, limit_bytes=ROOM)
    road.append([served(1), served(2)])
    assert not road.close()
    assert len(files(folder)) == 1
    (tmp_path / "later").mkdir()
    with spooling(folder, away) as road:
        road.append([served(3)])
        assert road.flush(60)
    assert arrived(away) == [1, 2, 3]
    assert files(folder) == []


def test_a_postgres_that_stops_under_it(folder: Path) -> None:
    running = server()
    with spooling(folder, running.database()) as road:
        road.append([served(1)])
        assert road.flush(60)
        running.stop()
        try:
            assert road.append([served(2)]) == 1
            assert not road.flush(60)
            assert "cannot be used" in road.counts.error
        finally:
            running.start()
        road.append([served(3)])
        assert road.flush(60)
        assert len(list(road.journal.served())) == 3


def test_beyond_the_limit_rows_are_dropped_and_counted(
    folder: Path, away: str, tmp_path: Path
) -> None:
    size = len(spool._line(served(1)))
    with spooling(folder, away, room=3 * size) as road:
        assert road.append([served(1)]) == 1
        assert road.append([served(2), served(3), served(4), served(5)]) == 2
        assert road.append([served(6)]) == 0
        assert (road.counts.waiting, road.counts.dropped) == (3 * size, 3)
        assert f"is full: {3 * size:,} bytes wait" in road.counts.error
        (tmp_path / "later").mkdir()
        assert road.flush(60)
        assert road.append([served(7)]) == 1  # there is room again
        assert road.flush(60)
    assert arrived(away) == [1, 2, 3, 7]


def test_the_limit_is_of_all_that_waits_in_the_folder(folder: Path, away: str) -> None:
    size = len(spool._line(served(1)))
    with spooling(folder, away, room=3 * size) as one, spooling(folder, away, room=3 * size) as two:
        assert one.append([served(1), served(2)]) == 2
        two._look()  # what it does each second
        assert two.append([served(3), served(4)]) == 1


def test_a_full_disk_drops_rows_and_leaves_no_half_line(
    folder: Path, away: str, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    size = len(spool._line(served(1)))
    with spooling(folder, away) as road:
        small_files(size * 5 // 2)
        assert road.append([served(1), served(2)]) == 2
        assert road.append([served(3)]) == 0
        assert "No space left on device" in road.counts.error
        small_files(1 << 30)
        assert files(folder)[0].stat().st_size == 2 * size
        assert road.append([served(4)]) == 1
        (tmp_path / "later").mkdir()
        assert road.flush(60)
        assert road.counts == (0, 3, 1, 0, 0, "")
    assert arrived(away) == [1, 2, 4]


def test_a_spool_that_cannot_be_made_is_a_sentence(tmp_path: Path, away: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CapacityError, match=r"the spool .*file/spool cannot be written: Not a dir"):
        Spool(tmp_path / "file" / "spool", away, limit_bytes=ROOM)
    with pytest.raises(ConfigError, match="is no journal"):
        Spool(tmp_path / "spool", "mysql://", limit_bytes=ROOM)


def test_a_folder_that_was_deleted_is_made_again(folder: Path, url: str) -> None:
    with spooling(folder, url) as road:
        road.append([served(1)])
        shutil.rmtree(folder)
        road._look()  # what it does each second
        road.append([served(2)])
        assert road.flush(60)
        assert len(files(folder)) == 1
    assert arrived(url) == [1, 2]


def test_a_torn_last_line_was_never_taken_and_is_counted(folder: Path, url: str) -> None:
    folder.mkdir()
    whole = spool._line(served(1)) + spool._line(served(2))
    (folder / "dead.jsonl").write_bytes(whole + spool._line(served(3))[:-20])
    with spooling(folder, url) as road:
        assert road.flush(60)
        assert road.counts == (0, 2, 0, 0, 1, "")
        assert not (folder / "dead.jsonl").exists()
    assert arrived(url) == [1, 2]


@pytest.mark.parametrize(
    "damaged",
    [
        b"\n",
        b"null\n",
        b"{}\n",
        b"\0" * 4_096 + b"\n",
        b"\xff\xfe\n",
        b'{"id": 1}\n',
        b"[" * 9_999 + b"\n",
    ],
)
def test_a_damaged_line_is_counted_and_the_rest_arrives(
    folder: Path, url: str, damaged: bytes
) -> None:
    folder.mkdir()
    lines = spool._line(served(1)) + damaged + spool._line(served(2))
    (folder / "dead.jsonl").write_bytes(lines)
    with spooling(folder, url) as road:
        assert road.flush(60)
        assert road.counts.unreadable == 1
    assert arrived(url) == [1, 2]


def test_a_line_of_an_older_or_newer_moodal_arrives(folder: Path, url: str) -> None:
    folder.mkdir()
    values = json.loads(spool._line(served(1)))
    del values["surprise"], values["inputs"]
    values["invented"] = "later"
    (folder / "dead.jsonl").write_text(json.dumps(values) + "\n", encoding="utf-8")
    with spooling(folder, url) as road:
        assert road.flush(60)
    assert arrived(url) == [1]


def test_a_line_longer_than_what_is_read_at_once_arrives(folder: Path, url: str) -> None:
    long = served(1, said="长" * 400_000)
    with spooling(folder, url) as road:
        road.append([long, served(2)])
        assert road.flush(60)
        assert road.journal.find(long.id) == long


def test_a_row_that_the_journal_refuses_does_not_hold_up_the_others(
    folder: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/journal.sqlite"
    with spooling(folder, url) as road:
        road.append([served(1), served(2, at=float("nan")), served(3)])
        assert road.flush(60)
        assert road.counts == (0, 2, 0, 1, 0, "")
    assert arrived(url) == [1, 3]


def test_what_no_file_holds_arrives_without_it(folder: Path, url: str) -> None:
    row = served(1, caller="\ud800\0", measures={"a": float("inf"), "b": 1.0})
    with spooling(folder, url) as road:
        road.append([row])
        assert road.flush(60)
        found = road.journal.find(row.id)
    assert found is not None
    assert (found.caller, found.measures) == ("?\ufffd", {"b": 1.0})


def test_a_file_whose_process_lives_is_left_to_it(folder: Path, away: str, tmp_path: Path) -> None:
    with spooling(folder, away) as one:
        one.append([served(1)])
        with spooling(folder, away) as two:
            two._look()
            assert two.counts.waiting == 0
            assert len(files(folder)) == 2
        assert len(files(folder)) == 1


def test_what_an_operator_should_know_is_logged_once(
    folder: Path, away: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "moodal.store")
    with spooling(folder, away, room=len(spool._line(served(1)))) as road:
        for n in range(1, 4):
            road.append([served(n)])
            road.flush(60)
        (tmp_path / "later").mkdir()
        assert road.flush(60)
    said = [record.getMessage().split(":")[0] for record in caplog.records]
    assert said == [
        "rows wait in the spool",
        "rows are dropped",
        "rows go to the journal again",
    ]


def test_threads_share_a_spool(folder: Path, url: str) -> None:
    with spooling(folder, url) as road:
        with ThreadPoolExecutor(8) as pool:
            taken = pool.map(lambda n: road.append([served(n)]), range(800))
            assert sum(taken) == 800
        assert road.flush(60)
    assert arrived(url) == list(range(800))


WRITE = """
import itertools, os, sys
from pathlib import Path
from moodal.store.rows import Served
from moodal.store.spool import Spool
from tests.store.samples import served

road = Spool(Path(sys.argv[1]), sys.argv[2], limit_bytes=1 << 26, patience=30)
for n in itertools.count(int(sys.argv[3])):
    if road.append([served(n)]):
        os.write(1, b"%d\\n" % n)  # acknowledged
"""


def test_a_process_killed_at_any_moment_loses_nothing_it_took(folder: Path, url: str) -> None:
    """Nine processes are killed with SIGKILL, three at a time, while others write beside them."""
    dice = random.Random(5)
    taken: list[int] = []
    for turn in range(3):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITE, folder, url, str((3 * turn + k) * 1_000_000)],
                stdout=subprocess.PIPE,
            )
            for k in range(3)
        ]
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(dice.randrange(1, 400)):
                taken.append(int(writer.stdout.readline()))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            said, _ = writer.communicate()
            taken += [int(line) for line in said.splitlines()]
    with spooling(folder, url) as road:
        while len(files(folder)) > 1:  # each turn takes over what it finds
            road._look()
            assert road.flush(60)
        assert road.counts.unreadable <= 9
        assert road.counts.dropped == 0
    found = arrived(url)
    assert len(found) == len(set(found))
    assert set(taken) <= set(found)
    # A row may have been written and its writer killed before it could say so; no more than that.
    assert len(found) - len(taken) <= 9
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
