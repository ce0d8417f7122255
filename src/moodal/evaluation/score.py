"""A model against labelled rows: scores for every subset of the modalities, by language, by group.

Of a row only numbers are kept (its code and its answers, float32), so that a large file fits; the
records of the few worst errors are kept to be shown.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moodal import metrics
from moodal.bundle import subset_name
from moodal.data.language import language
from moodal.errors import ConfigError, DataError, RecordError
from moodal.evaluation.result import Report, Scores, WorstError
from moodal.preprocess.batch import subsets
from moodal.tasks import TASKS, Task
from moodal.types import Record, Rejection, Rejections, Said, Subset

Array = NDArray[Any]

MAX_GROUPS = 100
"""Groups scored one by one, the largest first; all are counted."""
MIN_GROUPS = 10
"""Groups that a cluster bootstrap needs: of two, only three resamples differ."""
MAX_WORST = 12
"""Errors shown."""


class Answered(Protocol):
    """What a model says of one record: runtime.predict.Outputs."""

    @property
    def record(self) -> Record: ...
    @property
    def scores(self) -> Mapping[Subset, Any]: ...


class Info(Protocol):
    """What is asked of bundle.Info."""

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def modalities(self) -> Subset: ...


class Model(Protocol):
    """What is asked of runtime.predict.Model."""

    @property
    def info(self) -> Info: ...
    def outputs(self, records: Iterable[Record | Rejection]) -> Iterator[Answered | Rejection]: ...


def evaluate(
    model: Model,
    records: Iterable[Record | Rejection],
    *,
    among: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    name: str = "",
) -> Report:
    """Score a model on labelled records.

    records: as a manifest gives them; a Rejection or an unreadable row is counted, and never ends
        the run. Unlabelled rows are counted and not answered.
    among: only these labels compete: probabilities are renormalised over them, and rows of other
        labels are set aside (a three-way model on a binary set).
    bootstrap: resamples for the intervals; 0 = no intervals. Groups are drawn whole where the
        rows have groups. name: of the data, for the report.

    Raises: ConfigError for labels in `among` that the model does not know; DataError when no
        labelled row is left.
    """
    contest = _contest(model.info, among)
    kept = _Kept()
    for answered in model.outputs(_labelled(records, contest, kept)):
        if isinstance(answered, Rejection):
            kept.rejected.add(answered)
        else:
            _keep(answered, contest, kept)
    if not kept.targets:
        raise DataError(
            f"{name or 'the records'}: no labelled row could be scored ({kept.unlabelled} without "
            f"a label, {kept.set_aside} set aside, {kept.rejected}); evaluation needs rows whose "
            "label column holds a label of the model"
        )
    drawn = _Bootstrap(contest, n=bootstrap, seed=seed)
    return _report(model.info, kept, drawn, name=name)


@dataclass(frozen=True, slots=True)
class _Contest:
    """The labels that compete: their names and their places among the model's outputs."""

    task: Task
    known: tuple[str, ...]
    labels: tuple[str, ...]
    places: tuple[int, ...]

    def code(self, target: str) -> float | None:
        """The target's code among those that compete; None = set aside. Raises: RecordError."""
        code = self.task.encode_target(target, self.known)
        if not self.known:
            return code
        return self.places.index(int(code)) if int(code) in self.places else None

    def narrow(self, output: Array) -> Array:
        """(C,) over all labels -> (C',) over those that compete, summing to 1 again."""
        if len(self.places) == len(self.known):
            return output
        picked = output[list(self.places)].astype(np.float64)
        total = picked.sum()
        return picked / total if total > 0 else np.full(len(picked), 1.0 / len(picked))


def _contest(info: Info, among: Sequence[str] | None) -> _Contest:
    labels = info.labels
    if among is not None and TASKS[info.task].head != "summary":
        raise ConfigError(
            f"among {', '.join(among)!r}: this model answers with a text, not a label"
        )
    if among is not None:
        unknown = [label for label in among if label not in labels]
        labels = tuple(label for label in labels if label in among)
        if unknown or len(labels) < 2:
            raise ConfigError(
                f"among {', '.join(among)!r}: at least two of the model's labels must compete; it "
                f"knows {', '.join(info.labels) or 'none, since it answers with a number'}"
            )
    places = tuple(info.labels.index(label) for label in labels)
    return _Contest(TASKS[info.task], info.labels, labels, places)


class _Names:
    """A column of names, kept as codes."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.codes = array("q")

    def add(self, name: str) -> None:
        self.codes.append(self.names.setdefault(name, len(self.names)))


@dataclass(slots=True)
class _Answers:
    """Answers from one subset: the rows that have one, and (n, C) outputs, flat."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    outputs: array[float] = field(default_factory=lambda: array("f"))

    def add(self, row: int, output: Array) -> None:
        self.rows.append(row)
        self.outputs.frombytes(np.asarray(output, np.float32).tobytes())

    def arrays(self) -> tuple[Array, Array]:
        rows = np.asarray(self.rows)
        return rows, np.asarray(self.outputs).reshape(len(rows), -1)


@dataclass(slots=True)
class _Kept:
    """What is kept while the rows go by."""

    targets: array[float] = field(default_factory=lambda: array("d"))
    languages: _Names = field(default_factory=_Names)
    groups: _Names = field(default_factory=_Names)
    whole: _Answers = field(default_factory=_Answers)
    subsets: dict[Subset, _Answers] = field(default_factory=dict)
    worst: list[tuple[float, int, WorstError]] = field(default_factory=list)
    best: list[tuple[float, int, WorstError]] = field(default_factory=list)
    rejected: Rejections = field(default_factory=Rejections)
    unlabelled: int = 0
    set_aside: int = 0


