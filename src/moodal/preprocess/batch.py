"""A record to arrays, arrays to a padded batch: the one road, in training and at run time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from moodal import config
from moodal.errors import RecordError
from moodal.preprocess import audio, augment, features, image
from moodal.preprocess.symbols import Symbols
from moodal.preprocess.vocabulary import Vocabulary
from moodal.types import MODALITIES, Modality, Record, Seq, Subset

Array = NDArray[Any]
Kind = Literal["tokens", "symbols", "picture", "frames", "vectors"]
"""What an encoder is fed: tokens (S, K) int32, symbols (S, 1) int32, picture (H, W, 3) uint8,
frames (S, D) float32, vectors (S, D) float32. The first axis is always the sequence."""
Lexicon = Vocabulary | Symbols

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

    kinds: modality -> kind. widths: modality -> D of precomputed features. windows: modality ->
    positions that its encoder reads at once; what is longer is read in windows that overlap.
    """

    kinds: Mapping[Modality, Kind]
    widths: Mapping[Modality, int]
    text: config.Text
    image: config.Image
    audio: config.Audio
    windows: Mapping[Modality, int] = field(default_factory=dict)


class Stages(Protocol):
    """What is asked of config.Run and of a bundle."""

    @property
    def text(self) -> config.Text: ...
    @property
    def image(self) -> config.Image: ...
    @property
    def audio(self) -> config.Audio: ...


def _same(array: Array, rng: np.random.Generator | None = None) -> Array:
    return array


def settings_of(
    kinds: Mapping[Modality, Kind],
    widths: Mapping[Modality, int],
    stages: Stages,
    *,
    windowed: bool,
) -> Settings:
    """windowed: symbols and frames may be longer than an encoder reads at once."""
    text, audio = stages.text, stages.audio
    sizes: dict[Kind, int] = {
        "symbols": text.max_tokens,
        "frames": max(1, round(1000 * audio.max_seconds / audio.hop_ms)),
    }
    windows = {m: sizes[kind] for m, kind in kinds.items() if windowed and kind in sizes}
    return Settings(kinds, widths, text, stages.image, audio, windows)


def build(settings: Settings, lexicon: Lexicon | None) -> Inputs:
    """The inputs of a model. lexicon: what its text is made of; None where it reads none."""
    return {
        m: _KINDS[settings.kinds[m]](m, settings, lexicon)
        for m in MODALITIES
        if m in settings.kinds
    }


def _tokens(modality: Modality, settings: Settings, lexicon: Lexicon | None) -> Input:
    assert isinstance(lexicon, Vocabulary), "whoever reads words has a vocabulary"
    dropout = settings.text.word_dropout
    return Input(
        kind="tokens",
        decode=lexicon.encode,
        augment=_same,
        finish=_same,
        augment_finished=lambda pieces, rng: augment.tokens(pieces, dropout, rng),
    )


def _symbols(modality: Modality, settings: Settings, lexicon: Lexicon | None) -> Input:
    assert isinstance(lexicon, Symbols), "whoever reads symbols has them"
    dropout = settings.text.word_dropout
    return Input(
        kind="symbols",
        decode=lambda text: _some(lexicon.encode(text))[:, None],
        augment=_same,
        finish=_same,
        augment_finished=lambda pieces, rng: augment.tokens(pieces, dropout, rng),
    )


def _some(codes: Array) -> Array:
    """Raises: RecordError, when the text holds nothing that can be seen."""
    if not len(codes):
        raise RecordError("the text is empty; leave the cell out or give words", field="text")
    return codes


def _picture(modality: Modality, settings: Settings, lexicon: Lexicon | None) -> Input:
    return Input(
        kind="picture",
        decode=lambda source: image.decode(source, settings.image),
        augment=lambda pixels, rng: augment.picture(pixels, settings.image, rng),
        finish=_same,
        augment_finished=_same,
    )


def _frames(modality: Modality, settings: Settings, lexicon: Lexicon | None) -> Input:
    sound = settings.audio
    if modality in settings.windows:  # all of it, not its beginning
        sound = sound.model_copy(update={"max_seconds": sound.limit_seconds})
    return Input(
        kind="frames",
        decode=lambda source: audio.decode(source, sound),
        augment=lambda samples, rng: augment.sound(samples, settings.audio, rng),
        finish=lambda samples: audio.frames(samples, settings.audio),
        augment_finished=lambda frames, rng: augment.mask(frames, settings.audio, rng),
    )


def _vectors(modality: Modality, settings: Settings, lexicon: Lexicon | None) -> Input:
    width = settings.widths.get(modality)
    return Input(
        kind="vectors",
        decode=lambda value: features.array(value, width),
        augment=_same,
        finish=_same,
        augment_finished=_same,
    )


_KINDS: dict[Kind, Callable[[Modality, Settings, Lexicon | None], Input]] = {
    "tokens": _tokens,
    "symbols": _symbols,
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
    kind = kind_of(modality, value)
    if (kind == "vectors") != (given.kind == "vectors"):
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
