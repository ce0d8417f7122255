"""A record to arrays, arrays to a padded batch: the one road, in training and at run time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moodal import config
from moodal.errors import RecordError
from moodal.preprocess import audio, augment, features, image
from moodal.preprocess.vocabulary import Vocabulary
from moodal.types import MODALITIES, Modality, Record, Seq, Subset

Array = NDArray[Any]
Kind = Literal["tokens", "picture", "frames", "vectors"]
"""What an encoder is fed: tokens (S, K) int32, picture (H, W, 3) uint8, frames (S, D) float32,
vectors (S, D) float32. The first axis is always the sequence."""

ACCEPTED: dict[Modality, tuple[type, ...]] = {
    "text": (str, np.ndarray),
    "image": (Path, bytes, np.ndarray),
    "audio": (Path, bytes, np.ndarray),
}
RAW: dict[Modality, Kind] = {"text": "tokens", "image": "picture", "audio": "frames"}


@dataclass(frozen=True, slots=True)
class Input:
    """How one modality becomes an encoder's input.

    decode: source -> array, the dear half; what it returns may be cached.
    augment: (decoded, generator) -> decoded, in training only.
    finish: decoded -> (S, ...), the cheap half.
    augment_finished: (finished, generator) -> finished, in training only.
    """

    kind: Kind
    decode: Callable[[Any], Array]
    augment: Callable[[Array, np.random.Generator], Array]
    finish: Callable[[Array], Array]
    augment_finished: Callable[[Array, np.random.Generator], Array]


Inputs = Mapping[Modality, Input]


@dataclass(frozen=True, slots=True)
class Settings:
    """All that decides how raw data becomes arrays; a bundle carries it.

    kinds: modality -> kind. widths: modality -> D of precomputed features.
    """

    kinds: Mapping[Modality, Kind]
    widths: Mapping[Modality, int]
    text: config.Text
    image: config.Image
    audio: config.Audio


def _same(array: Array, rng: np.random.Generator | None = None) -> Array:
    return array


def build(settings: Settings, vocabulary: Vocabulary | None) -> Inputs:
    """The inputs of a model. vocabulary is needed for tokens alone."""
    return {
        m: _KINDS[settings.kinds[m]](m, settings, vocabulary)
        for m in MODALITIES
        if m in settings.kinds
    }


def _tokens(modality: Modality, settings: Settings, vocabulary: Vocabulary | None) -> Input:
    assert vocabulary is not None
    dropout = settings.text.word_dropout
    return Input(
        kind="tokens",
        decode=vocabulary.encode,
        augment=_same,
        finish=_same,
        augment_finished=lambda pieces, rng: augment.tokens(pieces, dropout, rng),
    )


def _picture(modality: Modality, settings: Settings, vocabulary: Vocabulary | None) -> Input:
    return Input(
        kind="picture",
        decode=lambda source: image.decode(source, settings.image),
        augment=lambda pixels, rng: augment.picture(pixels, settings.image, rng),
        finish=_same,
        augment_finished=_same,
    )


def _frames(modality: Modality, settings: Settings, vocabulary: Vocabulary | None) -> Input:
    return Input(
        kind="frames",
        decode=lambda source: audio.decode(source, settings.audio),
        augment=lambda samples, rng: augment.sound(samples, settings.audio, rng),
        finish=lambda samples: audio.frames(samples, settings.audio),
        augment_finished=lambda frames, rng: augment.mask(frames, settings.audio, rng),
    )


def _vectors(modality: Modality, settings: Settings, vocabulary: Vocabulary | None) -> Input:
    width = settings.widths.get(modality)
    return Input(
        kind="vectors",
        decode=lambda value: features.array(value, width),
        augment=_same,
        finish=_same,
        augment_finished=_same,
    )


_KINDS: dict[Kind, Callable[[Modality, Settings, Vocabulary | None], Input]] = {
    "tokens": _tokens,
    "picture": _picture,
    "frames": _frames,
    "vectors": _vectors,
}


def kind_of(modality: Modality, value: object) -> Kind:
    """The kind a value of a record asks for: a float array is a precomputed feature."""
    is_feature = isinstance(value, np.ndarray) and value.dtype != np.uint8
    return "vectors" if is_feature else RAW[modality]


def decode(modality: Modality, value: Any, given: Input) -> Array:
    """The decoded array of one modality of a record. Raises: RecordError, with its field."""
    if not isinstance(value, ACCEPTED[modality]):
        names = ", ".join(accepted.__name__ for accepted in ACCEPTED[modality])
        raise RecordError(f"holds a {type(value).__name__}; give one of {names}", field=modality)
    if (kind := kind_of(modality, value)) != given.kind:
        raise RecordError(
            f"holds {kind}, this model reads {given.kind} here; give it what it was trained on",
            field=modality,
        )
    try:
        return given.decode(value)
    except RecordError as error:
        raise RecordError(error.reason, field=modality) from error


def arrays(record: Record, inputs: Inputs) -> dict[Modality, Array]:
    """Every modality of a record that the model reads, ready for its encoder; a text of white space
    says nothing, and is left out.

    Raises: RecordError when one cannot be read or none is there.
    """
    present = [m for m in record.modalities if m in inputs]
    if isinstance(record.text, str) and not record.text.strip() and "text" in present:
        present.remove("text")
    elif not present:
        raise RecordError(
            f"has {', '.join(record.modalities) or 'no modality'}; this model reads "
            f"{', '.join(inputs)}: give it at least one of them"
        )
    return {m: inputs[m].finish(decode(m, getattr(record, m), inputs[m])) for m in present}


def pad(items: Sequence[Array]) -> Seq[Array]:
    """Arrays (S_i, ...) to one batch: x (B, S, ...) zeros on the right, mask (B, S)."""
    n_positions = max(len(item) for item in items)
    x = np.zeros((len(items), n_positions, *items[0].shape[1:]), items[0].dtype)
    mask = np.zeros((len(items), n_positions), np.bool_)
    for row, item in enumerate(items):
        x[row, : len(item)] = item
        mask[row, : len(item)] = True
    return Seq(x, mask)


def subsets(present: Subset) -> list[Subset]:
    """Every non-empty subset, small ones first; the last is `present` itself."""
    n = len(present)
    picked = (tuple(present[i] for i in range(n) if code >> i & 1) for code in range(1, 2**n))
    return sorted(picked, key=len)