def _labelled(
    records: Iterable[Record | Rejection], contest: _Contest, kept: _Kept
) -> Iterator[Record | Rejection]:
    """The records to answer; the others are counted."""
    for record in records:
        if isinstance(record, Rejection):
            kept.rejected.add(record)
        elif record.target is None:
            kept.unlabelled += 1
        else:
            try:
                competes = contest.code(record.target) is not None
            except RecordError as error:
                kept.rejected.add(error.rejection(record.id, record.source))
                continue
            if competes:
                yield record
            else:
                kept.set_aside += 1


def _keep(answered: Answered, contest: _Contest, kept: _Kept) -> None:
    record, row, labels = answered.record, len(kept.targets), contest.labels
    assert record.target is not None, "_labelled lets no unlabelled record through"
    code = contest.code(record.target)
    assert code is not None, "_labelled sets it aside"
    kept.targets.append(code)
    kept.languages.add(record.lang or _script(record))
    kept.groups.add(record.group)
    judged = {s: contest.task.judge(record.target, a) for s, a in answered.scores.items()}
    narrowed = {subset: contest.narrow(output) for subset, output in judged.items()}
    for subset, output in narrowed.items():
        kept.subsets.setdefault(subset, _Answers()).add(row, output)
    seen = max(narrowed, key=len)
    kept.whole.add(row, narrowed[seen])
    whole = answered.scores[seen]
    decoded = contest.task.decode(whole if isinstance(whole, Said) else narrowed[seen], labels)
    answer, wrong_by = contest.task.read(record.target, code, narrowed[seen], decoded)
    error = WorstError(record, record.target, answer, float(wrong_by), seen)
    if wrong_by > 0:
        _push(kept.worst, (error.wrong_by, -row, error))
    if isinstance(whole, Said):
        _push(kept.best, (-error.wrong_by, -row, error))


def _push(heap: list[tuple[float, int, WorstError]], item: tuple[float, int, WorstError]) -> None:
    heapq.heappush(heap, item)
    if len(heap) > MAX_WORST:
        heapq.heappop(heap)


def _script(record: Record) -> str:
    return language(record.text) if isinstance(record.text, str) else ""


@dataclass(frozen=True, slots=True)
class _Bootstrap:
    """How scores and their intervals are computed; the same seed for every part of the data."""

    contest: _Contest
    n: int
    seed: int

    def scores(self, targets: Array, outputs: Array, groups: Array | None) -> Scores:
        task, labels = self.contest.task, self.contest.labels
        scores = task.score(targets, outputs, labels)
        if self.n > 0:
            rng = np.random.default_rng(self.seed)
            drawn = task.resampled(targets, outputs, labels, groups=groups, rng=rng, n=self.n)
            scores["intervals"] = metrics.percentiles(drawn)
        return scores


def _report(info: Info, kept: _Kept, drawn: _Bootstrap, *, name: str) -> Report:
    targets = np.asarray(kept.targets)
    _, outputs = kept.whole.arrays()
    units = _units(kept.groups)
    by_subset = {}
    for subset in subsets(info.modalities):
        if subset in kept.subsets:
            rows, answers = kept.subsets[subset].arrays()
            groups = _clusters(units, rows)
            by_subset[subset_name(subset)] = drawn.scores(targets[rows], answers, groups)
    everything = np.arange(len(targets))
    clusters = _clusters(units, everything)

    def part(rows: Array) -> Scores:
        return _brief(drawn.scores(targets[rows], outputs[rows], _clusters(units, rows)))

    return Report(
        name=name,
        model=info.name,
        task=info.task,
        labels=drawn.contest.labels,
        scores=drawn.scores(targets, outputs, clusters),
        subsets=by_subset,
        languages={lang: part(rows) for lang, rows in _parts(kept.languages).items()},
        groups={group: part(rows) for group, rows in _largest(kept.groups).items()},
        n_groups=len([group for group in kept.groups.names if group]),
        resampled="rows" if clusters is None else "groups",
        bootstrap=drawn.n,
        rejected=tuple(kept.rejected.first),
        n_rejected=kept.rejected.n,
        unlabelled=kept.unlabelled,
        set_aside=kept.set_aside,
        worst=_sorted(kept.worst),
        best=_sorted(kept.best),
    )


def _sorted(heap: list[tuple[float, int, WorstError]]) -> tuple[WorstError, ...]:
    return tuple(error for *_, error in sorted(heap, key=lambda e: e[:2], reverse=True))


def _units(groups: _Names) -> Array | None:
    """(N,) what the bootstrap draws: the row's group; a row without one is a group of its own."""
    if set(groups.names) <= {""}:
        return None
    codes = np.asarray(groups.codes)
    alone = groups.names.get("", -1)
    return np.where(codes == alone, -1 - np.arange(len(codes)), codes)


def _clusters(units: Array | None, rows: Array) -> Array | None:
    """The groups of these rows; None when they are too few, and rows must be drawn."""
    if units is None or len(np.unique(units[rows])) < MIN_GROUPS:
        return None
    return np.asarray(units[rows])


def _parts(names: _Names) -> dict[str, Array]:
    """Name -> its rows, in the order of the names; rows without a name are left out."""
    codes = np.asarray(names.codes)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names.names)))[:-1]
    parts = dict(zip(names.names, np.split(order, ends), strict=True))
    return {name: parts[name] for name in sorted(parts) if name}


def _largest(names: _Names) -> dict[str, Array]:
    parts = _parts(names)
    picked = set(sorted(parts, key=lambda name: (-len(parts[name]), name))[:MAX_GROUPS])
    return {name: rows for name, rows in parts.items() if name in picked}


def _brief(scores: Scores) -> Scores:
    """Without the tables, which a small part of the data cannot fill."""
    return {k: v for k, v in scores.items() if k == "intervals" or not isinstance(v, dict | list)}
