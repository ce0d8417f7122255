"""One manifest into train, dev and test, or into what is learned from and what is held out."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moodal.config import Columns
from moodal.data.copying import NOWHERE, copy_rows
from moodal.data.manifest import DEFAULT_COLUMNS, read
from moodal.data.rows import STDIN, columns_of
from moodal.errors import DataError
from moodal.types import Media, Record, Rejection, Text

PARTS = ("train", "dev", "test")
HELD_OUT = ("trained-on", "held-out")
_EXAMPLES = 20
_MAX_LABELS = 1000
"""More different labels than these are numbers to predict: rows are not stratified by them."""


Rule = Literal["whole groups", "stratified by label", "at random"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows of a manifest that are held out, and those to learn from.

    is_held: (N,) bool, of the N rows that can and that cannot be read; the latter are learned from,
    so that whoever learns names them. rule: how they were drawn. n_rows: those that can be read.
    """

    path: Path
    is_held: NDArray[np.bool_]
    rule: Rule
    n_rows: int

    @property
    def n_held(self) -> int:
        return int(self.is_held.sum())


class _Scan:
    """What is kept of a manifest: 11 bytes a row."""

    def __init__(self, *, stratified: bool) -> None:
        self.units = array("Q")
        """Hash of what must stay together."""
        self.codes = array("H")
        """Place of the label in `labels`."""
        self.readable = array("B")
        self.labels: dict[str, int] = {}
        self.rejections: list[Rejection] = []
        self.stratified = stratified

    def add(self, label: str, unit: int) -> None:
        if len(self.labels) < _MAX_LABELS:
            self.labels.setdefault(label, len(self.labels))
        self.units.append(unit)
        self.codes.append(self.labels.get(label, _MAX_LABELS))
        self.readable.append(1)

    def reject(self, rejection: Rejection) -> None:
        self.units.append(0)
        self.codes.append(0)
        self.readable.append(0)
        if len(self.rejections) < _EXAMPLES:
            self.rejections.append(rejection)


