"""The Task table, its numpy half: what a task reads, and how its scores become an answer.

A task is a value. Its torch half (the losses) is moodal.training.objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moodal import config, metrics, text_metrics
from moodal.preprocess import batch, codec
from moodal.preprocess.batch import Kind
from moodal.preprocess.symbols import END, Symbols
from moodal.types import MODALITIES, Said, Seq, Subset, TaskName, Token

Floats = NDArray[np.floating[Any]]
Scores = dict[str, Any]
Head = Literal["summary", "frames", "decoder"]

MOST_SHOWN = 1000
"""Targets that a model carries the counts of."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One answer, read off a model's output.

    index: the output position that carries the answer; contributions are shares of it.
    text, tokens: of an answer that is a text.
    """

    index: int
    label: str | None
    value: float | None
    probabilities: dict[str, float]
    confidence: float
    text: str | None = None
    tokens: tuple[Token, ...] = ()


Answered = Any
"""One record's answer: (C,) probabilities, or the value, or what was Said."""


@dataclass(frozen=True, slots=True)
class Task:
    """All that differs between the tasks at run time.

    reads: the modalities it may read.
    head: the kind of answer: one a record, one a frame of sound, or one symbol after the other.
    fit_codec: target -> count of the training rows, and the pieces of the symbols, to the labels.
    encode_target: (target, labels) -> code; raises RecordError. A text has the code 0.
    encode_probabilities: (label -> probability, labels) -> (C,) target; raises RecordError.
    n_outputs: labels -> C, the width of the answer.
    spell: (target, labels, symbols) -> (T,) codes of a text's symbols; of any other target, none.
    targets: ((B,) codes, B spelled texts, C) -> Seq (B, 1, C) or (B, T), what the loss compares
        the answers with.
    activate: ((N, C) raw scores, temperature) -> (N, C) calibrated probabilities, or values.
    fit_temperature: ((N, C) raw scores, (N,) codes) -> temperature.
    start: ((N,) codes, C) -> (bias (C,), scale), the answer of a model that has learned nothing
        and the size of one unit of it.
    prior: ((N,) codes, C) -> (C,) the answer when nothing is seen.
    nothing: (C,) prior -> the answer when nothing is seen, as a record's answer.
    decode: (a record's answer, labels) -> Decoded.
    worth: (a record's answer, index) -> the score that contributions are shares of.
    judge: (target, a record's answer) -> (K,) what `score` needs of it.
    read: (target, code, (K,) judged, Decoded) -> (the answer as text, how far it is off).
    score: ((N,) codes, (N, K) judged, labels) -> metrics.
    resampled: as score, and groups and a generator -> metric -> (R,), of resamples of the rows.
    shown: target -> count, as a model may carry it: no one's texts.
    goal: the metric that training watches; higher_is_better says which way.
    kinds: kinds of input that this task reads as another kind. windowed: what is longer than an
        encoder reads at once is read in windows, not cut.
    defaults: stage -> settings that suit it better than those of config. alone: modality -> the
        same, where it is all that is read.
    """

    name: TaskName
    reads: Subset
    head: Head
    fit_codec: Callable[[Mapping[str, int], tuple[str, ...]], tuple[str, ...]]
    encode_target: Callable[[str, tuple[str, ...]], float]
    encode_probabilities: Callable[[Mapping[str, float], tuple[str, ...]], Floats]
    n_outputs: Callable[[tuple[str, ...]], int]
    spell: Callable[[str, tuple[str, ...], Symbols | None], NDArray[np.int64]]
    targets: Callable[[Floats, Sequence[NDArray[np.int64]], int], Seq[NDArray[Any]]]
    activate: Callable[[Floats, float], Floats]
    fit_temperature: Callable[[Floats, Floats], float]
    start: Callable[[Floats, int], tuple[Floats, float]]
    prior: Callable[[Floats, int], Floats]
    nothing: Callable[[Floats], Answered]
    decode: Callable[[Answered, tuple[str, ...]], Decoded]
    worth: Callable[[Answered, int], float]
    judge: Callable[[str, Answered], Floats]
    read: Callable[[str, float, Floats, Decoded], tuple[str, float]]
    score: Callable[[Floats, Floats, Sequence[str]], Scores]
    resampled: Callable[..., dict[str, Floats]]
    shown: Callable[[Mapping[str, int]], dict[str, int]]
    goal: str
    higher_is_better: bool
    kinds: Mapping[Kind, Kind] = field(default_factory=dict)
    windowed: bool = False
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    alone: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)


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


