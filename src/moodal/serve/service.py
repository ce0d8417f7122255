"""What every protocol calls: a record in, its answer out, journalled and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from moodal import bundle
from moodal.errors import MoodalError, RecordError
from moodal.runtime.predict import Model
from moodal.serve.engine import Engine, Job, Size
from moodal.serve.errors import failure, refusal_of
from moodal.serve.settings import Serve
from moodal.store.rows import Source
from moodal.types import Record, Rejection

Answer = dict[str, Any]


@dataclass(slots=True, eq=False)
class Ticket:
    """Who waits for a job, and where it came from."""

    future: asyncio.Future[Answer | Exception]
    source: Source
    caller: str
    inputs: dict[str, str] = field(default_factory=dict)


class Service:
    """A model behind its limits, journal and metrics.

    Raises: MoodalError, when the model or the journal cannot be opened.
    """

    def __init__(self, settings: Serve) -> None:
        self.settings = settings
        ears = settings.transcriber
        self.model = Model(
            bundle.find(settings.model), transcriber=None if ears is None else Model(ears)
        )
        self.model.warm()
        self._engine: Engine[Ticket] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def version(self) -> str:
        return bundle.version(self.model.info)

    @property
    def ready(self) -> bool:
        return self._engine is not None and self._engine.running

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        s = self.settings
        size = Size(batch=s.batch, queue=s.queue, wait_seconds=s.wait_seconds, threads=s.threads)
        self._engine = Engine(self.model, self._finish, size=size)

    async def stop(self) -> None:
        """Answer what was accepted, then let go of everything."""
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close, self.settings.stop_seconds)

    async def answer(
        self, record: Record, *, source: Source, caller: str = "", explain: bool = False
    ) -> Answer:
        """The contract of `moodal predict --json`, with prediction_id and model_version.

        When this returns, the answer is on its way to the journal, come what may.
        Raises: RefusalError.
        """
        [answer] = await self._ask([record], source=source, caller=caller, explain=explain)
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
        good = [r for r in records if isinstance(r, Record)]
        asked = iter(await self._ask(good, source=source, caller=caller, explain=explain))
        told: list[Answer] = []
        for given in records:
            if isinstance(given, Rejection):
                error: Exception = RecordError(given.reason, field=given.field)
                told.append(failure(error, given.id))
                continue
            answer = next(asked)
            told.append(failure(answer, given.id) if isinstance(answer, Exception) else answer)
        return told

    async def _ask(
        self, records: Sequence[Record], *, source: Source, caller: str, explain: bool
    ) -> list[Answer | Exception]:
        assert self._loop is not None, "started"
        assert self._engine is not None, "started"
        tickets = [Ticket(self._loop.create_future(), source, caller) for _ in records]
        jobs = [
            Job(record, ticket, explain) for record, ticket in zip(records, tickets, strict=True)
        ]
        try:
            self._engine.submit(jobs)
        except MoodalError as error:
            raise refusal_of(error) from error
        return [await ticket.future for ticket in tickets]

    def _finish(self, jobs: Sequence[Job[Ticket]]) -> None:
        """In a thread of the engine: what came of some jobs."""
        assert self._loop is not None, "started"
        told: list[Answer | Exception] = []
        for job in jobs:
            if job.error is not None:
                told.append(job.error)
                continue
            assert job.prediction is not None, "done without an error"
            assert job.model is not None, "and so read"
            answer = job.prediction.to_dict()
            answer["prediction_id"] = ""
            answer["model_version"] = bundle.version(job.model.info)
            told.append(answer)
        self._loop.call_soon_threadsafe(_tell, jobs, told)


def _tell(jobs: Sequence[Job[Ticket]], told: Sequence[Answer | Exception]) -> None:
    for job, answer in zip(jobs, told, strict=True):
        future = job.ticket.future
        if not future.done():  # else whoever asked has gone
            future.set_result(answer)
