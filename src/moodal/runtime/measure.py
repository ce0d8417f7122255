"""What is measured of each record: numbers that tell whether the world still looks like the data
that the model was checked on. No input can be had back from them.

Letters: S source positions, D width, P projections.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moodal.preprocess import batch
from moodal.preprocess.audio import SAMPLE_RATE
from moodal.preprocess.batch import Input, Inputs, Kind
from moodal.runtime.reference import Reference
from moodal.types import Modality, Record

Array = NDArray[Any]
Measures = dict[str, float]

PROJECTIONS = 4
"""P of each modality. Measured: docs/monitoring.md."""
LUMA = np.array([299, 587, 114], np.float32) / 1000
"""Of red, green and blue. Source: ITU-R BT.601-7, section 2.5.1."""
SILENCE = 1e-10
"""Mean square under which a recording is as quiet as 24 bits can tell: -100 dB."""


class Encoded(Protocol):
    """What is asked of predict.Outputs."""

    @property
    def known(self) -> float: ...
    @property
    def pooled(self) -> Mapping[Modality, Array]: ...


class Answer(Protocol):
    """What is asked of a Prediction, and of tasks.Decoded."""

    @property
    def value(self) -> float | None: ...
    @property
    def confidence(self) -> float: ...


def read(record: Record, inputs: Inputs) -> tuple[dict[Modality, Array], Measures]:
    """As batch.arrays, and what can be measured only before the arrays are made: frames have
    forgotten how loud their recording was.

    Raises: RecordError, as batch.arrays.
    """
    noted: Measures = {}
    present = [m for m in record.modalities if m in inputs]
    listening = {m: _listening(m, inputs[m], noted) for m in present}
    return batch.arrays(record, {**inputs, **listening}), noted


def note(modality: Modality, kind: Kind, decoded: Array) -> Measures:
    """What is measured of one decoded input, "modality.what" -> number.

    text.length: positions (words, or symbols). image.brightness, image.contrast: mean and standard
    deviation of the luma, in [0, 1]. audio.seconds; audio.loudness_db: 0 = a square wave as loud as
    can be. Of features, the length alone.
    Source of contrast: the RMS contrast of Peli, Contrast in complex images (JOSA A 1990).
    """
    return {f"{modality}.{name}": value for name, value in _NOTES[kind](decoded).items()}


def measures(noted: Measures, encoded: Encoded, answer: Answer) -> Measures:
    """All that is measured of a record: what `read` noted; text.known, the share of known words;
    the projections of each modality; the answer's confidence or, of a regression, its value."""
    found = dict(noted)
    for modality, mean in encoded.pooled.items():
        along = _directions(modality, len(mean)) @ mean
        found |= zip(_names(modality), along.tolist(), strict=True)
    if "text" in encoded.pooled:
        found["text.known"] = float(encoded.known)
    if answer.value is not None:
        found["value"] = answer.value
    else:
        found["confidence"] = answer.confidence
    return found


def surprise(measured: Mapping[str, float], reference: Reference) -> float:
    """How far outside the reference a record lies, in [0, 1]: (1 - p) ** k, with p the smallest of
    its k measures' two-sided tail shares. Of ordinary records, were the measures independent, it is
    spread evenly; near 1 something lies outside all that was seen.

    Source: Tippett, The Methods of Statistics (1931), the smallest of k tests; Sidak, Rectangular
    confidence regions (JASA 1967).
    """
    spreads = reference.measures
    shares = [spreads[name].tail(value) for name, value in measured.items() if name in spreads]
    return float((1.0 - min(shares)) ** len(shares)) if shares else 0.0


def _listening(modality: Modality, given: Input, noted: Measures) -> Input:
    def finish(decoded: Array) -> Array:
        noted.update(note(modality, given.kind, decoded))
        return given.finish(decoded)

    return replace(given, finish=finish)


def _length(decoded: Array) -> Measures:
    return {"length": float(len(decoded))}


def _light(pixels: Array) -> Measures:
    """(H, W, 3) uint8."""
    luma = pixels.reshape(-1, 3) @ LUMA
    return {"brightness": float(luma.mean()) / 255, "contrast": float(luma.std()) / 255}


def _sound(samples: Array) -> Measures:
    """(n_samples,) float32 in [-1, 1]."""
    power = float(np.dot(samples, samples)) / len(samples)
    loudness = 10 * float(np.log10(max(power, SILENCE)))
    return {"loudness_db": loudness, "seconds": len(samples) / SAMPLE_RATE}


_NOTES: dict[Kind, Callable[[Array], Measures]] = {
    "tokens": _length,
    "symbols": _length,
    "vectors": _length,
    "picture": _light,
    "frames": _sound,
}


@functools.cache
def _names(modality: Modality) -> tuple[str, ...]:
    return tuple(f"{modality}.projection_{place}" for place in range(1, PROJECTIONS + 1))


@functools.cache
def _directions(modality: Modality, width: int) -> NDArray[np.float32]:
    """(P, D): unit vectors of equal parts, each + or - as the bits of a hash have it, so that they
    are the same wherever they are made.

    Source: Achlioptas, Database-friendly random projections (JCSS 2003), theorem 1.1, equation 1.
    """
    digests = [hashlib.shake_128(n.encode()).digest(-(-width // 8)) for n in _names(modality)]
    bits = np.unpackbits(np.frombuffer(b"".join(digests), np.uint8)).reshape(PROJECTIONS, -1)
    return np.asarray((2.0 * bits[:, :width] - 1.0) / np.sqrt(width), np.float32)
