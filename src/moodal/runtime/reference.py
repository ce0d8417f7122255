"""reference.json: what the validation rows measured and were answered, through the exported graphs.
What is served is held against it."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from moodal import bundle
from moodal.errors import ModelError

FORMAT = 2
GRID = 100
"""Steps in which a measure's spread is kept."""
COUNTED = ("label", "reason", "language", "modalities")
"""What is counted of each row, beside its measures."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How a measure lies over n rows: its percentiles, each an observed value, in rising order and
    without repeats; and of each the share of the rows that are not above it."""

    n: int
    values: tuple[float, ...]
    shares: tuple[float, ...]

    def tail(self, value: float) -> float:
        """The two-sided tail share of a value: how much of the rows lies as far out, in (0, 1].

        Between two percentiles it is interpolated; beyond the outermost it is under 1 / n, and the
        further out the less.
        """
        values, shares = self.values, self.shares
        place = bisect_left(values, value)
        if place == len(values):
            return self._beyond(value - values[-1])
        if value == values[place]:
            below = shares[place - 1] if place else 0.0
            return min(1.0, 2 * min(shares[place], 1.0 - below))
        if not place:
            return self._beyond(values[0] - value)
        # Written out, since every measure of every answer comes by here.
        below, lower = shares[place - 1], values[place - 1]
        share = below + (value - lower) * (shares[place] - below) / (values[place] - lower)
        twice, least = 2 * (share if share < 0.5 else 1.0 - share), 1.0 / (1 + self.n)
        return twice if twice > least else least

    def _beyond(self, distance: float) -> float:
        width = self.values[-1] - self.values[0]
        return 1.0 / (1 + self.n) / (1.0 + distance / (width or 1.0))

    def cell(self, value: float) -> int:
        """Which of the len(values) + 2 intervals ( , v0), [v0], (v0, v1], ... (v_last, ) holds
        it."""
        place = bisect_left(self.values, value)
        return place + 1 if place or value >= self.values[0] else 0


@dataclass(frozen=True, slots=True)
class Reference:
    """rows: how many were measured. measures: name -> its spread. counts: of COUNTED, value ->
    rows. A model of an older version has none of these.
    """

    rows: int = 0
    measures: Mapping[str, Spread] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        measures = {
            name: {"n": s.n, "values": s.values, "shares": s.shares}
            for name, s in self.measures.items()
        }
        values = {"format": FORMAT, "rows": self.rows, "measures": measures, "counts": self.counts}
        return json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reference keeps of one row. counted: of COUNTED, the row's value; what it lacks (the
    language of a picture) is left out."""

    measures: Mapping[str, float]
    counted: Mapping[str, str]


class Answer(Protocol):
    """What is asked of a Prediction, and of store.rows.Served."""

    @property
    def label(self) -> str | None: ...
    @property
    def reason(self) -> str: ...


def counted(answer: Answer, modalities: str, language: str | None) -> dict[str, str]:
    """What is counted of one row. modalities: joined by "+". language: None = it has no words."""
    found = {"reason": answer.reason, "modalities": modalities}
    if answer.label is not None:
        found["label"] = answer.label
    return found if language is None else found | {"language": language}


def of(rows: Iterable[Seen]) -> Reference:
    columns: dict[str, list[float]] = {}
    counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
    n_rows = 0
    for row in rows:
        n_rows += 1
        for name, value in row.measures.items():
            columns.setdefault(name, []).append(value)
        for name, held in row.counted.items():
            counts[name][held] += 1
    spreads = {name: spread(column) for name, column in sorted(columns.items())}
    return Reference(n_rows, spreads, {name: dict(c.most_common()) for name, c in counts.items()})


def spread(column: list[float]) -> Spread:
    """Of at least one value."""
    ordered = np.sort(np.array(column, np.float64))
    steps = np.linspace(0.0, 1.0, GRID + 1)
    values = np.unique(np.quantile(ordered, steps, method="inverted_cdf"))
    shares = np.searchsorted(ordered, values, side="right") / len(ordered)
    return Spread(len(ordered), tuple(values.tolist()), tuple(shares.tolist()))


def load(folder: Path, info: bundle.Info) -> Reference:
    """Of a model; that of an older version holds nothing. Raises: ModelError."""
    if bundle.REFERENCE not in info.files:
        return Reference()
    try:
        values = json.loads(bundle.read(folder, info, bundle.REFERENCE))
        return _parse(values) if values.get("format") == FORMAT else Reference()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{folder / bundle.REFERENCE}: is not a reference ({error}); copy the model again"
        ) from error


def _parse(values: Mapping[str, Any]) -> Reference:
    measures = {
        name: Spread(int(s["n"]), tuple(map(float, s["values"])), tuple(map(float, s["shares"])))
        for name, s in values["measures"].items()
    }
    return Reference(int(values["rows"]), measures, values["counts"])
