"""The road to the journal: a file that is written at once, and a thread that carries it over.

A row is in the file before append returns, so a process that is killed loses none; the next one,
or one beside it, carries over what the dead left. A row that arrives twice is one row.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pydantic
import pydantic_core

from moodal.errors import CapacityError, DataError, MoodalError
from moodal.store import segment
from moodal.store.ids import new_id
from moodal.store.journal import Journal
from moodal.store.rows import Served
from moodal.store.segment import Segment

_log = logging.getLogger("moodal.store")

_GATHER = 0.5
"""Seconds that rows are gathered before they go to the journal together: a transaction costs as
much as fifty rows."""
_LOOK = 1.0
"""Seconds between two looks for what dead processes left."""
_LONGEST = 5.0
"""Seconds between two attempts while the journal is away."""
_KEPT = 4096
"""Rows that are kept in memory as well, which spares reading them back from the file."""
_LARGE = 1 << 22
"""Bytes drained of one file before another is begun, when rows come faster than they end."""


class Counts(NamedTuple):
    """How the road is. waiting: bytes of this process's rows, and of the dead's, not yet in the
    journal. written: rows carried over. dropped: rows that found no room. refused: rows that the
    journal would not have. unreadable: lines that were no row: torn, or damaged.
    error: why nothing is carried over now; "" where it is.
    """

    waiting: int
    written: int
    dropped: int
    refused: int
    unreadable: int
    error: str


class Spool:
    """A folder of rows on their way to a journal; threads may share one, processes make one each
    over the same folder.

    limit_bytes: of all that waits in the folder; what comes beyond it is dropped, and counted.
    journal: the journal it writes to, for everything else; it may be away.
    Raises: CapacityError when the folder cannot be written, ConfigError as Journal does.
    """

    def __init__(
        self, folder: Path, journal_url: str, *, limit_bytes: int, patience: float = 5.0
    ) -> None:
        self.folder = folder
        self.journal = Journal(journal_url, patience=patience)
        self._limit = limit_bytes
        self._large = min(_LARGE, limit_bytes // 8)
        self._written = self._dropped = self._refused = self._unreadable = 0
        self._begun = self._failed = 0
        self._pause = _GATHER
        self._full = self._error = ""
        self._beside = 0
        self._kept: list[Served] = []
        self._kept_of: Segment | None = None
        self._kept_from = 0
        self._closing = self._dropping = False
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)
        self._some = threading.Event()
        self._hurry = threading.Event()
        try:
            self._segments = [self._create()]
            self._look()
        except OSError as error:
            raise CapacityError(
                f"the spool {folder} cannot be written: {error.strerror or error}; see that the"
                " folder is writable and has space, or set spool=FOLDER to another"
            ) from error
        self._thread = threading.Thread(target=self._run, name="moodal-spool", daemon=True)
        self._thread.start()

    def append(self, rows: Sequence[Served]) -> int:
        """Take rows; how many were taken, from the first. They are on disk when this returns.

        Those that find no room are dropped, and counted; that is no error.
        """
        lines = [_line(row) for row in rows]
        with self._lock:
            if self._closing:
                raise CapacityError(f"the spool {self.folder} is closed; make another")
            taken = self._fitting(lines)
            current = self._segments[-1]
            try:
                if taken:
                    begin = current.written
                    current.append(b"".join(lines[:taken]))
                    self._keep(current, begin, rows[:taken])
            except OSError as error:
                taken = 0
                self._full = f"the spool {self.folder}: {error.strerror or error}"
            else:
                self._full = "" if taken == len(lines) else self._over()
            self._drop(len(lines) - taken)
        if not self._some.is_set():
            self._some.set()
        return taken

    def flush(self, timeout: float) -> bool:
        """Carry over what was appended before this call; False when that fails, or takes longer
        than `timeout` seconds."""
        with self._lock:
            goals = [(one, one.written) for one in self._segments]
            before = self._begun  # one that runs already may fail for what is over by now
            self._hurry.set()
            self._some.set()

            def arrived() -> bool:
                return all(one.drained >= goal for one, goal in goals)

            self._moved.wait_for(
                lambda: arrived() or self._closing or self._failed > before, timeout
            )
            return arrived()

    @property
    def counts(self) -> Counts:
        with self._lock:
            waiting = sum(one.waiting for one in self._segments)
            return Counts(
                waiting,
                self._written,
                self._dropped,
                self._refused,
                self._unreadable,
                self._full or self._error or self._ended(),
            )

    def close(self, timeout: float = 10.0) -> bool:
        """Carry over what can be, within `timeout` seconds, and stop; whether all arrived. What
        did not waits in the folder for the next process."""
        with self._lock:
            self._closing = True
            self._hurry.set()
            self._some.set()
        self._thread.join(timeout)
        if self._thread.is_alive():  # it still uses the files
            return False
        with self._lock:
            segments, self._segments = self._segments, []
            done = all(one.waiting == 0 for one in segments)
            for one in segments:
                one.close() if one.waiting else one.delete()
        self.journal.close()
        return done

    def _ended(self) -> str:
        if self._thread.is_alive() or self._closing:
            return ""
        return "the thread that carries rows over has ended; restart the service"

    def _create(self) -> Segment:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return segment.create(self.folder, new_id(time.time()))

    def _fitting(self, lines: list[bytes]) -> int:
        room = self._limit - self._beside - sum(one.waiting for one in self._segments)
        for count, line in enumerate(lines):
            room -= len(line)
            if room < 0:
                return count
        return len(lines)

    def _keep(self, current: Segment, begin: int, rows: Sequence[Served]) -> None:
        """Remember what was appended at `begin`, if all that waits there is remembered; the lock
        is held."""
        if current.drained == begin:
            self._kept, self._kept_of, self._kept_from = [], current, begin
        if current is self._kept_of and len(self._kept) < _KEPT:
            self._kept += rows
        else:
            self._kept, self._kept_of = [], None

    def _over(self) -> str:
        return f"the spool {self.folder} is full: {self._limit:,} bytes wait for the journal"

    def _drop(self, n: int) -> None:
        if n and not self._dropping:  # said once, until something was carried over
            _log.error("rows are dropped: %s", self._full)
            self._dropping = True
        self._dropped += n

    def _run(self) -> None:
        """Until closed, and once more after that."""
        last = False
        while not last:
            self._some.wait(_LOOK)
            self._hurry.wait(self._pause)
            self._hurry.clear()
            self._some.clear()
            last = self._closing
            self._attempt()

    def _attempt(self) -> None:
        with self._lock:
            self._begun += 1
        try:
            self._drain()
            self._look()
        except (MoodalError, OSError) as error:
            if not self._error:
                _log.error("rows wait in the spool: %s", error)
            with self._lock:
                self._pause = min(2 * self._pause, _LONGEST)
                self._error = str(error)
                self._failed = self._begun
                self._moved.notify_all()

    def _well(self) -> None:
        if self._error:
            _log.info("rows go to the journal again")
        self._pause, self._error, self._dropping = _GATHER, "", False

    def _look(self) -> None:
        """Take over what the dead left, and see how much the living have waiting."""
        with self._lock:
            own = {one.path for one in self._segments}
        beside = 0
        for path in segment.others(self.folder, own):
            found = segment.adopt(path)
            if found is None:
                beside += segment.size_bytes(path)
                continue
            with self._lock:
                self._segments.insert(0, found)
        self._beside = beside
        if not self._segments[-1].in_place():
            made = self._create()
            with self._lock:
                self._segments.append(made)

    def _drain(self) -> None:
        with self._lock:
            goals = [(one, one.written) for one in self._segments]
        for one, goal in goals:
            while one.drained < goal:
                self._carry(one)
            with self._lock:
                self._well()
                self._done(one)
                self._moved.notify_all()

    def _carry(self, one: Segment) -> None:
        """Some rows of one file."""
        with self._lock:
            rows, end = self._kept, one.written
            known = one is self._kept_of and one.drained == self._kept_from
            if known:  # should the journal be away, they are read from the file
                self._kept, self._kept_from = [], end
        if not known:
            rows, end = self._read(one)
        self._add(rows)
        with self._lock:
            one.drained = end

    def _read(self, one: Segment) -> tuple[list[Served], int]:
        """The next rows that lie in a file, and where they end."""
        data = one.read()
        if not data:
            _log.warning("%s: its last line was torn, so it was never taken", one.path)
            self._unreadable += 1
            return [], one.written
        lines = data.split(b"\n")[:-1]
        rows = [row for row in map(_row, lines) if row is not None]
        if len(rows) < len(lines):
            _log.error("%s: %d lines are no rows", one.path, len(lines) - len(rows))
            self._unreadable += len(lines) - len(rows)
        return rows, one.drained + len(data)

    def _add(self, rows: list[Served]) -> None:
        try:
            self.journal.add(rows)
            self._written += len(rows)
        except DataError as error:
            if len(rows) > 1:  # find the one at fault
                for row in rows:
                    self._add([row])
                return
            _log.error("row %s is lost: %s", rows[0].id, error)
            self._refused += 1

    def _done(self, one: Segment) -> None:
        """What becomes of a file that may be drained; the lock is held."""
        current = self._segments[-1]
        if one is not current:
            self._segments.remove(one)
            one.delete()
        elif one.waiting == 0:
            one.cut()
        elif one.place > self._large:
            self._segments.append(self._create())


@functools.cache
def _rows() -> pydantic.TypeAdapter[Served]:
    return pydantic.TypeAdapter(Served)


def _row(line: bytes) -> Served | None:
    try:
        return _rows().validate_json(line)
    except pydantic.ValidationError:
        return None


def _line(row: Served) -> bytes:
    try:
        return pydantic_core.to_json(row, inf_nan_mode="constants") + b"\n"
    except pydantic_core.PydanticSerializationError:  # half of a surrogate pair
        text = json.dumps(dataclasses.asdict(row), ensure_ascii=False)
        return text.encode("utf-8", "replace") + b"\n"
