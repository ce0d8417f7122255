"""moodal: texts, images and recordings in, a sentiment model that you own out.

The public names, loaded when first used: `import moodal` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moodal.api import evaluate, load, train
    from moodal.config import Run
    from moodal.errors import MoodalError
    from moodal.evaluation.result import Report
    from moodal.runtime.predict import Model
    from moodal.types import Prediction, Record, Rejection

_HOMES = {
    "Model": "moodal.runtime.predict",
    "MoodalError": "moodal.errors",
    "Prediction": "moodal.types",
    "Record": "moodal.types",
    "Rejection": "moodal.types",
    "Report": "moodal.evaluation.result",
    "Run": "moodal.config",
    "evaluate": "moodal.api",
    "load": "moodal.api",
    "train": "moodal.api",
}

__all__ = [
    "Model",
    "MoodalError",
    "Prediction",
    "Record",
    "Rejection",
    "Report",
    "Run",
    "evaluate",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'moodal' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
