"""How often the answers are right: as the model's own confidence has it, and as people say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

from moodal import text_metrics
from moodal.metrics import LEVEL
from moodal.store.rows import Judgement, Served
from moodal.store.tables import disputes

Interval = tuple[float, float]
Kind = Literal["all", "language", "modalities"]

Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True, slots=True)
class Quality:
    """Of some of the answers. Shares of answers that are right; of texts, of their words.

    estimated: without anyone's word, the mean of calibrated confidence. feedback: of the n_feedback
    answers that people judged; expected: what confidence says of just these, which are not a fair
    sample: who is content says nothing. None where nothing tells, as of a regression's confidence.
    Intervals hold 95 %.
    """

    kind: Kind
    name: str
    n: int
    estimated: float | None
    estimated_interval: Interval | None
    n_feedback: int
    feedback: float | None
    feedback_interval: Interval | None
    expected: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Sums:
    """confidence, variance: of each answer's confidence c, c and c (1 - c), added up."""

    n: int = 0
    confidence: float = 0.0
    variance: float = 0.0
    n_judged: int = 0
    right: float = 0.0
    expected: float = 0.0


class Tally:
    """What is kept of answers and judgements: sums, over all and by slice, however many they are.

    sure: whether confidence is a chance of being right, as it is of labels and texts.
    """

    def __init__(self, *, sure: bool) -> None:
        self._sure = sure
        self._sums: dict[tuple[Kind, str], _Sums] = {("all", ""): _Sums()}

    def add(self, row: Served) -> None:
        """An answer; one to nothing is passed over."""
        for sums in self._of(row):
            sums.n += 1
            sums.confidence += row.confidence
            sums.variance += row.confidence * (1 - row.confidence)

    def judge(self, row: Served, judgement: Judgement) -> None:
        """What somebody said of an answer; an answer that was not kept is passed over."""
        share = right(row, judgement)
        if share is None:
            return
        for sums in self._of(row):
            sums.n_judged += 1
            sums.right += share
            sums.expected += row.confidence

    def qualities(self) -> list[Quality]:
        """All answers first, then by language and by modalities."""
        keys = sorted(self._sums, key=lambda key: (key[0] != "all", key))
        return [self._quality(*key) for key in keys]

    def _of(self, row: Served) -> Iterator[_Sums]:
        if not row.modalities:
            return
        keys: list[tuple[Kind, str]] = [("all", ""), ("modalities", row.modalities)]
        if row.language:
            keys.append(("language", row.language))
        for key in keys:
            yield self._sums.setdefault(key, _Sums())

    def _quality(self, kind: Kind, name: str) -> Quality:
        sums = self._sums[kind, name]
        told, judged = sums.n > 0 and self._sure, sums.n_judged > 0
        return Quality(
            kind=kind,
            name=name,
            n=sums.n,
            estimated=sums.confidence / sums.n if told else None,
            estimated_interval=likely(sums.confidence, sums.variance, sums.n) if told else None,
            n_feedback=sums.n_judged,
            feedback=sums.right / sums.n_judged if judged else None,
            feedback_interval=wilson(sums.right, sums.n_judged) if judged else None,
            expected=sums.expected / sums.n_judged if judged and self._sure else None,
        )


def right(row: Served, judgement: Judgement) -> float | None:
    """1 where the answer was judged to be right, else 0; of a text, the share of its words that
    stand in the right one too; None of a text that was not kept.

    Source: Lin, ROUGE (2004), section 2, the precision of ROUGE-1.
    """
    if row.label is None and row.value is None:
        if row.said is None:
            return None
        said, true = (Counter(text_metrics.words(text)) for text in (row.said, judgement.label))
        return (said & true).total() / said.total() if said else float(not true)
    return float(not disputes(judgement.label, label=row.label, value=row.value, said=row.said))


def likely(confidence: float, variance: float, n: int) -> Interval:
    """Of n answers, the share that is right, when each is right with the chance that it says.

    confidence, variance: their chances c and c (1 - c), added up: mean and variance of how many
    are right, which is nearly normal. Source of the mean as an estimate: Guillory et al.,
    Predicting with Confidence on Unseen Distributions (ICCV 2021), average confidence; of the
    variance: Feller, An Introduction to Probability Theory (1968), chapter IX, on trials with
    variable probabilities.
    """
    half = Z * math.sqrt(max(variance, 0.0))
    return max(0.0, (confidence - half) / n), min(1.0, (confidence + half) / n)


def wilson(right: float, n: int) -> Interval:
    """The interval of a share, right of n.

    Source: Wilson, Probable inference, the law of succession, and statistical inference (JASA
    1927), as Brown, Cai, DasGupta, Interval estimation for a binomial proportion (2001) have it.
    """
    share, square = right / n, Z * Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
