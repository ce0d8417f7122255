"""Cleaning: what a manifest holds and what is wrong with it, in constant memory; and the cure.

One pass over the rows, every picture and recording decoded (tally.py); then one over what the
pass left on disk, which this file turns into findings.
"""

from __future__ import annotations

import errno
import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from moodal.config import Columns
from moodal.data.copying import NOWHERE, copy_rows
from moodal.data.duplicates import Match
from moodal.data.findings import MAX_ROWS, CheckReport, Finding, Place, Severity
from moodal.data.manifest import DEFAULT_COLUMNS, read
from moodal.data.rows import name_of
from moodal.data.tally import Counts, Decoder, Named, Tally
from moodal.errors import CapacityError, DataError
from moodal.types import MODALITIES, Modality

SILENCE_DB = -70.0
"""dB of full scale, over the whole recording: the quietest of RAVDESS's is at -60."""
FENCE = 3.0
"""Outliers lie this many interquartile ranges beyond the quartiles. Source: Tukey, Exploratory
Data Analysis, 1977 ("far out")."""
IMBALANCE = 10.0
"""A label this many times as frequent as another asks for class weights."""
RARE = 5
"""A label of fewer rows can hardly be learned, and not be scored."""
CLASSES = 20
"""More different labels than these, all numbers, are values to predict and not classes."""

_OUTLIERS: dict[str, tuple[Modality, str, float]] = {
    # modality, unit, and the narrowest interquartile range believed (of the logarithm for lengths)
    "characters": ("text", "characters", 0.5),
    "seconds": ("audio", "seconds", 0.25),
    "loudness_db": ("audio", "dB", 2.0),
    "brightness": ("image", "of 255", 10.0),
}
_LENGTHS = ("characters", "seconds")


def check(
    path: Path,
    *,
    columns: Columns = DEFAULT_COLUMNS,
    against: Sequence[Path] = (),
    decoders: Mapping[Modality, Decoder] | None = None,
) -> CheckReport:
    """Read every row, decode every file, and report.

    against: manifests whose inputs may not stand in this one (train against dev and test).
    decoders: for image and audio; media without a decoder are counted but not opened.
    Duplicates are looked for among the usable rows. Temporary files take about 300 bytes a row.

    Raises: DataError, when a manifest as a whole cannot be read; CapacityError, when the disk
        for temporary files is full.
    """
    if len(against) > 254:
        raise DataError(f"{len(against)} files to check against; give at most 254 at a time")
    try:
        with TemporaryDirectory(prefix="moodal-check-") as folder:
            tally = Tally(Path(folder), decoders or {})
            for file, manifest in enumerate((path, *against)):
                rows = tqdm(
                    read(manifest, columns),
                    desc=name_of(manifest),
                    unit=" rows",
                    delay=2,
                    disable=None,
                )
                for number, found in enumerate(rows, start=1):
                    tally.add(found, number, file)
            return _report(tally, [path, *against])
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise CapacityError(
            "the disk for temporary files is full; free some space, or point TMPDIR at a larger one"
        ) from error


def fix(path: Path, out: Path, report: CheckReport, *, columns: Columns = DEFAULT_COLUMNS) -> int:
    """Write the manifest to `out` without what cannot be used; the number of rows left out.

    Left out: rejected rows (unreadable, missing or corrupt media, features that are not finite
    numbers), and rows equal to an earlier one in both input and label. Near duplicates, leaks and
    conflicting labels stay: which of them is right, only a person can say.

    report: of this very file, as it stands now. Raises: DataError, CapacityError.
    """
    part_of = np.where(report.keep, 0, NOWHERE).astype(np.uint8)
    copy_rows(path, [out], part_of=part_of, columns=columns)
    return int((~report.keep).sum())


def _report(tally: Tally, files: list[Path]) -> CheckReport:
    usable = np.array(tally.keep, dtype=bool)
    keep = usable.copy()
    for row in tally.exact.identical():
        keep[row - 1] = False
    findings = [
        *_rejected(tally),
        *_labels(tally),
        *_matches(tally, files),
        *_features(tally),
        *_outliers(tally),
    ]
    order: tuple[Severity, ...] = ("error", "warning", "info")
    subsets = tally.subsets.rows
    present = {
        modality: sum(n for subset, n in subsets.items() if modality in subset.split("+"))
        for modality in MODALITIES
    }
    return CheckReport(
        file=str(files[0]),
        rows=len(usable),
        usable=int(usable.sum()),
        labels=tally.labels.to_dict(),
        languages=tally.languages.to_dict(),
        groups={} if set(tally.groups.rows) <= {""} else tally.groups.to_dict(),
        modalities={modality: n for modality, n in present.items() if n},
        subsets=dict(sorted(subsets.items())),
        statistics=_statistics(tally),
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
        rejections=tuple(tally.rejections),
        keep=keep,
    )


