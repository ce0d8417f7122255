"""Cleaning: what a manifest holds and what is wrong with it, in constant memory; and the cure.

One pass over the rows, every picture and recording decoded; then one over what was spilled.
"""

from __future__ import annotations

import errno
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from moodal.config import Columns
from moodal.data.copying import NOWHERE, copy_rows
from moodal.data.duplicates import Exact, Match, NearImages, NearTexts, digest
from moodal.data.findings import MAX_ROWS, CheckReport, Finding, Place, Severity
from moodal.data.language import language
from moodal.data.manifest import DEFAULT_COLUMNS, read
from moodal.data.rows import name_of
from moodal.data.spill import Ids, Values
from moodal.errors import CapacityError, DataError, RecordError
from moodal.types import MODALITIES, Media, Modality, Record, Rejection

Decoder = Callable[[Media], NDArray[Any]]
"""image: to (H, W, 3) uint8, of one fixed size; audio: to (n,) float32 samples at 16 kHz."""

SAMPLE_RATE = 16_000
SILENCE_DB = -60.0
"""dB of full scale; quieter recordings hold no speech (quiet speech is above -45)."""
FENCE = 3.0
"""Outliers lie this many interquartile ranges from the quartiles. Source: Tukey, Exploratory
Data Analysis, 1977 ("far out")."""
IMBALANCE = 10.0
"""A label this many times as frequent as another is worth class weights."""
RARE = 5
"""Rows of a label under which it can hardly be learned or scored."""
MAX_VALUES = 1000
"""More different labels or groups than these are not listed."""

_STATISTICS: dict[str, tuple[Modality, float, str]] = {
    # name: modality, narrowest interquartile range that is believed, in the unit of the scale
    "characters": ("text", 0.1, "log"),
    "seconds": ("audio", 0.1, "log"),
    "loudness_db": ("audio", 1.0, "linear"),
    "brightness": ("image", 5.0, "linear"),
}


def check(
    path: Path,
    *,
    columns: Columns = DEFAULT_COLUMNS,
    against: Sequence[Path] = (),
    decoders: Mapping[Modality, Decoder] | None = None,
) -> CheckReport:
    """Read every row, decode every file, and report.

    against: manifests whose inputs may not stand in this one (train against dev and test).
    decoders: for image and audio; media without one are counted but not opened.
    Duplicates are looked for among the usable rows. Temporary files take about 250 bytes a row.

    Raises: DataError, when a manifest as a whole cannot be read; CapacityError, when the disk
        for temporary files is full.
    """
    if len(against) > 254:
        raise DataError(f"{len(against)} files to check against; give at most 254 at a time")
    with TemporaryDirectory(prefix="moodal-check-") as folder:
        try:
            tally = _Tally(Path(folder), decoders or {})
            for file, manifest in enumerate((path, *against)):
                rows = tqdm(read(manifest, columns), desc=name_of(manifest), unit=" rows", delay=2)
                for number, found in enumerate(rows, start=1):
                    tally.add(found, number, file)
            return _report(tally, path, against)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise CapacityError(
                f"{folder}: the disk for temporary files is full; free some space or point TMPDIR "
                "at a larger one"
            ) from error


def fix(
    path: Path, out: Path, *, report: CheckReport, columns: Columns = DEFAULT_COLUMNS
) -> int:
    """Write the manifest to `out` without what cannot be used; the number of rows left out.

    Left out: rejected rows (unreadable, missing or corrupt media, features that are not finite
    numbers), and rows equal to an earlier one in input and label. Near duplicates, leaks and
    conflicting labels stay: which of them is right, only a person can say.

    report: of this very file. Raises: DataError, CapacityError, as `copy_rows`.
    """
    part_of = np.where(report.keep, 0, NOWHERE).astype(np.uint8)
    copy_rows(path, [out], part_of=part_of, columns=columns)
    return int((~report.keep).sum())


class _Tally:
    """What is remembered between rows: counts in memory, one value a row on disk."""

    def __init__(self, folder: Path, decoders: Mapping[Modality, Decoder]) -> None:
        self.decoders = decoders
        self.exact = Exact(folder)
        self.same_ids = Exact(folder, "same-ids")
        self.near = {"text": NearTexts(folder), "image": NearImages(folder)}
        self.ids = Ids(folder, "ids")
        self.values = {name: Values(folder, name) for name in _STATISTICS}
        self.keep = bytearray()
        self.labels: list[Counter[str]] = [Counter()]
        self.languages: Counter[str] = Counter()
        self.groups: Counter[str] = Counter()
        self.subsets: Counter[str] = Counter()
        self.faults: dict[tuple[str, str], list[Any]] = {}
        self.widths: dict[tuple[str, int], list[Any]] = {}
        self.rejections: list[Rejection] = []
        self.other_rejections = 0
