"""How large, how quick and how hungry a model is, measured as it is used; no torch.

Letters: M models, U units of work (a record, or a batch of them), R rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from moodal import bundle
from moodal.config import Columns
from moodal.data import manifest
from moodal.errors import CapacityError, DataError, RecordError
from moodal.runtime.predict import BATCH_SIZE, Model
from moodal.runtime.session import Feeds, Sessions
from moodal.types import Record, Rejection

Work = Callable[[], object]
Seconds = NDArray[np.float64]

MB = 1e6
ROWS = 64
"""Records that are timed: as many as make a median steady."""
ROUNDS = 5
WARM = 3
"""Units of work done before any is timed."""


@dataclass(frozen=True, slots=True)
class Speed:
    """p50_ms: the median time of one record, one at a time. per_second: records in batches of
    BATCH_SIZE. faster: the median ratio of another model's time to this one's, measured in turn;
    1 of itself."""

    p50_ms: float
    per_second: float
    faster: float = 1.0


def size_mb(folder: Path) -> float:
    """All files of a bundle."""
    return bundle.size_bytes(folder) / MB


def parameters(folder: Path) -> int:
    return bundle.load(folder).parameters


def alone(folder: Path, records: Iterable[Record | Rejection], *, rounds: int = ROUNDS) -> Speed:
    """The graphs alone, on one thread: encoders, head, and a text's steps. See `side_by_side`."""
    return side_by_side([folder], records, work=GRAPHS, rounds=rounds)[0]


def end_to_end(
    folder: Path, records: Iterable[Record | Rejection], *, rounds: int = ROUNDS
) -> Speed:
    """From what is given to the answer, files read and decoded. See `side_by_side`."""
    return side_by_side([folder], records, work=WHOLE, rounds=rounds)[0]


Making = Callable[[Path, Sequence[Record], int], list[Work]]
"""(folder, records, batch size) -> a unit of work a batch."""


def side_by_side(
    folders: Sequence[Path],
    records: Iterable[Record | Rejection],
    *,
    work: Making,
    rounds: int = ROUNDS,
) -> list[Speed]:
    """The speed of each model, round by round in turn, so that a busy machine slows all alike.

    records: of these the first ROWS that every model can read. work: GRAPHS or WHOLE.
    Raises: DataError when there are none; ModelError.
    """
    given = readable([Model(folder) for folder in folders], records)
    single = interleaved([work(folder, given, 1) for folder in folders], rounds=rounds)
    whole = interleaved([work(folder, given, BATCH_SIZE) for folder in folders], rounds=rounds)
    return [
        Speed(
            p50_ms=1e3 * float(np.median(mine)),
            per_second=len(given) / float(np.median(batches, axis=1).sum()),
            faster=float(np.median(single[0] / mine)),
        )
        for mine, batches in zip(single, whole, strict=True)
    ]


def readable(models: Sequence[Model], records: Iterable[Record | Rejection]) -> list[Record]:
    """The first ROWS that every model can read. Raises: DataError when there are none."""
    found: list[Record] = []
    why: RecordError | None = None
    for record in records:
        if isinstance(record, Rejection):
            continue
        try:
            for model in models:
                model.read(record)
        except RecordError as error:
            why = error
            continue
        found.append(record)
        if len(found) == ROWS:
            break
    if not found:
        reason = f" ({why})" if why else ""
        raise DataError(
            f"no row can be read by {', '.join(str(m.folder) for m in models)}{reason}; time them "
            "on rows that hold what they read"
        )
    return found


def interleaved(works: Sequence[Sequence[Work]], *, rounds: int = ROUNDS) -> Seconds:
    """M models' U units each -> seconds (M, U, R). In each round another model is first.

    A model does all its units before the next one's turn, as in use: after every unit of a large
    one the processor's caches would be its, and a small one be timed at its slowest.
    """
    n_units = len(works[0])
    seconds = np.empty((len(works), n_units, rounds))
    for units in works:
        for unit in units[:WARM]:
            unit()
    order = list(range(len(works)))
    for r in tqdm(range(rounds), "timing", unit=" rounds", delay=2, leave=False, disable=None):
        for m in order:
            for u in range(n_units):
                started = time.perf_counter()
                works[m][u]()
                seconds[m, u, r] = time.perf_counter() - started
        order = order[1:] + order[:1]
    return seconds


def _graphs(folder: Path, records: Sequence[Record], batch_size: int) -> list[Work]:
    """What a model's graphs are fed in each batch, to be fed to them again."""
    info = bundle.load(folder)
    runs: list[list[tuple[str, Feeds]]] = []
    watched = Sessions(folder, info, watch=lambda name, feeds: runs[-1].append((name, feeds)))
    model = Model(folder, sessions=watched)
    for some in _batches(records, batch_size):
        runs.append([])
        list(model.outputs(some, batch_size=batch_size))
    sessions = Sessions(folder, info)
    return [partial(_again, sessions, run) for run in runs]


def _batches(records: Sequence[Record], size: int) -> list[Sequence[Record]]:
    return [records[start : start + size] for start in range(0, len(records), size)]


def _again(sessions: Sessions, run: Sequence[tuple[str, Feeds]]) -> None:
    for name, feeds in run:
        sessions.run(name, feeds)


def _whole(folder: Path, records: Sequence[Record], batch_size: int) -> list[Work]:
    model = Model(folder)
    model.warm()
    return [partial(_answered, model, some, batch_size) for some in _batches(records, batch_size)]


def _answered(model: Model, records: Sequence[Record], batch_size: int) -> None:
    for _ in model.predict_many(records, batch_size=batch_size):
        pass


GRAPHS, WHOLE = _graphs, _whole


def memory_mb(folder: Path, file: Path, columns: Columns) -> float | None:
    """What a process of its own holds in memory once it has read the model and answered the first
    ROWS rows of a manifest, Python and the libraries with it; None where the system does not tell.

    Raises: CapacityError when the process fails.
    """
    told = [str(folder), str(file.absolute()), columns.model_dump_json()]
    program = (
        "import sys; from moodal.compress import measure; print(measure.settle(*sys.argv[1:]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *told],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    if ran.returncode:
        why = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
        raise CapacityError(f"{folder}: its memory could not be measured: {why[0]}")
    value: float | None = json.loads(ran.stdout)
    return value


def settle(folder: str, file: str, columns: str) -> str:
    """Load, answer, and say what this process holds in MB, as JSON."""
    model = Model(Path(folder))
    rows = manifest.read(Path(file), Columns.model_validate_json(columns))
    for _ in model.predict_many(islice(rows, ROWS)):
        pass
    return json.dumps(_resident_mb())


def _resident_mb() -> float | None:
    pages = Path("/proc/self/statm")
    if pages.is_file():
        return int(pages.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB
    try:
        import resource
    except ImportError:  # Windows
        return None
    # The highest it has been, where the present is not told; in bytes on a Mac.
    used: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(used) / MB if sys.platform == "darwin" else float(used) * 1024 / MB
