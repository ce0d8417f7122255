"""What an evaluation finds: the numbers, and the few records worth looking at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moodal import metrics
from moodal.types import Record, Rejection, Subset

Scores = dict[str, Any]

FORMAT = 1
MAX_TEXT = 1000
"""Characters of a worst error's text."""


@dataclass(frozen=True, slots=True)
class WorstError:
    """One answer far from the truth.

    wrong_by: the confidence in the wrong label, in [0, 1]; for a number, how far it is off; for a
    text 1 less its score, or its word error rate.
    """

    record: Record
    target: str
    answer: str
    wrong_by: float
    modalities: Subset

    def to_dict(self) -> dict[str, Any]:
        text = self.record.text
        return {
            "id": self.record.id,
            "source": self.record.source,
            "target": self.target,
            "answer": self.answer,
            "wrong_by": self.wrong_by,
            "modalities": list(self.modalities),
            "text": text[:MAX_TEXT] if isinstance(text, str) else None,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """How good a model is on one set of rows.

    scores: of each row's answer from all that it holds, `intervals` among them.
    subsets: "text+image" -> scores of the rows that hold all of it, with the rest hidden.
    languages, groups: name -> scores; groups are the MAX_GROUPS largest of n_groups.
    resampled: what the bootstrap drew, "rows" or "groups".
    rejected: the first MAX_REJECTED of n_rejected. set_aside: rows of labels that do not compete.
    worst: the worst errors first. best: of answers that are texts, the best first.
    """

    name: str
    model: str
    task: str
    labels: tuple[str, ...]
    scores: Scores
    subsets: dict[str, Scores]
    languages: dict[str, Scores]
    groups: dict[str, Scores]
    n_groups: int
    resampled: str
    bootstrap: int
    rejected: tuple[Rejection, ...]
    n_rejected: int
    unlabelled: int
    set_aside: int
    worst: tuple[WorstError, ...] = ()
    best: tuple[WorstError, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: the main scores at the top level, no records."""
        return {
            "format": FORMAT,
            "name": self.name,
            "model": self.model,
            "task": self.task,
            "labels": list(self.labels),
            **self.scores,
            "subsets": self.subsets,
            "languages": self.languages,
            "groups": self.groups,
            "n_groups": self.n_groups,
            "bootstrap": {
                "resamples": self.bootstrap,
                "level": metrics.LEVEL,
                "drawn": self.resampled,
            },
            "rejected": {
                "n": self.n_rejected,
                "rows": [rejection.to_dict() for rejection in self.rejected],
            },
            "unlabelled": self.unlabelled,
            "set_aside": self.set_aside,
            "worst": [error.to_dict() for error in self.worst],
            "best": [answer.to_dict() for answer in self.best],
        }
