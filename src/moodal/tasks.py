"""The Task table, its numpy half: what a task reads, and how its scores become an answer.

A task is a value. Its torch half (the losses) is moodal.training.objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal import metrics
from moodal.preprocess import codec
from moodal.types import MODALITIES, Subset, TaskName

Floats = NDArray[np.floating[Any]]
Scores = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One answer, read off a model's output.

    index: the output position that carries the answer; contributions are shares of it.
    """

    index: int
    label: str | None
    value: float | None
    probabilities: dict[str, float]
    confidence: float


@dataclass(frozen=True, slots=True)
class Task:
    """All that differs between the tasks at run time.

    reads: the modalities it may read.
    fit_codec: target -> count of the training rows, to the labels.
    encode_target: (target, labels) -> code; raises RecordError.
    encode_probabilities: (label -> probability, labels) -> (C,) target; raises RecordError.
    n_outputs: labels -> C, the width of the answer.
    targets: ((B,) codes, C) -> (B, C), what the loss compares the answers with.
    activate: ((N, C) raw scores, temperature) -> (N, C) calibrated probabilities, or values.
    fit_temperature: ((N, C) raw scores, (N,) codes) -> temperature.
    start: ((N,) codes, C) -> (bias (C,), scale), the answer of a model that has learned nothing
        and the size of one unit of it.
    prior: ((N,) codes, C) -> (C,) the answer when nothing is seen.
    decode: ((C,) activated, labels) -> Decoded.
    score: ((N,) codes, (N, C) activated, labels) -> metrics.
    intervals: as score, and groups and a generator -> metric -> [low, high].
    goal: the metric that training watches; higher_is_better says which way.
    """

    name: TaskName
    reads: Subset
    fit_codec: Callable[[Mapping[str, int]], tuple[str, ...]]
    encode_target: Callable[[str, tuple[str, ...]], float]
    encode_probabilities: Callable[[Mapping[str, float], tuple[str, ...]], Floats]
    n_outputs: Callable[[tuple[str, ...]], int]
    targets: Callable[[Floats, int], Floats]
    activate: Callable[[Floats, float], Floats]
    fit_temperature: Callable[[Floats, Floats], float]
    start: Callable[[Floats, int], tuple[Floats, float]]
    prior: Callable[[Floats, int], Floats]
    decode: Callable[[Floats, tuple[str, ...]], Decoded]
    score: Callable[[Floats, Floats, Sequence[str]], Scores]
    intervals: Callable[..., dict[str, list[float]]]
    goal: str
    higher_is_better: bool


PRIOR_SPREAD = 0.3
"""Of log T: 30 % more or less than 1 is usual; 1,000 rows overrule it, 40 do not."""


def softmax(scores: Floats, temperature: float = 1.0) -> Floats:
    """(N, C) -> (N, C), rows summing to 1."""
    scaled = scores.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def fit_softmax_temperature(scores: Floats, codes: Floats) -> float:
    """The most probable temperature in [0.05, 20], by golden section in log T.

    log T is taken to be near 0 beforehand (a normal prior of spread PRIOR_SPREAD): a few rows that
    happen to be all right must not make a model certain of everything.
    Source of the likelihood: Guo et al., On Calibration of Modern Neural Networks (ICML 2017),
    section 4.2.
    """
    rows, picked = np.arange(len(codes)), codes.astype(np.int64)

    def loss(log_temperature: float) -> float:
        likely = softmax(scores, float(np.exp(log_temperature)))[rows, picked]
        prior = 0.5 * (log_temperature / PRIOR_SPREAD) ** 2
        return float(prior - np.log(np.maximum(likely, 1e-12)).sum())

    low, high = float(np.log(0.05)), float(np.log(20.0))
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2.0))


def _decode_label(output: Floats, labels: tuple[str, ...]) -> Decoded:
    index = int(output.argmax())
    probabilities = {label: float(p) for label, p in zip(labels, output, strict=True)}
    return Decoded(index, labels[index], None, probabilities, float(output[index]))


def _decode_value(output: Floats, labels: tuple[str, ...]) -> Decoded:
    return Decoded(0, None, float(output[0]), {}, 0.0)


def _frequencies(codes: Floats, n_outputs: int) -> Floats:
    counts = np.bincount(codes.astype(np.int64), minlength=n_outputs)
    return np.asarray(counts / counts.sum())


def _spread(codes: Floats, n_outputs: int) -> tuple[Floats, float]:
    return np.full(n_outputs, codes.mean()), float(codes.std())


TASKS: dict[str, Task] = {
    "classify": Task(
        name="classify",
        reads=MODALITIES,
        fit_codec=codec.fit_labels,
        encode_target=codec.label_code,
        encode_probabilities=codec.label_shares,
        n_outputs=len,
        targets=lambda codes, n_outputs: np.eye(n_outputs)[codes.astype(np.int64)],
        activate=softmax,
        fit_temperature=fit_softmax_temperature,
        start=lambda codes, n_outputs: (np.zeros(n_outputs), 1.0),
        prior=_frequencies,
        decode=_decode_label,
        score=metrics.classification,
        intervals=metrics.classification_intervals,
        goal="macro_f1",
        higher_is_better=True,
    ),
    "regress": Task(
        name="regress",
        reads=MODALITIES,
        fit_codec=codec.fit_scale,
        encode_target=codec.scale_code,
        encode_probabilities=codec.no_shares,
        n_outputs=lambda labels: 1,
        targets=lambda codes, n_outputs: codes[:, None],
        activate=lambda scores, temperature: scores.astype(np.float64),
        fit_temperature=lambda scores, codes: 1.0,
        start=_spread,
        prior=lambda codes, n_outputs: np.full(n_outputs, codes.mean()),
        decode=_decode_value,
        score=metrics.regression,
        intervals=metrics.regression_intervals,
        goal="mae",
        higher_is_better=False,
    ),
}
"""summarise and transcribe come next; each is one more row here and one in train.objectives."""
