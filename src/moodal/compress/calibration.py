"""The rows that integers are chosen by: what a model's graphs are fed by a few records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from moodal import bundle
from moodal.config import Columns
from moodal.data import manifest
from moodal.errors import DataError, RecordError
from moodal.runtime.predict import Model
from moodal.runtime.session import Feeds, Sessions
from moodal.types import Record, Rejection, Rejections, Subset

ROWS = 128
"""Records that ranges are taken from: a few hundred pictures suffice, 100 to 1,000 by
Krishnamoorthi 2018, section 3.1.2, and each of ours holds thousands of positions."""
MOST_FEEDS = 128
"""Kept of one graph: the steps of a text are many."""


@dataclass(slots=True)
class Seen:
    """feeds: file -> what that graph was fed, of n records. rejected: rows that could not be
    read."""

    feeds: dict[str, list[Feeds]] = field(default_factory=dict)
    n: int = 0
    rejected: Rejections = field(default_factory=Rejections)


def see(
    folder: Path, file: Path, *, columns: Columns | None = None, rows: int = ROWS, seed: int = 0
) -> Seen:
    """Answer some rows of a manifest, drawn at random, and keep what the graphs were fed.

    Raises: DataError when no row can be read, or none holds a modality that the model reads.
    """
    info = bundle.load(folder)
    seen, rng = Seen(), np.random.default_rng(seed)
    columns = columns or manifest.columns_in(file, info.columns)
    drawn = _drawn(manifest.read(file, columns), info.modalities, seen, rows=rows, rng=rng)
    counts: dict[str, int] = defaultdict(int)

    def watch(name: str, feeds: Feeds) -> None:
        kept = seen.feeds.setdefault(name, [])
        counts[name] += 1
        if len(kept) < MOST_FEEDS:
            kept.append(feeds)
        elif (place := int(rng.integers(counts[name]))) < MOST_FEEDS:
            kept[place] = feeds

    model = Model(folder, sessions=Sessions(folder, info, watch=watch))
    told = tqdm(drawn, "calibrating", unit=" rows", delay=2, leave=False, disable=None)
    for answered in model.outputs(told, batch_size=1):
        if isinstance(answered, Rejection):
            seen.rejected.add(answered)
        else:
            seen.n += 1
    _check(seen, info, file, columns)
    return seen


def _drawn(
    records: Iterable[Record | Rejection],
    modalities: Subset,
    seen: Seen,
    *,
    rows: int,
    rng: np.random.Generator,
) -> list[Record]:
    """Some of the records that hold any of the modalities, each as probable as another.

    Source: Vitter, Random sampling with a reservoir (1985), algorithm R.
    """
    drawn: list[Record] = []
    n = 0
    for record in records:
        if isinstance(record, Rejection):
            seen.rejected.add(record)
        elif any(m in modalities for m in record.modalities):
            n += 1
            if len(drawn) < rows:
                drawn.append(record)
            elif (place := int(rng.integers(n))) < rows:
                drawn[place] = record
        else:
            reason = f"holds {', '.join(record.modalities)}, none of which the model reads"
            seen.rejected.add(RecordError(reason).rejection(record.id, record.source))
    return drawn


def _check(seen: Seen, info: bundle.Info, file: Path, columns: Columns) -> None:
    """Raises: DataError, when a graph was fed nothing."""
    if not seen.n:
        raise DataError(
            f"{file}: no row can be read by {info.name}, which reads {', '.join(info.modalities)} "
            f"({seen.rejected}); give rows like those it was trained on"
        )
    for modality in info.modalities:
        if bundle.encoder_file(modality) not in seen.feeds:
            raise DataError(
                f"{file}: no row that could be read holds {modality} (column "
                f"{getattr(columns, modality)!r}; {seen.rejected}), and "
                f"{info.name} reads it; ranges must be seen: give rows that hold it"
            )
