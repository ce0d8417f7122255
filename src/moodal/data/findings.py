"""What a check found: counts, and findings that name rows; as a table or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moodal.types import Rejection

Severity = Literal["error", "warning", "info"]
MAX_ROWS = 20
"""Rows named in one finding; `count` says how many there are."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A row: its number from 1 (the header not included), its id, and what is special about it."""

    row: int
    id: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at.

    kind: unreadable_row, missing_media, corrupt_media, bad_features, feature_width, duplicate_id,
        duplicate, near_duplicate, leak, near_leak, conflict, unlabelled, one_label, imbalance,
        rare_label, unknown_label, outlier, silent.
    severity: error = the rows cannot be used, or a score would be false; warning = look at it;
        info = good to know.
    field: the modality or column, "" = the row as a whole.
    count: rows concerned; rows: the first of them, at most MAX_ROWS.
    """

    kind: str
    severity: Severity
    field: str
    count: int
    message: str
    rows: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a manifest holds, and what is wrong with it.

    rows: all of them; usable: those that are not rejected.
    labels, languages, groups: value -> rows ("" = none); empty where there are too many to list.
    modalities: modality -> rows that hold it; subsets: e.g. "text+image" -> rows with just these.
    statistics: name -> {"min", "median", "max"}; the name holds the unit.
    rejections: the first rejected rows, at most MAX_ROWS.
    keep: (rows,) False = rejected, or the copy of an earlier row with the same label; what `fix`
        leaves out. Not part of `to_dict`.
    """

    file: str
    rows: int
    usable: int
    labels: Mapping[str, int]
    languages: Mapping[str, int]
    groups: Mapping[str, int]
    modalities: Mapping[str, int]
    subsets: Mapping[str, int]
    statistics: Mapping[str, Mapping[str, float]]
    findings: tuple[Finding, ...]
    rejections: tuple[Rejection, ...]
    keep: NDArray[np.bool_] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """All but `keep`, as plain values for JSON."""
        names = [name for name in self.__slots__ if name not in ("keep", "findings", "rejections")]
        plain = {name: getattr(self, name) for name in names}
        return plain | {
            "findings": [asdict(finding) for finding in self.findings],
            "rejections": [rejection.to_dict() for rejection in self.rejections],
        }

    def table(self) -> str:
        """The report as lines of text for people."""
        lines = [f"{self.file}: {self.rows:,} rows, {self.usable:,} usable", ""]
        for title in ("modalities", "subsets", "labels", "languages", "groups"):
            lines += _counts(title, getattr(self, title))
        for name, values in self.statistics.items():
            numbers = ", ".join(f"{key} {value:,.4g}" for key, value in values.items())
            lines.append(f"{name:<16}{numbers}")
        lines.append("")
        for finding in self.findings:
            lines += _finding(finding)
        if not self.findings:
            lines.append("nothing to complain of")
        return "\n".join(lines)


def _counts(title: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{name or '(none)'} {count:,}" for name, count in ordered[:12])
    more = f", and {len(ordered) - 12} more" if len(ordered) > 12 else ""
    return [f"{title:<16}{shown}{more}"]


def _finding(finding: Finding) -> list[str]:
    where = f" in {finding.field}" if finding.field else ""
    kind = finding.kind.replace("_", " ")
    lines = [f"{finding.severity:<8} {kind}{where}: {finding.count:,}. {finding.message}"]
    for place in finding.rows[:_SHOWN]:
        note = f": {place.note}" if place.note else ""
        lines.append(f"           row {place.row} (id {place.id}){note}")
    if finding.count > _SHOWN and finding.rows:
        lines.append(f"           and {finding.count - min(_SHOWN, len(finding.rows)):,} more")
    return lines
