"""What a caller gives to predict, as records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moodal.data.manifest import features_of
from moodal.errors import RecordError
from moodal.types import MODALITIES, Modality, Record, Rejection


def as_record(given: Record | Rejection | Mapping[str, Any], row: int) -> Record | Rejection:
    """row: where it stands among those that were given, from 0."""
    if isinstance(given, Record | Rejection):
        return given
    id, source = str(given.get("id", row)), f"record {row}"
    known = ("id", *MODALITIES)
    if extra := sorted(str(key) for key in given if key not in known):
        reason = f"has the keys {', '.join(extra)}; a record may have {', '.join(known)}"
        return Rejection(id, source, extra[0], reason)
    try:
        values = {m: _value(given.get(m), m) for m in MODALITIES}
    except RecordError as error:
        return error.rejection(id, source)
    return Record(id, **values, source=source)


def _value(value: Any, modality: Modality) -> Any:
    """What a caller gives to what a Record holds; None and NaN, as tables have it, are absent, and
    so is a path of "".

    Raises: RecordError.
    """
    match value:
        case None | np.ndarray():
            return value
        case str():
            if modality == "text":
                return value
            return Path(value) if value.strip() else None
        case float() if math.isnan(value):
            return None
        case list() | tuple():
            return features_of(value, modality)
        case Path() | bytes() if modality != "text":
            return value
    wanted = "a string" if modality == "text" else "a path, the bytes of a file"
    raise RecordError(
        f"holds {type(value).__name__}; give {wanted} or an array of features", field=modality
    )
