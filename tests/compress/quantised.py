"""A model large enough to have layers worth it, trained once, and the same in integers."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import tiny

from moodal import api
from moodal.compress import quantise

SETTINGS = (*tiny.SETTINGS, "text_encoder.width=48", "image_encoder.width=32", "fusion.width=32")


@functools.cache
def home() -> Path:
    """`data`, `whole` (float32), `small` (weights) and `computed` (arithmetic too). Read only."""
    folder = Path(tempfile.mkdtemp(prefix="moodal-quantised-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = tiny.rows(folder / "data")
    settings = (*SETTINGS, f"cache={folder / 'cache'}")
    api.train(data / "train.csv", valid=data / "dev.csv", out=folder / "whole", settings=settings)
    quantise.quantise(folder / "whole", folder / "small")
    return folder


def rows() -> quantise.Rows:
    return quantise.Rows(home() / "data" / "train.csv", home() / "data" / "dev.csv")


@functools.cache
def computed() -> dict[str, Any]:
    """What was said while `computed` was made: integers wherever they can be."""
    return quantise.compute(
        home() / "whole", home() / "computed", rows(), max_drop=1.0, mode="int8"
    )
