"""What came of a record: the answer that is sent, and the row of the journal that remembers it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from moodal.data.language import language
from moodal.runtime import measure
from moodal.serve.engine import Job
from moodal.store.ids import new_id
from moodal.store.rows import Served, Source

Answer = dict[str, Any]


@dataclass(slots=True, eq=False)
class Ticket:
    """Who waits for a job, and what its row in the journal will say.

    request: the id of the request. kept: whether inputs are. journal: False = it gets no row.
    context: of traces, where they are on.
    """

    future: asyncio.Future[Answer | Exception]
    source: Source
    caller: str
    request: str = ""
    journal: bool = True
    kept: bool = False
    inputs: dict[str, str] = field(default_factory=dict)
    context: Any = None


def settle(job: Job[Ticket]) -> tuple[Answer, Served | None]:
    """The contract of `moodal predict --json` with the prediction's id and the model's version; and
    its row."""
    assert job.prediction is not None, "settled when it is answered"
    assert job.loaded is not None, "by a model"
    answer = job.prediction.to_dict()
    row = _row(job) if job.ticket.journal else None
    answer["prediction_id"] = "" if row is None else row.id
    answer["model_version"] = job.loaded.version
    return answer, row


def _row(job: Job[Ticket]) -> Served:
    told, read, loaded, ticket = job.prediction, job.read, job.loaded, job.ticket
    assert told is not None, "see settle"
    assert loaded is not None, "see settle"
    assert read is not None, "whatever is answered was read"
    assert job.outputs is not None, "and has outputs"
    now, words = time.time(), read.record.text
    measured = measure.measures(read.noted, job.outputs, told)
    return Served(
        id=new_id(now),
        at=now,
        model=loaded.version,
        source=ticket.source,
        caller=ticket.caller,
        label=told.label,
        value=told.value,
        said=told.text if ticket.kept else None,
        confidence=told.confidence,
        probabilities=told.probabilities,
        modalities="+".join(told.modalities),
        contributions={str(m): share for m, share in told.contributions.items()},
        abstain=told.abstain,
        reason=told.reason,
        language=language(words) if isinstance(words, str) else "",
        measures=measured,
        seconds=time.monotonic() - job.since,
        inputs=ticket.inputs,
        surprise=measure.surprise(measured, loaded.reference),
    )
