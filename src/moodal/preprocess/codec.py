"""Targets <-> codes: what stands in the label column, and the number a model learns from it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from moodal.errors import DataError, RecordError

MAX_LABELS = 1000


def fit_labels(counts: Mapping[str, int], pieces: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The labels of a training set, sorted; a label's code is its place.

    counts: target -> number of rows.
    Raises: DataError for fewer than two labels, or so many that they look like numbers or ids.
    """
    labels = tuple(sorted(counts))
    if len(labels) < 2:
        seen = f"only {labels[0]!r}" if labels else "none"
        raise DataError(
            f"label: a model needs at least two different labels, the training rows have {seen}; "
            "add rows of another label, or name the right column with --label"
        )
    if len(labels) > MAX_LABELS:
        raise DataError(
            f"label: {len(labels)} different labels, at most {MAX_LABELS} are allowed; if they "
            "are numbers to predict, use --set task=regress"
        )
    return labels


def fit_scale(counts: Mapping[str, int], pieces: tuple[str, ...] = ()) -> tuple[str, ...]:
    """No labels: the target is a number. Raises: DataError when all are equal."""
    if len(counts) < 2:
        raise DataError(
            f"label: a regression needs at least two different numbers, the training rows have "
            f"{sorted(counts)}; add rows, or name the right column with --label"
        )
    return ()


def fit_symbols(counts: Mapping[str, int], pieces: tuple[str, ...]) -> tuple[str, ...]:
    """What a text is made of, as preprocess.symbols found it."""
    return pieces


def fit_characters(counts: Mapping[str, int], pieces: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The characters of the training transcripts, sorted, behind the blank of CTC, "".

    Raises: DataError when there are none.
    """
    characters = sorted({character for target in counts for character in _spaced(target)})
    if not characters:
        raise DataError(
            "label: no training row has a transcript; fill the column, or name it with --target"
        )
    return ("", *characters)


def character_codes(
    target: str, labels: tuple[str, ...], symbols: object = None
) -> NDArray[np.int64]:
    """(T,) places of a transcript's characters; one that training did not see is left out, and
    costs the model an error."""
    place = {character: code for code, character in enumerate(labels)}
    return np.array([place[c] for c in _spaced(target) if c in place], np.int64)


def _spaced(target: str) -> str:
    """Runs of white space as one space."""
    return " ".join(target.split())


def label_code(target: str, labels: tuple[str, ...]) -> int:
    """Raises: RecordError for a label that training did not see."""
    try:
        return labels.index(target)
    except ValueError:
        shown = ", ".join(labels[:12]) + (", ..." if len(labels) > 12 else "")
        raise RecordError(
            f"the label {target!r} is none of the training labels ({shown}); correct the cell, "
            "or add rows with it to the training file",
            field="label",
        ) from None


def label_shares(
    probabilities: Mapping[str, float], labels: tuple[str, ...]
) -> NDArray[np.float64]:
    """(C,) summing to 1; a label that is not named has 0.

    Raises: RecordError for an unknown label, and for numbers that are not probabilities.
    """
    shares = np.zeros(len(labels))
    for label, share in probabilities.items():
        shares[label_code(label, labels)] = share
    if not np.isfinite(shares).all() or shares.min() < 0 or shares.sum() == 0:
        raise RecordError(
            f"holds {dict(probabilities)}; they must be numbers of at least 0, not all 0",
            field="probabilities",
        )
    return np.asarray(shares / shares.sum())


def no_shares(probabilities: Mapping[str, float], labels: tuple[str, ...]) -> NDArray[np.float64]:
    """Raises: RecordError: a number has no probabilities."""
    raise RecordError(
        "is filled, and the answer is a number; empty the column, or predict labels",
        field="probabilities",
    )


def scale_code(target: str, labels: tuple[str, ...]) -> float:
    """Raises: RecordError for what is not a finite number."""
    try:
        value = float(target)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RecordError(f"{target!r} is not a finite number; correct the cell", field="label")
    return value