def split(
    path: Path,
    out: Path,
    *,
    columns: Columns = DEFAULT_COLUMNS,
    group: str | None = None,
    ratios: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> dict[str, Any]:
    """Write train, dev and test beside each other in `out`, in the manifest's own format.

    group: a column: no value of it stands in two parts (a row without one is a group of its
        own). Without it rows with equal text (or, without text, equal image, then equal audio)
        stay together, and each part gets its share of every label.
    ratios: shares of the rows of train, dev and test, in [0, 1]; they add to 1; 0 = no such file.
    Returns {"train": {"path", "rows", "labels"}, ..., "rejected": {"rows", "examples"}}.

    Rows that cannot be read are left out and counted. Same file, ratios and seed: same parts.
    Raises: DataError; CapacityError, when the disk is full.
    """
    _check(path, columns, group, ratios)
    if group is not None:
        columns = columns.model_copy(update={"group": group})
    scan = _scan(path, columns, by_group=group is not None)
    part_of = _parts(scan, ratios, np.random.default_rng(seed))
    used = [i for i in range(len(PARTS)) if ratios[i] > 0]
    outs = [out / f"{PARTS[i]}{path.suffix.lower()}" for i in used]
    place = np.full(256, NOWHERE, dtype=np.uint8)
    place[used] = np.arange(len(used))
    copy_rows(path, outs, part_of=place[part_of], columns=columns)
    report: dict[str, Any] = {
        PARTS[i]: {"path": str(target), **_counts(scan, part_of == i)}
        for i, target in zip(used, outs, strict=True)
    }
    examples = [rejection.to_dict() for rejection in scan.rejections]
    n_rejected = len(scan.readable) - sum(scan.readable)
    return report | {"rejected": {"rows": n_rejected, "examples": examples}}


def hold_out(
    path: Path,
    *,
    columns: Columns = DEFAULT_COLUMNS,
    share: float = 0.1,
    seed: int = 0,
    sets: bool = False,
) -> HeldOut:
    """Draw the rows of a manifest to choose by; the others are to learn from.

    Where groups are filled in, whole ones are held out. Else each label gives its share; labels of
    fewer than 1 / share rows give theirs together, at random, and one that a single row has gives
    none, unless most are such (numbers, texts). Rows of equal content stay together.

    share: of the labelled rows, in (0, 1). A row without a label is learned from, if any row has
        one. sets: groups are data sets, whose labels each give their share, and not speakers.
    Same file, share and seed: the same rows.
    Raises: DataError, when there are no two rows or groups to part.
    """
    if path == STDIN:
        raise DataError("standard input can be read only once; save it as a file to train on it")
    by_group = not sets and _has_groups(path, columns)
    scan = _scan_labels(path, columns, by_group=by_group, sets=sets)
    readable = np.frombuffer(scan.readable, dtype=np.uint8).astype(bool)
    chosen, strata = _eligible(scan, readable, share)
    units = np.frombuffer(scan.units, dtype=np.uint64)
    if len(np.unique(units[chosen])) < 2:
        what = "group" if by_group else "row"
        raise DataError(
            f"{path.name}: has fewer than two labelled {what}s that differ, so none can be held "
            "out to choose the best epoch by; add more, or name a file with --valid"
        )
    is_held = np.zeros(len(readable), np.bool_)
    ratios = (1 - share, share)
    drawn = _drawn(units[chosen], strata[chosen], ratios, np.random.default_rng(seed))
    is_held[chosen] = drawn == 1
    rule: Rule = "stratified by label" if strata.any() else "at random"
    return HeldOut(path, is_held, "whole groups" if by_group else rule, int(readable.sum()))


def write_parts(
    held: HeldOut, out: Path, *, columns: Columns = DEFAULT_COLUMNS
) -> tuple[Path, Path]:
    """Both parts as files in the folder `out`: to learn from, and held out. Rows that cannot be
    read are in neither. Raises: CapacityError."""
    part_of = held.is_held.astype(np.uint8)
    for number, found in enumerate(read(held.path, columns)):
        if isinstance(found, Rejection):
            part_of[number] = NOWHERE
    train, valid = (out / f"{name}{held.path.suffix.lower()}" for name in HELD_OUT)
    copy_rows(held.path, (train, valid), part_of=part_of, columns=columns)
    return train, valid


def _has_groups(path: Path, columns: Columns) -> bool:
    there = columns.group in columns_of(path)
    return there and any(isinstance(r, Record) and r.group for r in read(path, columns))


def _scan_labels(path: Path, columns: Columns, *, by_group: bool, sets: bool) -> _Scan:
    """As _scan, but that code 0 is no label, and that labels of data sets are told apart."""
    scan = _Scan(stratified=not by_group)
    scan.labels[""] = 0
    for number, found in enumerate(read(path, columns)):
        if isinstance(found, Rejection):
            scan.reject(found)
            continue
        target = found.target or ""
        if by_group:
            scan.add(target, _digest(f"group {found.group}" if found.group else number))
        else:
            label = f"{found.group}\n{target}" if sets and target else target
            scan.add(label, _digest(_content(found)))
    return scan


def _eligible(
    scan: _Scan, readable: NDArray[np.bool_], share: float
) -> tuple[NDArray[np.bool_], NDArray[np.uint16]]:
    """(rows,), (rows,): which rows may be held out, and the stratum of each, 0 the common one."""
    codes = np.frombuffer(scan.codes, dtype=np.uint16)
    labelled = readable & (codes > 0)
    common = np.zeros_like(codes)
    if not labelled.any():
        return readable, common
    if not scan.stratified or len(scan.labels) >= _MAX_LABELS:
        return labelled, common
    n_alike = np.bincount(codes[labelled], minlength=len(scan.labels))[codes]
    if 2 * (len(scan.labels) - 1) <= labelled.sum():
        labelled &= n_alike > 1
    return labelled, np.where(n_alike * share >= 1, codes, common)


def _check(path: Path, columns: Columns, group: str | None, ratios: Sequence[float]) -> None:
    wrong = len(ratios) != len(PARTS) or not all(0 <= ratio <= 1 for ratio in ratios)
    if wrong or not math.isclose(sum(ratios), 1.0, abs_tol=1e-6):
        raise DataError(
            f"ratios {','.join(map(str, ratios))}: give three shares in [0, 1], of train, dev and "
            "test, that add to 1, such as 0.8,0.1,0.1"
        )
    if path == STDIN:
        raise DataError("standard input can be read only once; save it as a file to split it")
    there = columns_of(path)
    if group is not None and group not in there:
        raise DataError(
            f"{path.name}: has no column {group!r} to group by; its columns are {', '.join(there)}"
        )


def _scan(path: Path, columns: Columns, *, by_group: bool) -> _Scan:
    scan = _Scan(stratified=not by_group)
    for number, found in enumerate(read(path, columns)):
        if isinstance(found, Rejection):
            scan.reject(found)
        elif by_group:
            unit = f"group {found.group}" if found.group else number
            scan.add(found.target or "", _digest(unit))
        else:
            scan.add(found.target or "", _digest(_content(found)))
    return scan


def _content(record: Record) -> Text | Media:
    return next(x for x in (record.text, record.image, record.audio) if x is not None)


def _digest(content: Text | Media | int) -> int:
    if isinstance(content, np.ndarray):
        data = content.tobytes()
    elif isinstance(content, bytes):
        data = content
    else:
        data = " ".join(str(content).split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def _parts(scan: _Scan, ratios: Sequence[float], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The part of each row, an index of PARTS; NOWHERE for rows that cannot be read."""
    readable = np.frombuffer(scan.readable, dtype=np.uint8).astype(bool)
    part_of = np.full(readable.shape, NOWHERE, dtype=np.uint8)
    units = np.frombuffer(scan.units, dtype=np.uint64)[readable]
    n_units, n_parts = len(np.unique(units)), sum(ratio > 0 for ratio in ratios)
    if n_units < n_parts:
        raise DataError(
            f"there are {n_units} groups of rows that must stay together and {n_parts} parts; "
            "give a ratio of 0 to the parts you can do without, or add data"
        )
    strata = np.frombuffer(scan.codes, dtype=np.uint16)[readable]
    if not scan.stratified or len(scan.labels) >= _MAX_LABELS:
        strata = np.zeros_like(strata)
    part_of[readable] = _drawn(units, strata, ratios, rng)
    return part_of


def _drawn(
    units: NDArray[np.uint64],
    strata: NDArray[np.uint16],
    ratios: Sequence[float],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """(rows,): a part for each row; rows of one unit share theirs, and the first one's stratum."""
    _, first, unit_of, sizes = np.unique(
        units, return_index=True, return_inverse=True, return_counts=True
    )
    return _assign(sizes, strata[first], ratios, rng)[unit_of]


def _assign(
    sizes: NDArray[np.intp],
    strata: NDArray[np.uint16],
    ratios: Sequence[float],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """A part for each unit: stratum by stratum, large units first, where most rows are lacking.

    What a stratum could not share out exactly is carried to the next. A part never stays empty.
    """
    order = rng.permutation(len(sizes))
    order = order[np.lexsort((-sizes[order], strata[order]))]
    parts = np.zeros(len(sizes), dtype=np.uint8)
    totals = np.bincount(strata, weights=sizes)
    lacking = [0.0] * len(ratios)
    used = [i for i, ratio in enumerate(ratios) if ratio > 0]
    empty = dict.fromkeys(used)
    stratum = -1
    for done, (unit, size, label) in enumerate(
        zip(order.tolist(), sizes[order].tolist(), strata[order].tolist(), strict=True)
    ):
        if label != stratum:
            stratum = label
            lacking = [
                rows + ratio * totals[label] for rows, ratio in zip(lacking, ratios, strict=True)
            ]
        pool = empty if len(order) - done <= len(empty) else used
        part = max(pool, key=lacking.__getitem__)
        lacking[part] -= size
        empty.pop(part, None)
        parts[unit] = part
    return parts


def _counts(scan: _Scan, rows: NDArray[np.bool_]) -> dict[str, Any]:
    counts = np.bincount(np.frombuffer(scan.codes, dtype=np.uint16)[rows], minlength=1)
    named = {name: int(counts[code]) for name, code in scan.labels.items() if code < len(counts)}
    labels = dict(sorted(named.items())) if len(scan.labels) < _MAX_LABELS else {}
    return {"rows": int(rows.sum()), "labels": labels}
