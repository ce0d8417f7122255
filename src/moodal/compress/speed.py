"""How fast a model alone answers: its graphs on one record at a time, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal import bundle
from moodal.bundle import Info
from moodal.compress.plan import Plan
from moodal.data import manifest
from moodal.errors import DataError
from moodal.preprocess import batch
from moodal.runtime.predict import Model
from moodal.runtime.session import Sessions
from moodal.tasks import TASKS, Head
from moodal.types import Modality, Record, Seq

Array = NDArray[Any]
RECORDS, REPEATS = 50, 3
"""Records that are timed, and how often; the first round is not counted."""


def milliseconds(plan: Plan, folder: Path) -> float:
    """p50 over the validation rows. Raises: DataError when the model can read none."""
    given = (r for r in manifest.read(plan.valid, plan.columns) if isinstance(r, Record))
    model = Model(folder)
    arrays = []
    for record in islice(given, RECORDS):
        if set(record.modalities) & set(model.info.modalities):
            arrays.append(model.read(record).arrays)
    if not arrays:
        raise DataError(f"{plan.valid.name}: {folder} can read none of its first {RECORDS} rows")
    sessions = Sessions(folder, model.info)
    answer, seconds = ANSWERS[TASKS[model.info.task].head], list[float]()
    for turn in range(1 + REPEATS):
        for row in arrays:
            started = time.perf_counter()
            _run(sessions, model.info, row, answer)
            if turn:
                seconds.append(time.perf_counter() - started)
    return float(1000 * np.median(seconds))


Encoded = Mapping[Modality, Seq[Array]]


def _run(
    sessions: Sessions,
    info: Info,
    row: Mapping[Modality, Array],
    answer: Callable[[Sessions, Encoded], object],
) -> None:
    """Every encoder that the record has something for, and what answers."""
    encoded = {
        m: sessions.encode(m, batch.pad([row[m]])) if m in row else sessions.absent(1)
        for m in info.modalities
    }
    answer(sessions, encoded)


def _text(sessions: Sessions, encoded: Encoded) -> None:
    """Remember, and say one symbol: how many follow is for the text to say."""
    source = np.zeros((1, next(iter(encoded.values())).x.shape[1]), np.int64)
    *memory, state = sessions.remember(source, encoded)
    sessions.step(np.zeros(1, np.int64), state, memory)


ANSWERS: dict[Head, Callable[[Sessions, Encoded], object]] = {
    "summary": lambda sessions, encoded: sessions.answer(encoded),
    "frames": lambda sessions, encoded: sessions.frames(encoded["audio"]),
    "decoder": _text,
}


def megabytes(folder: Path) -> float:
    """Of the folder, in 10^6 bytes."""
    return bundle.size_bytes(folder) / 1e6
