"""Scores of answers that are texts: a row is reduced to K numbers, and a data set to its scores.

Texts are scored as they are written: case and punctuation count, runs of white space are one
space. A Chinese character is a word of its own, and a space beside one says nothing. The edit
counts are rapidfuzz's, ROUGE is rouge-score's; both come with the extra `report`.

Letters: N rows, K numbers of a row, M calibration bins, R resamples, n words.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodal import metrics
from moodal.errors import CapacityError
from moodal.metrics import CALIBRATION_BINS, Scores
from moodal.preprocess.text import HAN

Floats = NDArray[np.floating[Any]]

TRANSCRIPT = (
    "substitutions",
    "deletions",
    "insertions",
    "words",
    "character_errors",
    "characters",
    "exact",
    "right",
    "confidence",
)
"""The K numbers of transcript_row: counts, but for exact (0 or 1), right (the share of the
answer's words that stand in the target) and confidence."""

SUMMARY = ("rouge1", "rouge2", "rougeL", "answer_words", "target_words", "confidence")
"""The K numbers of summary_row: F-measures in [0, 1], counts of words, and the confidence."""

_HAN = re.compile(f"([{HAN}])")
_BESIDE_HAN = re.compile(rf"(?<=[{HAN}]) | (?=[{HAN}])")


def words(text: str) -> list[str]:
    """What stands between spaces, as written; Chinese characters one by one."""
    return _HAN.sub(r" \1 ", text).split()


def transcript_row(target: str, answer: str, confidence: float) -> Floats:
    """What one transcript adds to the scores.

    confidence: of the answer, in [0, 1].
    Returns: (K,) float64, named by TRANSCRIPT.
    Raises: CapacityError when rapidfuzz is missing.
    """
    said, wanted = words(answer), words(target)
    heard = matches(wanted, said)
    edits = [edit.tag for edit in _levenshtein().editops(wanted, said)]
    counts = [edits.count(tag) for tag in ("replace", "delete", "insert")]
    letters, wanted_letters = _characters(answer), _characters(target)
    character_errors = _levenshtein().distance(wanted_letters, letters)
    right = sum(heard) / len(heard) if heard else float(not wanted)
    exact = letters == wanted_letters
    return np.array(
        [*counts, len(wanted), character_errors, len(wanted_letters), exact, right, confidence],
        np.float64,
    )


def transcripts(targets: object, rows: Floats, labels: object = ()) -> Scores:
    """Scores of transcripts.

    rows: (N, K) of transcript_row. targets, labels: not looked at; there so that all kinds of
        score are called alike.

    wer, cer: all errors over all words or characters of the targets, so that a long row weighs
        more than a short one; above 1 when too much is answered. None when the targets are empty.
    substitutions, deletions, insertions: the three parts of wer.
    exact: the share of rows without an error.
    calibration_error: between the confidence of a row and the share of its words that are right.
    Source: Morris, Maier and Green, From WER and RIL to MER and WIL (Interspeech 2004), section 2;
    calibration_error as in metrics.classification.

    Raises: DataError when there are no rows.
    """
    metrics.check(rows, rows)
    return _scored(rows, _transcript_scores(_transcript_columns(rows).sum(axis=0)[None]))


def transcript_resampled(
    targets: object,
    rows: Floats,
    labels: object = (),
    *,
    rng: np.random.Generator,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    n: int = 1000,
) -> dict[str, Floats]:
    """Every score of `transcripts`, of resamples of the rows.

    Arguments, answer and sources: as in metrics.classification_resampled. Rows are drawn, not
    words: the words of one recording are not independent.
    Source: Bisani and Ney, Bootstrap estimates for confidence intervals in ASR performance
    evaluation (ICASSP 2004), section 3.
    """
    drawn = _drawn(_transcript_columns(rows), groups, n=n, rng=rng)
    return _transcript_scores(drawn)


def summary_row(target: str, answer: str, confidence: float) -> Floats:
    """What one summary adds to the scores.

    confidence: of the answer, in [0, 1].
    Returns: (K,) float64, named by SUMMARY.
    Raises: CapacityError when rouge-score is missing.
    """
    scores = _rouge().score(target, answer)
    measured = [scores[name].fmeasure for name in SUMMARY[:3]]
    lengths = [len(_summary_words(text)) for text in (answer, target)]
    return np.array([*measured, *lengths, confidence], np.float64)


def summaries(targets: object, rows: Floats, labels: object = ()) -> Scores:
    """Scores of summaries.

    rows: (N, K) of summary_row. targets, labels: not looked at, as in `transcripts`.

    rouge1, rouge2, rougeL: means over the rows of the F-measure of shared words, shared pairs of
        words, and the longest common subsequence. Case and punctuation do not count, and words
        are not stemmed; Chinese is compared by character.
    length_ratio: words of all answers over words of all targets; None when the targets are empty.
    Source: Lin, ROUGE (ACL workshop 2004), sections 2 and 3.1, with beta = 1.

    Raises: DataError when there are no rows.
    """
    metrics.check(rows, rows)
    return _scored(rows, _summary_scores(_summary_columns(rows).sum(axis=0)[None]))


def summary_resampled(
    targets: object,
    rows: Floats,
    labels: object = (),
    *,
    rng: np.random.Generator,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    n: int = 1000,
) -> dict[str, Floats]:
    """Every score of `summaries`, of resamples of the rows.

    Arguments, answer and sources: as in metrics.classification_resampled.
    """
    drawn = _drawn(_summary_columns(rows), groups, n=n, rng=rng)
    return _summary_scores(drawn)


def matches(target: Sequence[str], answer: Sequence[str]) -> list[bool]:
    """For each token of the answer: whether the fewest edits that make it of the target leave it.

    Raises: CapacityError when rapidfuzz is missing.
    Source: Levenshtein 1966; of several alignments with as few edits, rapidfuzz's.
    """
    right = [False] * len(answer)
    for step in _levenshtein().opcodes(target, answer):
        if step.tag == "equal":
            right[step.dest_start : step.dest_end] = [True] * (step.dest_end - step.dest_start)
    return right


def _characters(text: str) -> str:
    return _BESIDE_HAN.sub("", " ".join(text.split()))


def _transcript_columns(rows: Floats) -> Floats:
    """(N, K) -> (N, 1 + K + M): a one, the row, and its gap of confidence in its bin."""
    rows = rows.astype(np.float64)
    right, confidence = rows[:, -2], rows[:, -1]
    gaps = np.zeros((len(rows), CALIBRATION_BINS))
    gaps[np.arange(len(rows)), metrics.calibration_bin(confidence)] = confidence - right
    return np.hstack([np.ones((len(rows), 1)), rows, gaps])


def _transcript_scores(sums: Floats) -> dict[str, Floats]:
    """(R, 1 + K + M) -> score -> (R,), NaN where undefined."""
    n, *counts = sums[:, : 1 + len(TRANSCRIPT)].T
    total = dict(zip(TRANSCRIPT, counts, strict=True))
    parts = {name: metrics.ratio(total[name], total["words"], np.nan) for name in TRANSCRIPT[:3]}
    gaps = sums[:, 1 + len(TRANSCRIPT) :]
    return {
        "wer": np.asarray(sum(parts.values())),
        "cer": metrics.ratio(total["character_errors"], total["characters"], np.nan),
        "exact": total["exact"] / n,
        **parts,
        "confidence": total["confidence"] / n,
        "calibration_error": metrics.calibration_error(gaps, n),
    }


def _summary_columns(rows: Floats) -> Floats:
    """(N, K) -> (N, 1 + K)."""
    return np.hstack([np.ones((len(rows), 1)), rows.astype(np.float64)])


def _summary_scores(sums: Floats) -> dict[str, Floats]:
    """(R, 1 + K) -> score -> (R,), NaN where undefined."""
    n, *columns = sums.T
    total = dict(zip(SUMMARY, columns, strict=True))
    return {
        **{name: total[name] / n for name in SUMMARY[:3]},
        "length_ratio": metrics.ratio(total["answer_words"], total["target_words"], np.nan),
        "confidence": total["confidence"] / n,
    }


def _scored(rows: Floats, scores: Mapping[str, Floats]) -> Scores:
    return {"n": len(rows), **{name: metrics.number(score[0]) for name, score in scores.items()}}


def _drawn(
    columns: Floats,
    groups: Sequence[Any] | NDArray[Any] | None,
    *,
    n: int,
    rng: np.random.Generator,
) -> Floats:
    """(N, columns) -> (R, columns), the sums of each resample. Raises: DataError for no rows."""
    metrics.check(columns, columns)
    return np.stack([w @ columns for w in metrics.resamples(len(columns), groups, n=n, rng=rng)])


def _summary_words(text: str) -> list[str]:
    """Lower-case Latin words and numbers as rouge-score finds them; Chinese one by one."""
    latin = _package("rouge_score.tokenize").tokenize
    return [
        word
        for place, part in enumerate(_HAN.split(text))
        for word in ([part] if place % 2 else latin(part, None))
    ]


class _Tokeniser:
    """What rouge-score asks a tokeniser to be."""

    def tokenize(self, text: str) -> list[str]:
        return _summary_words(text)


@functools.cache
def _rouge() -> Any:
    scorer = _package("rouge_score.rouge_scorer")
    return scorer.RougeScorer(list(SUMMARY[:3]), tokenizer=_Tokeniser())


def _levenshtein() -> Any:
    return _package("rapidfuzz.distance.Levenshtein")


@functools.cache
def _package(name: str) -> Any:
    """A module of the extra `report`; imported where it is needed, since a prediction is not."""
    try:
        return import_module(name)
    except ImportError as error:
        raise CapacityError(
            f"scoring texts needs {name.partition('.')[0]}, which is not installed;"
            " pip install 'moodal[report]'"
        ) from error
