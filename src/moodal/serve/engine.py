"""Micro-batching: records wait, one thread answers whatever waits, each as if it were alone.

Nothing is delayed to fill a batch: while one is answered, the next gathers. The engine knows no
protocol; what came of a job is told by `finish`, once a batch.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from moodal.errors import CapacityError, MoodalError
from moodal.runtime.predict import Model, Outputs
from moodal.types import Modality, Prediction, Record

Ticket = TypeVar("Ticket")
Arrays = dict[Modality, NDArray[Any]]

_log = logging.getLogger("moodal.serve")


class BusyError(CapacityError):
    """There is no room for more records; come again."""


class LateError(CapacityError):
    """A record waited so long that nobody may want its answer any more."""


class StoppedError(CapacityError):
    """The engine takes no more records."""


@dataclass(slots=True, eq=False)
class Job(Generic[Ticket]):
    """One record on its way. ticket: the caller's own. prepare: run on the record in a thread
    before it is decoded, e.g. to check it against limits; may raise RecordError.

    Filled on the way: model (that read it, and answers it), arrays, outputs, and at the end either
    prediction or error.
    """

    record: Record
    ticket: Ticket
    explain: bool = False
    prepare: Callable[[Record], object] | None = None
    since: float = field(default_factory=time.monotonic)
    model: Model | None = None
    arrays: Arrays | None = None
    outputs: Outputs | None = None
    prediction: Prediction | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """batch: records answered at once. queue: records in work at most. wait_seconds: after which
    one is refused rather than answered. threads: that decode."""

    batch: int = 32
    queue: int = 256
    wait_seconds: float = 10.0
    threads: int = 2


class Engine(Generic[Ticket]):
    """Answers records in batches.

    finish: called in one of the engine's threads with jobs that are done. If it fails, it is called
    again with each job's error set, and then must not.
    """

    def __init__(
        self, model: Model, finish: Callable[[Sequence[Job[Ticket]]], None], *, size: Size
    ) -> None:
        self.model = model
        self._finish = finish
        self._size = size
        self._ready: queue.SimpleQueue[Job[Ticket] | None] = queue.SimpleQueue()
        self._decoders = ThreadPoolExecutor(size.threads, "moodal-decode")
        self._lock = threading.Condition()
        self._held = 0
        self._open = True
        self._thread = threading.Thread(target=self._run, name="moodal-infer", daemon=True)
        self._thread.start()

    @property
    def held(self) -> int:
        """Records that were taken and are not answered yet."""
        return self._held

    @property
    def running(self) -> bool:
        return self._open and self._thread.is_alive()

    def submit(self, jobs: Sequence[Job[Ticket]]) -> None:
        """Take some records, all or none. Raises: BusyError, StoppedError."""
        with self._lock:
            if not self._open:
                raise StoppedError("the service is stopping; come again when it has started anew")
            if self._held + len(jobs) > self._size.queue:
                raise BusyError(
                    f"{self._held} records are in work and at most {self._size.queue} may be; "
                    f"{len(jobs)} more were asked for: come again"
                )
            self._held += len(jobs)
        for job in jobs:
            if job.prepare is None and not job.explain and _is_text(job.record):
                self._ready.put(job)  # its reading is no dearer than the way to a thread
            else:
                self._decoders.submit(self._read, job)

    def swap(self, model: Model) -> None:
        """Answer with another model from now on; records that were read keep theirs."""
        self.model = model

    def close(self, seconds: float) -> bool:
        """Take no more, answer what was taken. Returns whether all was answered in time."""
        with self._lock:
            self._open = False
            drained = self._lock.wait_for(lambda: self._held == 0, seconds)
        self._ready.put(None)
        self._thread.join(seconds if drained else 0)
        self._decoders.shutdown(wait=drained, cancel_futures=True)
        return drained

    def _read(self, job: Job[Ticket]) -> None:
        """In a thread: what is dear to read."""
        if self._tried(job, self._check) and self._tried(job, self._decode):
            self._ready.put(job)

    def _explain(self, job: Job[Ticket]) -> None:
        """In a thread, since it takes as long as a hundred answers."""
        if self._tried(job, _explain):
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
            self._answer(jobs)

    def _answer(self, jobs: Sequence[Job[Ticket]]) -> None:
        readable: dict[Model, list[Job[Ticket]]] = {}
        for job in jobs:
            read = self._tried(job, self._check)
            if read and (job.arrays is not None or self._tried(job, self._decode)):
                assert job.model is not None, "whoever reads says who"
                readable.setdefault(job.model, []).append(job)
        for model, some in readable.items():
            self._infer(model, some)

    def _infer(self, model: Model, jobs: Sequence[Job[Ticket]]) -> None:
        try:
            arrays = [job.arrays for job in jobs if job.arrays is not None]
            answered = model.answer([job.record for job in jobs], arrays)
            for job, outputs in zip(jobs, answered, strict=True):
                job.outputs = outputs
                if not job.explain:
                    job.prediction = model.tell(outputs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the thread
            if len(jobs) == 1:
                self._fail(jobs[0], error)
                return
            for job in jobs:  # one of them may be to blame: each has its chance alone
                self._infer(model, [job])
            return
        for job in jobs:
            if job.explain:
                self._decoders.submit(self._explain, job)
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

    def _decode(self, job: Job[Ticket]) -> None:
        if job.prepare is not None:
            job.prepare(job.record)
        job.model = self.model
        job.record, job.arrays = job.model.read(job.record)

    def _fail(self, job: Job[Ticket], error: Exception) -> None:
        if not isinstance(error, MoodalError):
            _log.error("a record could not be answered", exc_info=error)
        job.error = error
        self._done([job])

    def _done(self, jobs: Sequence[Job[Ticket]]) -> None:
        if not jobs:
            return
        try:
            self._finish(jobs)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            _log.exception("what was answered could not be told")
            for job in jobs:
                job.error = error
            self._finish(jobs)
        with self._lock:
            self._held -= len(jobs)
            self._lock.notify_all()


def _explain(job: Job[Ticket]) -> None:
    assert job.model is not None, "it was read"
    assert job.outputs is not None, "and answered"
    job.prediction = job.model.tell(job.outputs, explain=True)


def _is_text(record: Record) -> bool:
    return record.image is None and record.audio is None
