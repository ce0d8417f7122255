"""The gate: a new model takes the old one's place if it is better, and nowhere surely worse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from moodal.errors import ModelError
from moodal.evaluation.page import number
from moodal.evaluation.report import aligned
from moodal.evaluation.score import Info, Model
from moodal.monitor.paired import LEAST_ROWS, RESAMPLES, Pairs, Verdict, gather, verdicts
from moodal.tasks import TASKS, Task
from moodal.types import Record, Rejection

TOO_SURE = 0.975
"""A slice is worse where the new model is worse in this share of the resamples: the one side of a
95 % interval."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says. reasons: why not; none = the new model may pass.

    verdicts: of all rows first; none where there was no model to compare with. rejected: the first
    of n_rejected rows that were not compared; lost, gained: how many of these only the old, only
    the new model could answer. warnings: what makes the numbers doubtful.
    """

    metric: str
    higher_is_better: bool
    sure: float
    resamples: int
    verdicts: tuple[Verdict, ...] = ()
    reasons: tuple[str, ...] = ()
    n_rejected: int = 0
    rejected: tuple[Rejection, ...] = ()
    unlabelled: int = 0
    lost: int = 0
    gained: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {"passed": self.passed, **values} | {
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "rejected": [rejection.to_dict() for rejection in self.rejected],
        }


def check(old: Info, new: Info) -> None:
    """Refuse to compare what cannot take the other's place. Raises: ModelError."""
    if old.task != new.task:
        raise ModelError(f"{new.name}: has task={new.task}, and {old.name} task={old.task}")
    if TASKS[old.task].head == "summary" and set(old.labels) != set(new.labels):
        raise ModelError(
            f"{new.name}: answers with {', '.join(new.labels)}, and {old.name} with "
            f"{', '.join(old.labels)}; whoever asks must get the same labels: train on rows of each"
        )
    if missing := [m for m in old.modalities if m not in new.modalities]:
        raise ModelError(
            f"{new.name}: no longer reads {', '.join(missing)}, which {old.name} does; train on "
            "rows that hold it too"
        )


def decide(
    old: Model,
    new: Model,
    records: Iterable[Record | Rejection],
    *,
    sure: float = 0.9,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Decision:
    """Compare two models on labelled records, in one pass.

    sure: the share of the resamples in which the new model must be better on all rows, in (0, 1].
    Both models are scored on the same resamples; groups are drawn whole where rows have them. The
    new model may pass when that share is reached, no slice of LEAST_ROWS rows or more is worse in
    TOO_SURE of the resamples, and it answers every row that the old one does.

    Raises: ModelError when the models cannot be compared; DataError when no row can be.
    Source: Bisani and Ney, Bootstrap estimates for confidence intervals in ASR performance
    evaluation (ICASSP 2004), section 5, the probability of improvement; Koehn, Statistical
    significance tests for machine translation evaluation (EMNLP 2004), section 4; groups as in
    metrics.classification_resampled.
    """
    check(old.info, new.info)
    pairs = gather(old, new, records)
    found = tuple(verdicts(pairs, resamples=resamples, seed=seed))
    return Decision(
        metric=pairs.task.goal,
        higher_is_better=pairs.task.higher_is_better,
        sure=sure,
        resamples=resamples,
        verdicts=found,
        reasons=tuple(_reasons(found, pairs, sure=sure)),
        n_rejected=pairs.rejected.n,
        rejected=tuple(pairs.rejected.first),
        unlabelled=pairs.unlabelled,
        lost=pairs.lost,
        gained=pairs.gained,
    )


def first(task: Task, *, sure: float) -> Decision:
    """Where no model stands yet, any may pass."""
    return Decision(task.goal, task.higher_is_better, sure, resamples=0)


def table(decision: Decision) -> str:
    """For people: a line a slice, then why not, if not."""
    lines = [f"warning: {warning}" for warning in decision.warnings]
    if decision.verdicts:
        head = [decision.metric, "n", "old", "new", "gain", "", "better", "worse"]
        lines += aligned([head, *map(_line, decision.verdicts)])
    return "\n".join([*lines, *(f"refused: {reason}" for reason in decision.reasons)])


def _line(verdict: Verdict) -> list[str]:
    scores = [number(score) for score in (verdict.old, verdict.new)]
    gain = "–" if verdict.gain is None else f"{verdict.gain:+.3f}"
    low, high = verdict.interval or (None, None)
    interval = "" if low is None else f"[{low:+.3f}, {high:+.3f}]"
    shares = [number(share) for share in (verdict.better, verdict.worse)]
    return [verdict.name, f"{verdict.n:,}", *scores, gain, interval, *shares]


def _reasons(found: Sequence[Verdict], pairs: Pairs, *, sure: float) -> Iterator[str]:
    (whole, *others), goal = found, pairs.task.goal
    if whole.better is None:
        yield f"{whole.n} rows could be compared; fewer than {LEAST_ROWS} decide nothing"
    elif whole.better < sure:
        yield (
            f"{goal} {number(whole.old)} -> {number(whole.new)} on all rows: better in "
            f"{whole.better:.1%} of the resamples, {sure:.1%} are asked for"
        )
    for verdict in others:
        if verdict.worse is not None and verdict.worse >= TOO_SURE:
            yield (
                f"{verdict.name}: {goal} {number(verdict.old)} -> {number(verdict.new)} on "
                f"{verdict.n:,} rows, worse in {verdict.worse:.1%} of the resamples"
            )
    if pairs.lost:
        yield f"{pairs.lost:,} rows that the old model answers, the new one cannot read"
