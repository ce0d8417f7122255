"""Two models on the same rows: their answers, slice by slice, scored on the same resamples.

Letters: N rows, K numbers of an answer, R resamples.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import tee
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moodal import metrics
from moodal.bundle import subset_name
from moodal.data.language import language
from moodal.errors import DataError, RecordError
from moodal.evaluation.score import MIN_GROUPS, Info, Model
from moodal.tasks import TASKS
from moodal.types import Record, Rejection, Rejections, Subset

Array = NDArray[Any]
Kind = Literal["all", "language", "modalities"]
Key = tuple[Kind, str]

LEAST_ROWS = 30
"""Fewer rows decide nothing: of so few, the spread of the resamples is not that of the data.
Source: the rule of thumb for a mean to be nearly normal."""
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Both models on some of the rows.

    kind, name: all rows, a language, or a subset of the modalities with the rest hidden. old, new:
    the score. gain: how much better the new one is, in units of the score; below 0 = worse.
    interval: 95 % of the resamples lie in it. better, worse: shares of the resamples in which the
    new model is so. These three are None of fewer than LEAST_ROWS rows. resampled: what was drawn,
    rows or groups.
    """

    kind: Kind
    name: str
    n: int
    old: float | None
    new: float | None
    gain: float | None
    interval: list[float] | None = None
    better: float | None = None
    worse: float | None = None
    resampled: str = "rows"


@dataclass(slots=True)
class Slice:
    """Some rows: of each model (N,) codes and (N, K) judged answers, flat; (N,) what the bootstrap
    draws: a group or, below 0, the row alone."""

    codes: tuple[array[float], array[float]] = field(
        default_factory=lambda: (array("d"), array("d"))
    )
    judged: tuple[array[float], array[float]] = field(
        default_factory=lambda: (array("f"), array("f"))
    )
    units: array[int] = field(default_factory=lambda: array("q"))

    def add(self, unit: int, codes: Sequence[float], judged: Sequence[Array]) -> None:
        self.units.append(unit)
        for side in (0, 1):
            self.codes[side].append(codes[side])
            self.judged[side].frombytes(judged[side].tobytes())


class Pairs:
    """What is kept of the rows that both models answered: numbers, by slice.

    rejected: rows that were not compared. lost, gained: how many of these only the old, only the
    new model could answer. unlabelled: rows without a label. first: where the first row stands;
    empty = no row was read.
    """

    def __init__(self, old: Info, new: Info) -> None:
        self.task = TASKS[old.task]
        self.labels = (old.labels, new.labels)
        self.slices: dict[Key, Slice] = {}
        self.unlabelled = self.lost = self.gained = 0
        self.rejected = Rejections()
        self.first = ""
        self._groups: dict[str, int] = {}
        self._n_rows = 0

    def codes(self, target: str) -> list[float]:
        """The target as each model codes it. Raises: RecordError."""
        return [self.task.encode_target(target, labels) for labels in self.labels]

    def add(self, record: Record, old: Mapping[Subset, Any], new: Mapping[Subset, Any]) -> None:
        """old, new: what each model says from each subset of the modalities."""
        one, other = ({s: self._judge(record, a) for s, a in said.items()} for said in (old, new))
        whole = one[max(one, key=len)], other[max(other, key=len)]
        script = language(record.text) if isinstance(record.text, str) else ""
        keys: dict[Key, tuple[Array, Array]] = {("all", "all rows"): whole}
        if record.lang or script:
            keys["language", record.lang or script] = whole
        for subset in one:
            if subset and subset in other:
                keys["modalities", subset_name(subset)] = one[subset], other[subset]
        unit, group = -1 - self._n_rows, record.group
        if group:
            unit = self._groups.setdefault(group, len(self._groups))
        codes = self.codes(record.target or "")
        for key, judged in keys.items():
            self.slices.setdefault(key, Slice()).add(unit, codes, judged)
        self._n_rows += 1

    def _judge(self, record: Record, answer: Any) -> Array:
        return np.asarray(self.task.judge(record.target or "", answer), np.float32)


def gather(old: Model, new: Model, records: Iterable[Record | Rejection]) -> Pairs:
    """Both models' answers to the labelled records, in one pass and in step, so that no more than a
    batch of records is held.

    Raises: DataError when there is no row to compare on.
    """
    pairs = Pairs(old.info, new.info)
    left, right = tee(_labelled(records, pairs))
    for one, other in zip(old.outputs(left), new.outputs(right), strict=True):
        if isinstance(other, Rejection):
            pairs.rejected.add(other)
            pairs.lost += not isinstance(one, Rejection)
        elif isinstance(one, Rejection):
            pairs.rejected.add(one)
            pairs.gained += 1
        else:
            pairs.add(one.record, one.scores, other.scores)
    if not pairs.slices:
        rows = f"no row from {pairs.first} on" if pairs.first else "no row"
        names = " and ".join(dict.fromkeys((old.info.name, new.info.name)))
        raise DataError(
            f"{rows} could be compared by {names} ({pairs.unlabelled} "
            f"without a label, {pairs.rejected}); give rows whose label column holds a label of "
            "the models"
        )
    return pairs


def _labelled(records: Iterable[Record | Rejection], pairs: Pairs) -> Iterator[Record]:
    for record in records:
        pairs.first = pairs.first or record.source
        if isinstance(record, Rejection):
            pairs.rejected.add(record)
        elif record.target is None:
            pairs.unlabelled += 1
        else:
            try:
                pairs.codes(record.target)
            except RecordError as error:
                pairs.rejected.add(error.rejection(record.id, record.source))
                continue
            yield record


def verdicts(pairs: Pairs, *, resamples: int, seed: int) -> Iterator[Verdict]:
    """All rows first, then languages, then subsets, each by name."""
    first, *others = sorted(pairs.slices, key=lambda key: (key[0], key[1].count("+"), key[1]))
    whole = _verdict(first, pairs, n=resamples, seed=seed)
    yield whole
    for key in others:
        if pairs.slices[key] == pairs.slices[first]:  # as of texts in one language
            yield replace(whole, kind=key[0], name=key[1])
        else:
            yield _verdict(key, pairs, n=resamples, seed=seed)


def _verdict(key: Key, pairs: Pairs, *, n: int, seed: int) -> Verdict:
    kept, task, n_rows = pairs.slices[key], pairs.task, len(pairs.slices[key].units)
    sign = 1.0 if task.higher_is_better else -1.0
    units = np.asarray(kept.units)
    columns = [
        (np.asarray(codes), np.asarray(judged).reshape(n_rows, -1), labels)
        for codes, judged, labels in zip(kept.codes, kept.judged, pairs.labels, strict=True)
    ]
    old, new = (task.score(*column)[task.goal] for column in columns)
    gain = None if old is None or new is None else sign * (new - old)
    verdict = Verdict(*key, n_rows, old, new, gain)
    if n_rows < LEAST_ROWS:
        return verdict
    clustered = bool(units.max() >= 0) and len(np.unique(units)) >= MIN_GROUPS
    groups = units if clustered else None
    before, after = (  # each with a generator of the same seed, so that the same rows are drawn
        task.resampled(*column, groups=groups, rng=np.random.default_rng(seed), n=n)[task.goal]
        for column in columns
    )
    gains = sign * (after - before)  # (R,)
    return replace(
        verdict,
        interval=metrics.percentiles({"gain": gains}).get("gain"),
        better=float((gains > 0).mean()),
        worse=float((gains < 0).mean()),
        resampled="groups" if clustered else "rows",
    )
