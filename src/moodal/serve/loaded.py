"""A model that is loaded, warm and proven: what the service answers with, or swaps for another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal import bundle
from moodal.errors import ModelError
from moodal.preprocess import audio
from moodal.runtime import reference
from moodal.runtime.predict import Model
from moodal.runtime.reference import Reference
from moodal.types import Modality, Record

SIDE, SECONDS, PITCH = 16, 0.5, 440.0
"""Of the picture and the tone that a model is proven with."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """reference: what its training data looked like. version: as bundle.version."""

    model: Model
    reference: Reference
    version: str


def load(folder: Path, transcriber: Path | None, *, limit_seconds: float) -> Loaded:
    """Read every file of a model, and see that it answers.

    limit_seconds: of a recording.
    Raises: ModelError, ConfigError, as runtime.predict.Model; ModelError when it does not answer.
    """
    ears = None if transcriber is None else Model(transcriber, limit_seconds=limit_seconds)
    model = Model(folder, transcriber=ears, limit_seconds=limit_seconds)
    model.warm()
    prove(model)
    return Loaded(model, reference.load(folder, model.info), bundle.version(model.info))


def prove(model: Model) -> None:
    """One record of all that it reads, answered. Raises: ModelError."""
    given = {modality: _example(modality, model.info) for modality in model.info.modalities}
    read = model.read(Record("probe", **given))
    try:
        [outputs] = model.answer([read.record], [read.arrays])
        answer = model.tell(outputs)
    except Exception as error:  # whatever ONNX Runtime finds wrong with a graph
        raise ModelError(f"{model.folder}: does not answer ({error}); keep the old one") from error
    told = [answer.confidence, answer.value or 0.0, *answer.probabilities.values()]
    if not np.isfinite(told).all():
        raise ModelError(f"{model.folder}: answers {told}, which are no numbers; keep the old one")


def _example(modality: Modality, info: bundle.Info) -> Any:
    if info.kinds[modality] == "vectors":
        return np.ones((1, info.widths[modality]), np.float32)
    return _EXAMPLES[modality]()


def _tone() -> bytes:
    time = np.arange(int(SECONDS * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    return audio.wav((0.25 * np.sin(2 * np.pi * PITCH * time)).astype(np.float32))


def _picture() -> NDArray[np.uint8]:
    return np.arange(SIDE * SIDE * 3, dtype=np.uint8).reshape(SIDE, SIDE, 3)


_EXAMPLES = {"text": lambda: "good 好", "image": _picture, "audio": _tone}
