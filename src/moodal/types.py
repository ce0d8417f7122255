"""The nouns every stage shares: modality, record, sequence, prediction, rejection. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Modality = Literal["text", "image", "audio"]
MODALITIES: tuple[Modality, ...] = ("text", "image", "audio")

TaskName = Literal["classify", "regress", "summarise", "transcribe"]

Subset = tuple[Modality, ...]
"""Some of the modalities, always in the order of MODALITIES."""

MAX_REJECTED = 100
"""Rejected rows that are named; all are counted."""

Reason = Literal["", "unsure", "unfamiliar", "empty"]

Text = str | NDArray[np.float32]
Media = Path | bytes | NDArray[Any]
Array = TypeVar("Array")


class Seq(NamedTuple, Generic[Array]):
    """A padded batch: of inputs, of encodings and of answers alike.

    Letters, here and everywhere: B batch, S source positions, T output positions, D width,
    C output width, H attention heads.

    x: (B, S, ...) values; padding is to the right.
    mask: (B, S) bool, True = real. A row that is all False is an absent modality.
    """

    x: Array
    mask: Array


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a manifest: any subset of the modalities, and what is known of the answer.

    text: the words, or precomputed features (D,) or (S, D) float32.
    image: a path, the bytes of a file, a picture (H, W, 3) uint8, or features (D,) or (S, D).
    audio: a path, the bytes of a file, or features (D,) or (S, D); samples must be wrapped in
        a file's bytes, since a bare (n,) array could not be told from a feature.
    target: what the label cell holds, as text; None = unlabelled.
    probabilities: label -> how probable it is, where that is known: the votes of several people, a
        teacher's answer. Training learns from these instead of the target.
    source: where the record came from, e.g. "train.csv row 12"; the beginning of every complaint
        about it. Rows are counted from 1, the header not included.
    """

    id: str
    text: Text | None = None
    image: Media | None = None
    audio: Media | None = None
    target: str | None = None
    probabilities: Mapping[str, float] | None = None
    lang: str = ""
    group: str = ""
    split: str = ""
    source: str = "record"

    @property
    def modalities(self) -> Subset:
        return tuple(m for m in MODALITIES if getattr(self, m) is not None)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that could not be used: counted, named, never silent.

    source: as in Record. field: the column at fault, or "" for the row as a whole.
    reason: one sentence that holds the value, what was allowed and what to do.
    """

    id: str
    source: str
    field: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(slots=True)
class Rejections:
    """Rows that could not be used."""

    n: int = 0
    first: list[Rejection] = field(default_factory=list)

    def add(self, rejection: Rejection) -> None:
        self.n += 1
        if len(self.first) < MAX_REJECTED:
            self.first.append(rejection)

    @property
    def reason(self) -> str:
        """To follow their number in a sentence: why the first was; "" where there is none."""
        return "".join(
            f"; the first: {r.source}: {f'{r.field} {r.reason}'.strip()}" for r in self.first[:1]
        )

    def __str__(self) -> str:
        return f"{self.n} rejected{self.reason}"


class Token(NamedTuple):
    """One word of an answer; a Chinese character is a word of its own.

    confidence: in [0, 1]. start, end: seconds from the beginning of the recording; None where the
    answer was not heard.
    """

    text: str
    confidence: float
    start: float | None = None
    end: float | None = None


class Said(NamedTuple):
    """An answer that is a text. confidence: the mean over its tokens, in [0, 1]; 0 of no text."""

    text: str
    tokens: tuple[Token, ...]
    confidence: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer.

    label: the most probable label; None for a regression and of a text.
    value: the predicted value; None for a classification.
    probabilities: label -> calibrated probability in [0, 1], summing to 1.
    confidence: the probability of `label`, in [0, 1]; 0 for a regression; of a text the share of
        its words that is likely to be right.
    modalities: those the answer was made from.
    contributions: modality -> exact Shapley value. They add up to the answer's score (the
        probability of `label`, `value`, or a text's confidence) less the score with nothing seen.
    text: an answer that is a text, "" where there is nothing to say; else None. tokens: its words,
        with their confidence and, of speech, their times.
    words: (word, weight) in reading order, when an explanation was asked for: how much the score
        falls when that word is hidden.
    regions: rows of columns, over the picture as the model sees it, when an explanation was asked
        for: how much the score falls when that part of the picture is hidden; () without one.
    abstain: True when the answer should not be acted on.
    reason: why it abstains: "unsure" (confidence is under the threshold chosen on the validation
        set), "unfamiliar" (most words of the text are unknown to the model: another language),
        "empty" (nothing was said; the answer is the label frequencies); else "".
    """

    id: str
    label: str | None
    value: float | None
    probabilities: Mapping[str, float]
    confidence: float
    modalities: Subset
    contributions: Mapping[Modality, float]
    text: str | None = None
    tokens: tuple[Token, ...] = ()
    words: tuple[tuple[str, float], ...] = field(default=())
    regions: tuple[tuple[float, ...], ...] = ()
    abstain: bool = False
    reason: Reason = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; asdict copies them deeply, which costs as much as the answer itself."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"tokens": [token._asdict() for token in self.tokens]}
