"""Micro-batching: records wait, one thread answers whatever waits, each as if it were alone.

Nothing is delayed to fill a batch: while one is answered, the next gathers. The engine knows no
protocol; how a record is read, and who is told what came of it, is given to it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from moodal.errors import CapacityError
from moodal.runtime.predict import Outputs, Read
from moodal.serve.loaded import Loaded
from moodal.types import Prediction, Record

Ticket = TypeVar("Ticket")

_log = logging.getLogger("moodal.serve")

AHEAD = 2
"""Batches that may be read before they are answered."""
LONGER, FEWEST = 1.4, 8
"""How much longer the longest record of a part may be than its shortest, and how many records are
worth a part of their own."""
MOST = 6_000
"""Positions of a part: its records times the longest. More are no quicker, and take memory. A word
is a position, and so are 10 ms of sound and a row of a picture."""
PROMPT_SECONDS = 0.005
"""Of the processor: a record that takes no longer may be answered by whoever asks, which spares it
the way to a thread."""


class BusyError(CapacityError):
    """There is no room for more records; come again."""


class LateError(CapacityError):
    """A record waited so long that nobody may want its answer any more."""


class StoppedError(CapacityError):
    """The engine takes no more records."""


@dataclass(slots=True, eq=False)
class Job(Generic[Ticket]):
    """One record on its way.

    ticket: the caller's own. dear: to be read in a thread of its own, since that takes longer than
    the way there. since: when it was asked, as time.monotonic tells.
    Filled on the way: loaded (the model that reads and answers it), read, outputs, and at the end
    prediction or error. read_at, answered_at: when each of these began and ended.
    """

    record: Record
    ticket: Ticket
    explain: bool = False
    dear: bool = True
    since: float = field(default_factory=time.monotonic)
    loaded: Loaded | None = None
    read: Read | None = None
    outputs: Outputs | None = None
    prediction: Prediction | None = None
    error: Exception | None = None
    read_at: tuple[float, float] = (0.0, 0.0)
    answered_at: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Size:
    """batch: records answered at once. queue: records in work at most. wait_seconds: after which
    one is refused rather than answered. threads: that decode."""

    batch: int = 64
    queue: int = 256
    wait_seconds: float = 10.0
    threads: int = 2


class Engine(Generic[Ticket]):
    """Answers records in batches.

    read: reads a job's record with job.loaded and fills job.read; may raise.
    finish: called in one of the engine's threads with jobs that are done, one batch at a time. If
    it fails, it is called again with each job's error set, and then must not.
    """

    def __init__(
        self,
        loaded: Loaded,
        read: Callable[[Job[Ticket]], None],
        finish: Callable[[Sequence[Job[Ticket]]], None],
        *,
        size: Size,
    ) -> None:
        self.loaded = loaded
        self._read = read
        self._finish = finish
        self._size = size
        self._ready: queue.SimpleQueue[Job[Ticket] | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(size.threads, "moodal-read")
        self._ahead = threading.Semaphore(AHEAD * size.batch)
        self._lock = threading.Condition()
        self._held = 0
        self._open = True
        self._last_alone, self._last_seconds = True, 0.0
        self.busy = False
        """Whether a batch is being answered."""
        self._thread = threading.Thread(target=self._run, name="moodal-infer", daemon=True)
        self._thread.start()

    @property
    def held(self) -> int:
        """Records that were taken and are not answered yet."""
        return self._held

    @property
    def running(self) -> bool:
        return self._open and self._thread.is_alive()

    @property
    def prompt(self) -> bool:
        """Whether the one record that was taken may as well be answered at once: nothing else is
        under way, and the last one came alone and was quick."""
        alone = self._held == 1 and not self.busy
        return alone and self._last_alone and self._last_seconds < PROMPT_SECONDS

    def take(self, jobs: Sequence[Job[Ticket]]) -> None:
        """Take some records, all or none; `put` or `answer` is to follow.

        Raises: BusyError, StoppedError.
        """
        with self._lock:
            if not self.running:
                raise StoppedError("the service is stopping; come again when it has started anew")
            if self._held + len(jobs) > self._size.queue:
                raise BusyError(
                    f"{self._held} records are in work and at most {self._size.queue} may be; "
                    f"{len(jobs)} more were asked for: come again"
                )
            self._held += len(jobs)

    def put(self, jobs: Sequence[Job[Ticket]]) -> None:
        """Leave what was taken to the threads."""
        for job in jobs:
            if job.dear:
                self._readers.submit(self._prepare, job)
            else:
                self._ready.put(job)

    def swap(self, loaded: Loaded) -> None:
        """Answer with another model from now on; records that were read keep theirs."""
        self.loaded = loaded

    def close(self, seconds: float) -> bool:
        """Take no more, answer what was taken. Returns whether all was answered in time."""
        with self._lock:
            self._open = False
            drained = self._lock.wait_for(lambda: self._held == 0, seconds)
        self._ready.put(None)
        self._thread.join(seconds if drained else 0)
        self._readers.shutdown(wait=drained, cancel_futures=True)
        return drained

    def _prepare(self, job: Job[Ticket]) -> None:
        """In a thread: what is dear to read."""
        self._ahead.acquire()  # what was read is larger than what it was read from
        if self._tried(job, self._check) and self._tried(job, self._get):
            self._ready.put(job)
        else:
            self._ahead.release()

    def _explain(self, job: Job[Ticket]) -> None:
        """In a thread, since it takes as long as a hundred answers."""
        if self._tried(job, _explained):
            self._done([job])

    def _run(self) -> None:
        """The inference thread."""
        while (first := self._ready.get()) is not None:
            jobs = [first]
            while len(jobs) < self._size.batch and not self._ready.empty():
                job = self._ready.get()
                if job is None:
                    self._ready.put(None)
                    break
                jobs.append(job)
            self.answer(jobs)

    def answer(self, jobs: Sequence[Job[Ticket]]) -> None:
        """Answer what was taken, in this thread."""
        started, self.busy = time.thread_time(), True
        readable: dict[Loaded, list[Job[Ticket]]] = {}
        for job in jobs:
            fresh = self._tried(job, self._check)
            if fresh and (job.read is not None or self._tried(job, self._get)):
                assert job.loaded is not None, "whoever reads says who"
                readable.setdefault(job.loaded, []).append(job)
        for loaded, some in readable.items():
            for alike in _alike(some):
                self._infer(loaded, alike)
        for job in jobs:
            if job.dear:
                self._ahead.release()
        self._last_alone, self._last_seconds = len(jobs) == 1, time.thread_time() - started
        self.busy = False

    def _infer(self, loaded: Loaded, jobs: Sequence[Job[Ticket]]) -> None:
        started = time.monotonic()
        try:
            read = [job.read for job in jobs if job.read is not None]
            answered = loaded.model.answer([r.record for r in read], [r.arrays for r in read])
            for job, outputs in zip(jobs, answered, strict=True):
                job.outputs = outputs
                job.prediction = None if job.explain else loaded.model.tell(outputs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the thread
            if len(jobs) == 1:
                self._fail(jobs[0], error)
            else:  # one of them may be to blame: each has its chance alone
                for job in jobs:
                    self._infer(loaded, [job])
            return
        ended = time.monotonic()
        for job in jobs:
            job.answered_at = (started, ended)
            if job.explain:
                self._readers.submit(self._explain, job)
        self._done([job for job in jobs if not job.explain])

    def _tried(self, job: Job[Ticket], step: Callable[[Job[Ticket]], None]) -> bool:
        """Whether it went well; if not, the job is done."""
        try:
            step(job)
        except Exception as error:  # noqa: BLE001 - a record fails alone, whatever it does
            self._fail(job, error)
            return False
        return True

    def _check(self, job: Job[Ticket]) -> None:
        waited = time.monotonic() - job.since
        if waited > self._size.wait_seconds:
            raise LateError(
                f"the record waited {waited:.1f} s, at most {self._size.wait_seconds:g} s are "
                "allowed; come again"
            )

    def _get(self, job: Job[Ticket]) -> None:
        started = time.monotonic()
        job.loaded = self.loaded
        self._read(job)
        job.read_at = (started, time.monotonic())

    def _fail(self, job: Job[Ticket], error: Exception) -> None:
        job.error = error
        self._done([job])

    def _done(self, jobs: Sequence[Job[Ticket]]) -> None:
        if not jobs:
            return
        try:
            self._finish(jobs)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            for job in jobs:
                job.error = error
            try:
                self._finish(jobs)
            except Exception:  # noqa: BLE001 - nor must that end the thread
                _log.exception("nobody could be told what came of %d records", len(jobs))
        with self._lock:
            self._held -= len(jobs)
            self._lock.notify_all()


def _alike(jobs: list[Job[Ticket]]) -> Iterator[list[Job[Ticket]]]:
    """Parts of about the same length: a batch is as long as its longest record, and all of it is
    computed."""
    jobs.sort(key=_positions)
    start = 0
    for end in range(1, len(jobs) + 1):
        if end == len(jobs) or _is_enough(jobs[start], jobs[end], end - start):
            yield jobs[start:end]
            start = end


def _is_enough(shortest: Job[Ticket], next: Job[Ticket], n: int) -> bool:
    """Whether n records, the shortest first, had better be answered without the next."""
    longest = _positions(next)
    return n >= FEWEST and (longest > LONGER * _positions(shortest) or (n + 1) * longest > MOST)


def _positions(job: Job[Ticket]) -> int:
    return 0 if job.read is None else sum(map(len, job.read.arrays.values()))


def _explained(job: Job[Ticket]) -> None:
    assert job.loaded is not None, "it was read"
    assert job.outputs is not None, "and answered"
    job.prediction = job.loaded.model.tell(job.outputs, explain=True)
