"""A model whose answers stand in the records themselves, so that every score is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moodal.preprocess.batch import subsets
from moodal.tasks import TASKS
from moodal.types import MODALITIES, Record, Rejection, Subset

LABELLED = next(name for name, task in TASKS.items() if task.higher_is_better)
NUMBERED = next(name for name, task in TASKS.items() if not task.higher_is_better)


@dataclass(frozen=True)
class Info:
    name: str
    task: str
    labels: tuple[str, ...]
    modalities: Subset


@dataclass(frozen=True)
class Outputs:
    record: Record
    scores: Mapping[Subset, NDArray[Any]]


@dataclass(frozen=True)
class Reader:
    """Answers with what the id says: "1 0/0.1 0.9" answers 1 0 from the text alone, 0.1 0.9 from
    a picture alone and the mean of the two from both; a third part is the sound's. An id
    "unreadable" is rejected."""

    info: Info

    def outputs(self, records: Iterable[Record | Rejection]) -> Iterator[Outputs | Rejection]:
        for record in records:
            if isinstance(record, Rejection):
                yield record
            elif record.id == "unreadable":
                yield Rejection(record.id, record.source, "image", "cannot be decoded")
            else:
                parts = [np.array(part.split(), np.float64) for part in record.id.split("/")]
                known = dict(zip(MODALITIES, parts, strict=False))
                yield Outputs(
                    record,
                    {
                        subset: np.mean([known[m] for m in subset], axis=0)
                        for subset in subsets(record.modalities)
                    },
                )


@pytest.fixture
def labelled() -> Reader:
    return Reader(Info("fruit", LABELLED, ("bad", "fair", "good"), MODALITIES))


@pytest.fixture
def numbered() -> Reader:
    return Reader(Info("scale", NUMBERED, (), MODALITIES))
