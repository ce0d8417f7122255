"""What every protocol calls: a record in, its answer out, journalled and counted."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from moodal import bundle
from moodal.errors import CapacityError, MoodalError, RecordError
from moodal.runtime.predict import Model
from moodal.serve import account, limits, logs
from moodal.serve.account import Answer, Ticket
from moodal.serve.engine import Engine, Job, Size
from moodal.serve.errors import busy, failure, refusal_of
from moodal.serve.keys import Keys
from moodal.serve.loaded import Loaded, load
from moodal.serve.metrics import Metrics
from moodal.serve.rate import Rate
from moodal.serve.settings import Serve
from moodal.serve.traces import Traces
from moodal.store.inputs import Inputs
from moodal.store.journal import Journal
from moodal.store.rows import Served, Source
from moodal.store.spool import Spool
from moodal.types import MODALITIES, Record, Rejection

__all__ = ["Answer", "Service"]

Told = TypeVar("Told")

LONG_CHARACTERS = 2_000
"""Of a text that takes a few milliseconds to read."""
SMALL_BYTES = 500_000
"""Of a record that is read in a few milliseconds, unless it is a bomb."""
CLERKS = 4
"""Threads that ask the journal, so that nothing else waits for it."""
LOST = ("dropped", "refused", "unreadable")
"""Of spool.Counts: what becomes of a row that never reaches the journal."""
JOURNAL_SECONDS = 5
"""What a caller is asked to wait while the journal is away."""

_log = logging.getLogger("moodal.serve")


class Service:
    """A model behind its limits, journal and metrics. It answers between start and stop.

    together: a folder that the workers of one service share, for their rates; None = this process
    serves alone.
    Raises: MoodalError, when the model, the keys or the spool cannot be opened.
    """

    def __init__(self, settings: Serve, *, together: Path | None = None) -> None:
        self.settings = settings
        self.keys = None if settings.api_keys is None else Keys(settings.api_keys)
        self.rate = Rate(settings.limits.rate, None if together is None else together / "rate")
        self.inputs = self._open_inputs()
        self.traces = Traces()
        self.metrics = Metrics()
        self.lines = logs.Requests() if settings.log_requests else None
        self.room = limits.Room(settings.body_megabytes)
        self.folder = bundle.find(settings.model)
        first = self.load()
        self.spool = Spool(
            settings.spool_folder,
            settings.store,
            limit_bytes=int(settings.spool_megabytes * limits.MEGABYTE),
        )
        self._clerks = ThreadPoolExecutor(CLERKS, "moodal-journal")
        self.watching = False
        """Whether, of all workers, this one watches and writes down what happens to models."""
        self._soon: list[Job[Ticket]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._home = 0
        self._engine = Engine[Ticket](first, self._read, self._finish, size=_size(settings))
        self.metrics.answering(first.version, first.model.info.name)

    @property
    def loaded(self) -> Loaded:
        return self._engine.loaded

    @property
    def model(self) -> Model:
        return self.loaded.model

    @property
    def version(self) -> str:
        return self.loaded.version

    @property
    def journal(self) -> Journal:
        return self.spool.journal

    @property
    def ready(self) -> bool:
        return self._loop is not None and self._engine.running

    def load(self) -> Loaded:
        """The model as it now lies in its folder. Raises: MoodalError."""
        settings = self.settings
        seconds = settings.limits.seconds
        return load(self.folder, settings.transcriber, limit_seconds=seconds)

    def swap(self, loaded: Loaded) -> None:
        """Answer with another model from now on; no request is lost."""
        self._engine.swap(loaded)
        self.metrics.answering(loaded.version, loaded.model.info.name)

    async def start(self) -> None:
        self._loop, self._home = asyncio.get_running_loop(), threading.get_ident()

    async def stop(self) -> None:
        """Answer what was accepted, then let go of everything."""
        seconds = self.settings.stop_seconds
        if not await asyncio.to_thread(self._engine.close, seconds):
            _log.error("%d records were not answered within %g s", self._engine.held, seconds)
        self._clerks.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.spool.close)
        await asyncio.to_thread(self.traces.close)
        self.rate.close()
        if self.lines is not None:
            self.lines.flush()

    def identify(self, headers: Mapping[bytes, bytes]) -> str:
        """The name of the caller's key; "" where the service has none. Raises: RefusalError."""
        return "" if self.keys is None else self.keys.caller(headers)

    def caller(self, headers: Mapping[bytes, bytes], client: str, *, records: int = 1) -> str:
        """As identify, and so many records count for the caller's rate.

        headers: their names in lower case. client: the address of the other side.
        Raises: RefusalError (401, 429).
        """
        name = self.identify(headers)
        self.rate.take(name or client, records)
        return name

    async def asks_journal(self, question: Callable[[Journal], Told]) -> Told:
        """Ask the journal in a thread; at once refused where it is known to be away.

        Raises: RefusalError (503), when it cannot be reached; DataError.
        """
        try:
            if error := self.spool.counts.error:
                raise CapacityError(error)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._clerks, question, self.journal)
        except CapacityError as error:
            raise busy(
                f"the journal cannot be reached ({error}); come again",
                "journal",
                seconds=JOURNAL_SECONDS,
            ) from error

    async def answer(
        self,
        record: Record,
        *,
        source: Source,
        caller: str = "",
        explain: bool = False,
        journal: bool = True,
    ) -> Answer:
        """The contract of `moodal predict --json`, with prediction_id and model_version.

        When this returns, the answer is on its way to the journal, come what may. journal: False =
        it is not, and has no id.
        Raises: RefusalError.
        """
        loop = asyncio.get_running_loop()
        ticket = Ticket(loop.create_future(), source, caller, journal=journal)
        [answer] = await self._ask([record], [ticket], explain=explain)
        if isinstance(answer, Exception):
            raise refusal_of(answer) from answer
        return answer

    async def answers(
        self,
        records: Sequence[Record | Rejection],
        *,
        source: Source = "batch",
        caller: str = "",
        explain: bool = False,
    ) -> list[Answer]:
        """As answer, in the order of the records; one that fails is {"id", "error"} in its place.

        Raises: RefusalError, when there is no room for all of them.
        """
        loop = asyncio.get_running_loop()
        good = [r for r in records if isinstance(r, Record)]
        tickets = [Ticket(loop.create_future(), source, caller) for _ in good]
        asked = iter(await self._ask(good, tickets, explain=explain))
        told: list[Answer] = []
        for given in records:
            if isinstance(given, Rejection):
                told.append(self._failure(RecordError(given.reason, field=given.field), given.id))
                continue
            found = next(asked)
            told.append(self._failure(found, given.id) if isinstance(found, Exception) else found)
        return told

    def _failure(self, error: Exception, id: str) -> Answer:
        refusal = refusal_of(error)
        self.metrics.error(refusal.code)
        return failure(refusal, id)

    async def _ask(
        self, records: Sequence[Record], tickets: Sequence[Ticket], *, explain: bool
    ) -> list[Answer | Exception]:
        jobs: list[Job[Ticket]] = []
        alone = len(records) == 1 and self._engine.held == 0
        for record, ticket in zip(records, tickets, strict=True):
            ticket.request, ticket.kept = logs.REQUEST.get(), self.inputs is not None
            if self.traces.on:
                ticket.context = self.traces.here()
            # Where nothing else waits, the engine's own thread reads what is small: one way less.
            dear = ticket.kept or _cost(record) > (SMALL_BYTES if alone else 0)
            jobs.append(Job(record, ticket, explain, dear=dear))
        try:
            self._engine.take(jobs)
        except MoodalError as error:
            raise refusal_of(error) from error
        if len(jobs) == 1 and not explain and _cost(records[0]) == 0 and not jobs[0].dear:
            if not self._soon:
                asyncio.get_running_loop().call_soon(self._answer_soon)
            self._soon += jobs
        else:
            self._engine.put(jobs)
        return [await ticket.future for ticket in tickets]

    def _answer_soon(self) -> None:
        """Once all that has arrived was read: what came alone is answered here, where that is
        quicker than the way to the engine's thread and back; else the engine makes a batch of it.
        """
        jobs, self._soon = self._soon, []
        if len(jobs) == 1 and self._engine.prompt:
            self._engine.answer(jobs)
        else:
            self._engine.put(jobs)

    def _read(self, job: Job[Ticket]) -> None:
        """In a thread: limits, decoding, keeping."""
        assert job.loaded is not None, "the engine says which model reads"
        limits.check(job.record, self.settings.limits)
        job.read = job.loaded.model.read(job.record)
        if self.inputs is None or not job.ticket.journal:
            return
        try:
            kept = self.inputs.keep(job.record)
            job.ticket.inputs = {m: kept[m] for m in MODALITIES if m in kept}
        except CapacityError as error:  # an answer without its input is better than none
            self.metrics.inputs_failed.inc()
            _log.error("%s", error, extra={"request": job.ticket.request})

    def _finish(self, jobs: Sequence[Job[Ticket]]) -> None:
        """In a thread, or in the event loop: journal, count and tell what came of some jobs."""
        assert self._loop is not None, "nothing is asked before the start"
        told: list[Answer | Exception] = []
        rows: list[Served] = []
        for job in jobs:
            if job.error is not None:
                self._log_fault(job)
                told.append(job.error)
                continue
            answer, row = account.settle(job)
            told.append(answer)
            if row is not None:
                rows.append(row)
        if rows:
            self.spool.append(rows)
        predictions = [job.prediction for job in jobs if job.prediction and not job.error]
        if predictions:
            self.metrics.batch(predictions)
        if self.traces.on:
            self._trace(jobs)
        if threading.get_ident() == self._home:
            _tell(jobs, told)
        else:
            self._loop.call_soon_threadsafe(_tell, jobs, told)

    def _log_fault(self, job: Job[Ticket]) -> None:
        """Of errors that are ours alone."""
        if not isinstance(job.error, MoodalError):
            extra = {"request": job.ticket.request}
            _log.error("a record could not be answered", exc_info=job.error, extra=extra)

    def _trace(self, jobs: Sequence[Job[Ticket]]) -> None:
        for job in jobs:
            if job.answered_at[1]:
                self.traces.done("read", job.ticket.context, job.read_at)
                self.traces.done("infer", job.ticket.context, job.answered_at, records=len(jobs))

    def _open_inputs(self) -> Inputs | None:
        folder = self.settings.keep_inputs
        return None if folder is None else Inputs(folder, self.settings.keep_days)

    def look(self) -> None:
        """Tell the metrics what is so at this moment."""
        counts = self.spool.counts
        self.metrics.queue_records.set(self._engine.held)
        self.metrics.journal_waiting.set(counts.waiting)
        self.metrics.journal_reachable.set(not counts.error)
        self.metrics.lost({why: getattr(counts, why) for why in LOST})


def _size(settings: Serve) -> Size:
    return Size(
        batch=settings.batch,
        queue=settings.queue,
        wait_seconds=settings.wait_seconds,
        threads=settings.threads,
    )


def _cost(record: Record) -> int:
    """Bytes that take longer to read than the way to a thread."""
    long = record.text is not None and len(record.text) > LONG_CHARACTERS
    media = (v for v in (record.image, record.audio) if v is not None)
    return long + sum(len(v) if isinstance(v, bytes) else 1 for v in media)


def _tell(jobs: Sequence[Job[Ticket]], told: Sequence[Answer | Exception]) -> None:
    """In the event loop."""
    for job, answer in zip(jobs, told, strict=True):
        if not job.ticket.future.done():  # else whoever asked has gone
            job.ticket.future.set_result(answer)