# ---- rows, labels and features -----------------------------------------------------------------


def _finding(named: Named, kind: str, severity: Severity, field: str, message: str) -> Finding:
    return Finding(kind, severity, field, named.count, message, tuple(named.places))


def _rejected(tally: Tally) -> Iterator[Finding]:
    remedy = {
        "unreadable_row": "These rows are rejected; mend them, or drop them with --fix.",
        "bad_features": "Features must be finite numbers; these rows are rejected.",
        "missing_media": "These files do not exist; paths are relative to the manifest's folder.",
        "corrupt_media": "These files cannot be decoded; replace them, or drop them with --fix.",
    }
    for (kind, field), named in tally.rejected.items():
        yield _finding(named, kind, "error", field, remedy[kind])
    for file, count in tally.other_rejections.items():
        message = f"Rows of file {file} of those checked against are rejected; check it by itself."
        yield Finding("unreadable_row", "info", "", count, message)


def _labels(tally: Tally) -> Iterator[Finding]:
    if tally.unlabelled.count:
        message = "These rows have no label: fine for predicting, skipped in training."
        yield _finding(tally.unlabelled, "unlabelled", "info", "label", message)
    if _is_numeric(tally.labels):
        return
    counts = {label: n for label, n in tally.labels.rows.items() if label}
    ordered = sorted(counts, key=lambda label: (counts[label], label))
    if len(counts) == 1:
        message = f"All labels are {ordered[0]!r}; there is nothing to tell apart."
        yield Finding("one_label", "error", "label", counts[ordered[0]], message)
    elif counts and counts[ordered[-1]] >= IMBALANCE * counts[ordered[0]]:
        message = (
            f"{ordered[-1]!r} ({counts[ordered[-1]]:,} rows) is {IMBALANCE:.0f} or more times as "
            f"frequent as {ordered[0]!r} ({counts[ordered[0]]:,}); consider train.class_weights."
        )
        yield Finding("imbalance", "warning", "label", counts[ordered[-1]], message)
    rare = [label for label in ordered if counts[label] < RARE]
    if rare and len(counts) > 1:
        message = f"Fewer than {RARE} rows each: {', '.join(map(repr, rare[:MAX_ROWS]))}."
        yield Finding("rare_label", "warning", "label", sum(counts[x] for x in rare), message)
    yield from _unknown_labels(tally)


def _unknown_labels(tally: Tally) -> Iterator[Finding]:
    others = {label: n for label, n in tally.other_labels.rows.items() if label}
    unknown = sorted(set(others) - set(tally.labels.rows))
    if unknown and not tally.labels.overflowed:
        message = (
            f"Only in the files checked against: {', '.join(map(repr, unknown[:MAX_ROWS]))}; "
            "a model cannot learn them from this file."
        )
        yield Finding("unknown_label", "error", "label", sum(others[x] for x in unknown), message)


def _is_numeric(labels: Counts) -> bool:
    if labels.overflowed:
        return True
    try:
        numbers = [float(label) for label in labels.rows if label]
    except ValueError:
        return False
    return len(numbers) > CLASSES


def _features(tally: Tally) -> Iterator[Finding]:
    for modality in MODALITIES:
        forms = {form: named for (m, form), named in tally.widths.items() if m == modality}
        ordered = sorted(forms, key=lambda form: -forms[form].count)
        for form in ordered[1:]:
            message = (
                f"These rows hold {form} where most hold {ordered[0]}; one column must be of one "
                "kind and one width."
            )
            yield _finding(forms[form], "feature_width", "error", modality, message)


# ---- duplicates and leaks ----------------------------------------------------------------------