def _decode_text(said: Said, labels: tuple[str, ...]) -> Decoded:
    return Decoded(0, None, None, {}, said.confidence, said.text, said.tokens)


def _one_answer(targets: Callable[[Floats, int], Floats]) -> Callable[..., Seq[NDArray[Any]]]:
    """Targets of one answer a record: (B, C) as (B, 1, C)."""

    def stack(codes: Floats, spelled: Sequence[Any], n_outputs: int) -> Seq[NDArray[Any]]:
        return Seq(targets(codes, n_outputs)[:, None], np.ones((len(codes), 1), np.bool_))

    return stack


def _no_spelling(target: str, labels: tuple[str, ...], symbols: Symbols | None) -> NDArray[Any]:
    return np.zeros(0, np.int64)


def _spell_symbols(target: str, labels: tuple[str, ...], symbols: Symbols | None) -> NDArray[Any]:
    assert symbols is not None, "whoever says a text has its symbols"
    return np.append(symbols.encode(target), END).astype(np.int64)


def _read_label(target: str, code: float, judged: Floats, decoded: Decoded) -> tuple[str, float]:
    return decoded.label or "", decoded.confidence if decoded.index != int(code) else 0.0


def _read_value(target: str, code: float, judged: Floats, decoded: Decoded) -> tuple[str, float]:
    assert decoded.value is not None, "a number was asked for"
    return f"{decoded.value:.3g}", abs(decoded.value - code)


def _most_common(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:MOST_SHOWN])


PHOTOS = {
    "image_encoder": {"width": 64},
    "train": {"epochs": 60, "patience": 60, "average": 0.99},
}
"""Pictures from scratch learn slowly, their score jumping from epoch to epoch: averaged weights are
steadier, and the epoch that few rows choose is less of a lucky one. Measured: LOG.md."""

_ONE_ANSWER: dict[str, Any] = {
    "head": "summary",
    "spell": _no_spelling,
    "nothing": lambda prior: prior,
    "worth": lambda answer, index: float(answer[index]),
    "judge": lambda target, answer: answer,
    "shown": _most_common,
    "alone": {"image": PHOTOS},
}
"""What tasks share whose answer is a label or a number."""

_A_TEXT: dict[str, Any] = {
    "encode_target": lambda target, labels: 0.0,
    "encode_probabilities": codec.no_shares,
    "n_outputs": len,
    "targets": lambda codes, spelled, n_outputs: batch.pad(spelled),
    "activate": lambda judged, temperature: judged,
    "fit_temperature": lambda judged, codes: 1.0,
    "start": lambda codes, n_outputs: (np.zeros(n_outputs), 1.0),
    "prior": lambda codes, n_outputs: np.zeros(1),
    "nothing": lambda prior: Said("", (), 0.0),
    "decode": _decode_text,
    "worth": lambda answer, index: answer.confidence,
    "shown": lambda counts: {},
    "windowed": True,
}
"""What tasks share whose answer is a text. It is scored by what `judge` counts of each."""


