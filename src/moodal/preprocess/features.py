"""Precomputed features: a cell's list of numbers -> a sequence of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal.errors import RecordError


def array(value: NDArray[Any], width: int | None = None, *, field: str = "") -> NDArray[np.float32]:
    """One vector (D,) becomes (1, D); a sequence (S, D) stays.

    width: the D of the training data; None = any.
    field: the modality, for the message.
    Returns: (S, D) float32, finite, S and D at least 1.
    Raises: RecordError when it is empty, not of numbers, not finite, or not `width` wide.
    """
    if value.dtype.kind not in "biuf":
        raise RecordError(f"features are of {value.dtype}, not of numbers", field=field)
    if value.ndim not in (1, 2):
        raise RecordError(
            f"features have {value.ndim} axes; give (D,) or (S, D) numbers", field=field
        )
    if value.size == 0:
        raise RecordError(
            f"features of shape {value.shape} hold no values; leave the cell empty", field=field
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite: refused below
        values = np.atleast_2d(value).astype(np.float32, copy=False)
    if width is not None and values.shape[1] != width:
        raise RecordError(
            f"has {values.shape[1]} values, the training data has {width}", field=field
        )
    bad = ~np.isfinite(values)
    if bad.any():
        step, place = np.argwhere(bad)[0]
        raise RecordError(
            f"value {place + 1} of vector {step + 1} is {value.reshape(values.shape)[step, place]};"
            " every value must be a finite number",
            field=field,
        )
    return values