def _matches(tally: Tally, files: list[Path]) -> Iterator[Finding]:
    flags = {
        "near_duplicate": "nearly equal to an earlier row; keep such rows in one part.",
        "near_leak": "nearly equal to a row of a file checked against: a score on it is too high.",
    }
    fixed: list[tuple[str, Severity, str, Iterable[Match], str]] = [
        (
            "leak",
            "error",
            "",
            tally.exact.leaks(),
            "The same input stands in a file checked "
            "against: a score on it is false. Remove it from one of them.",
        ),
        (
            "conflict",
            "warning",
            "label",
            tally.exact.conflicts(),
            "Equal inputs have different labels; decide which is right.",
        ),
        (
            "duplicate",
            "warning",
            "",
            tally.exact.copies(),
            "Equal to an earlier row in every modality; --fix drops those with an equal label too.",
        ),
        (
            "duplicate_id",
            "warning",
            "id",
            tally.same_ids.copies(),
            "The id stands on an earlier row; reports will not tell them apart.",
        ),
    ]
    for kind, severity, field, matches, message in fixed:
        yield from _found(tally, files, matches, Finding(kind, severity, field, 0, message))
    near = (("text", tally.near_texts), ("image", tally.near_images))
    for field, side in near:
        for kind, message in flags.items() if len(files) > 1 else list(flags.items())[:1]:
            matches = (m for m in side.matches() if (m.file > 0) == (kind == "near_leak"))
            blank = Finding(kind, "warning", field, 0, f"The {field} is {message}")
            yield from _found(tally, files, matches, blank)


def _found(
    tally: Tally, files: list[Path], matches: Iterable[Match], blank: Finding
) -> Iterator[Finding]:
    """The finding with its rows counted and the first of them named; nothing where none is."""
    hit = np.zeros(len(tally.keep), dtype=bool)
    first: list[tuple[int, int, int]] = []  # a heap of the lowest rows, negated
    for match in matches:
        if hit[match.row - 1]:
            continue
        hit[match.row - 1] = True
        entry = (-match.row, match.file, match.other)
        if len(first) < MAX_ROWS:
            heapq.heappush(first, entry)
        else:
            heapq.heappushpop(first, entry)
    if not first:
        return
    places = []
    for negated, file, other in sorted(first, reverse=True):
        where = f"{name_of(files[file])} row {other}" if file else f"row {other}"
        places.append(Place(-negated, tally.ids[-negated - 1], f"like {where}"))
    count = int(hit.sum())
    yield Finding(blank.kind, blank.severity, blank.field, count, blank.message, tuple(places))


# ---- numbers -----------------------------------------------------------------------------------


def _statistics(tally: Tally) -> dict[str, dict[str, float]]:
    found = {name: values.quantiles(0.0, 0.5, 1.0) for name, values in tally.values.items()}
    return {
        name: dict(zip(("min", "median", "max"), (round(v, 4) for v in values), strict=True))
        for name, values in found.items()
        if values
    }


def _outliers(tally: Tally) -> Iterator[Finding]:
    for name, (modality, unit, narrowest) in _OUTLIERS.items():
        quartiles = tally.values[name].quantiles(0.25, 0.75)
        if not quartiles:
            continue
        low, high = _fences(quartiles, narrowest, logarithmic=name in _LENGTHS)
        named = Named()
        for row, value in tally.values[name].outside(low, high):
            named.add(row + 1, tally.ids[row] if named.count < MAX_ROWS else "", f"{value:.4g}")
        if named.count:
            message = f"Far from most rows, which lie within {low:.4g} and {high:.4g} {unit}."
            kind = f"{name.partition('_')[0]}"
            yield _finding(named, "outlier", "warning", modality, f"{kind.capitalize()}: {message}")
    silent = Named()
    for row, value in tally.values["loudness_db"].outside(SILENCE_DB, math.inf):
        silent.add(row + 1, tally.ids[row] if silent.count < MAX_ROWS else "", f"{value:.4g} dB")
    if silent.count:
        message = f"Quieter than {SILENCE_DB:.0f} dB of full scale: there is no speech in these."
        yield _finding(silent, "silent", "warning", "audio", message)


def _fences(quartiles: list[float], narrowest: float, *, logarithmic: bool) -> tuple[float, float]:
    low, high = (math.log(max(q, 1e-6)) if logarithmic else q for q in quartiles)
    reach = FENCE * max(high - low, narrowest)
    low, high = low - reach, high + reach
    return (math.exp(low), math.exp(high)) if logarithmic else (low, high)