TASKS: dict[str, Task] = {
    "classify": Task(
        **_ONE_ANSWER,
        name="classify",
        reads=MODALITIES,
        fit_codec=codec.fit_labels,
        encode_target=codec.label_code,
        encode_probabilities=codec.label_shares,
        n_outputs=len,
        targets=_one_answer(lambda codes, n: np.eye(n)[codes.astype(np.int64)]),
        activate=softmax,
        fit_temperature=fit_softmax_temperature,
        start=lambda codes, n_outputs: (np.zeros(n_outputs), 1.0),
        prior=_frequencies,
        decode=_decode_label,
        read=_read_label,
        score=metrics.classification,
        resampled=metrics.classification_resampled,
        goal="macro_f1",
        higher_is_better=True,
    ),
    "regress": Task(
        **_ONE_ANSWER,
        name="regress",
        reads=MODALITIES,
        fit_codec=codec.fit_scale,
        encode_target=codec.scale_code,
        encode_probabilities=codec.no_shares,
        n_outputs=lambda labels: 1,
        targets=_one_answer(lambda codes, n: codes[:, None]),
        activate=lambda scores, temperature: scores.astype(np.float64),
        fit_temperature=lambda scores, codes: 1.0,
        start=_spread,
        prior=lambda codes, n_outputs: np.full(n_outputs, codes.mean()),
        decode=_decode_value,
        read=_read_value,
        score=metrics.regression,
        resampled=metrics.regression_resampled,
        goal="mae",
        higher_is_better=False,
    ),
    "summarise": Task(
        **_A_TEXT,
        name="summarise",
        reads=MODALITIES,
        head="decoder",
        fit_codec=codec.fit_symbols,
        spell=_spell_symbols,
        judge=lambda target, said: text_metrics.summary_row(target, said.text, said.confidence),
        read=lambda target, code, judged, decoded: (decoded.text or "", 1.0 - float(judged[2])),
        score=text_metrics.summaries,
        resampled=text_metrics.summary_resampled,
        goal="rougeL",
        higher_is_better=True,
        kinds={"tokens": "symbols"},
        defaults={
            "text": {"max_tokens": 256, "word_dropout": 0.0},
            "text_encoder": {"kind": "cnn", "width": 128, "layers": 2, "dropout": 0.3},
            "fusion": {"width": 128},
            "train": {"epochs": 12, "label_smoothing": 0.1},
        },
    ),
    "transcribe": Task(
        **_A_TEXT,
        name="transcribe",
        reads=("audio",),  # its text would be the answer
        head="frames",
        fit_codec=codec.fit_characters,
        spell=codec.character_codes,
        judge=lambda target, said: text_metrics.transcript_row(target, said.text, said.confidence),
        read=lambda target, code, judged, decoded: (
            decoded.text or "",
            float(judged[:3].sum() / max(1.0, judged[3])),
        ),
        score=text_metrics.transcripts,
        resampled=text_metrics.transcript_resampled,
        goal="wer",
        higher_is_better=False,
        defaults={
            "audio": {"normalise": "bands", "mask_frequency": 0.3},
            "decode": {"beam": 16, "language_order": 5},
            "audio_encoder": {"kind": "tdnn-gru", "width": 128, "layers": 1, "dropout": 0.1},
            "fusion": {"width": 128},
            "head": {"dropout": 0.1},
            "train": {"epochs": 15, "batch_size": 16, "learning_rate": 2e-3},
        },
    ),
}


def configure(
    source: Path | config.Run | None,
    settings: Sequence[str],
    *,
    under: Mapping[str, Any],
    columns: Sequence[str],
) -> config.Run:
    """As config.load, with the task's own defaults where neither source, settings nor `under` (what
    a parent was made with) say anything.

    columns: of the training file; if they hold one modality alone, its defaults as well.
    Raises: ConfigError.
    """
    run = config.load(source, settings, under=under)
    task = TASKS[run.task]
    there = run.modalities or [m for m in MODALITIES if getattr(run.columns, m) in columns]
    alone = task.alone.get(there[0], {}) if len(there) == 1 and not under else {}
    own = config.laid(task.defaults, alone)
    return config.load(source, settings, under=config.laid(own, under))
