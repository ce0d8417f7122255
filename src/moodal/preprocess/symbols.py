"""Text <-> symbol numbers of an answer in words: Han characters, and parts of all other words.

A symbol is a piece of text: one Chinese character, or a run of other characters that stands often,
with the space before it (" good", "ing", " ("). No symbol holds two Han characters, or one beside
anything else. What no symbol covers is UNKNOWN, one character each, and keeps its surface.

Source: Sennrich et al., Neural Machine Translation of Rare Words with Subword Units (2016), section
3.2, as sentencepiece trains it.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from moodal.errors import ConfigError, DataError, ModelError
from moodal.preprocess.text import HAN, MAX_CHARACTERS

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

PADDING, UNKNOWN, START, END = range(4)

FIRST = 4
"""The number of the first piece."""

LEARNED = 20_000_000
"""Characters read while fitting; what comes after them is passed over."""

COMMON = 2
"""How often a character must stand in the texts to be a symbol, so that some are left UNKNOWN and
what to do with those can be learned."""

SHARE = 7 / 8
"""Of the room, what characters may take; the rest is for runs of them."""

_SPACE = "\u2581"
"""How sentencepiece writes a space."""
_APART = "\x02"
"""Stands where no piece may reach across; a control character, so no clean text holds it."""
_DELETED = re.compile(
    "[\u00ad\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff0-\uffff\ud800-\udfff]"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HAN = re.compile(f"([{HAN}])")
_META = ("", "\ufffd", "", "")


@dataclass(frozen=True)
class Symbols:
    """What is known of a language's writing. The text of number n is pieces[n].

    model: the bytes of a sentencepiece model. pieces: PADDING, START and END are "", UNKNOWN is
    the replacement character.

    Letters: S positions, C = len(pieces).
    """

    model: bytes
    pieces: tuple[str, ...]

    def __len__(self) -> int:
        """C: rows of an embedding."""
        return len(self.pieces)

    def split(self, text: str) -> list[str]:
        """The S surfaces, in reading order; joined they are `clean(text)`. [] of an empty text."""
        written: list[str] = self._processor.encode(clean(text), out_type=str)
        surfaces: list[str] = []
        for piece in written:
            surface = piece.replace(_SPACE, " ")
            if surface in self._numbers:
                surfaces.append(surface)
            else:
                surfaces += surface  # unknown neighbours come as one piece
        if surfaces:
            surfaces[0] = surfaces[0].removeprefix(" ")  # the processor puts a space first
        return surfaces if not surfaces or surfaces[0] else surfaces[1:]

    def encode(self, text: str) -> NDArray[np.int32]:
        """(S,) numbers in [1, C), one a surface of `split`."""
        surfaces = self.split(text)
        if surfaces and f" {surfaces[0]}" in self._numbers:
            surfaces[0] = f" {surfaces[0]}"
        return np.array([self._numbers.get(s, UNKNOWN) for s in surfaces], np.int32)

    def join(self, surfaces: Iterable[str]) -> str:
        """The text that these surfaces, or pieces, are: `join(split(text)) == clean(text)`."""
        return "".join(surfaces).strip()

    def save(self, path: Path) -> None:
        """What `parse` reads."""
        path.write_bytes(self.model)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.pieces) if number >= FIRST}

    @cached_property
    def _processor(self) -> SentencePieceProcessor:
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_proto=self.model)


def clean(text: str) -> str:
    """Without control and invisible characters; a run of spaces is one space, none at the ends."""
    text = _CONTROL.sub(" ", _DELETED.sub("", text[:MAX_CHARACTERS]))
    return " ".join(text.replace(_SPACE, "_").split())


def fit(texts: Iterable[str], *, size: int) -> Symbols:
    """The characters that stand most often, then runs of them, up to `size` symbols; a small
    corpus gives fewer. The same texts give the same bytes.

    Raises: DataError, when no text holds anything; ConfigError, when size is under 16.
    """
    if size < 2 * (FIRST + 4):
        raise ConfigError(f"{size} symbols: four stand for no text; allow 16 or more, e.g. 4000")
    known = _read(texts)
    if not known:
        raise DataError("there is no text to learn symbols from; give texts that are not empty")
    rare = _rare(known, int(SHARE * (size - FIRST)))
    return parse(_train([_apart(text, rare) for text in known], size))


def parse(content: bytes, *, name: str = "symbols") -> Symbols:
    """The bytes of what `save` wrote. Raises: ModelError, when they are not such a model."""
    from sentencepiece import SentencePieceProcessor

    try:
        processor = SentencePieceProcessor(model_proto=content)
    except RuntimeError as error:
        raise ModelError(f"{name}: cannot be read as a sentencepiece model: {error}") from error
    # Asked for its numbers, a model without a piece would write to stderr.
    known = processor.get_piece_size() if content else 0
    if known <= FIRST or processor.unk_id() != UNKNOWN or processor.eos_id() != END:
        raise ModelError(
            f"{name}: padding, unknown, start and end must be symbols 0 to 3 of more; "
            "take the model's own copy"
        )
    pieces = [processor.id_to_piece(n).replace(_SPACE, " ") for n in range(FIRST, known)]
    return Symbols(content, (*_META, *pieces))


def _read(texts: Iterable[str]) -> list[str]:
    """Clean texts that hold something, LEARNED characters at most."""
    known: list[str] = []
    room = LEARNED
    for text in texts:
        if written := clean(text):
            known.append(written)
            room -= len(written)
        if room <= 0:
            break
    return known


def _rare(texts: list[str], room: int) -> set[str]:
    """The characters that will not be symbols; equal counts are ordered by the character."""
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    counts[" "] = max(counts.values())  # always one: the processor puts one before each text
    ranked = sorted(counts, key=lambda c: (-counts[c], c))
    common = [c for c in ranked if counts[c] >= COMMON]
    kept = common if len(common) > 1 else ranked
    return counts.keys() - set(kept[:room])


def _apart(text: str, rare: set[str]) -> str:
    """Han characters between _APART, and _APART in place of the rare ones."""
    written = "".join(_APART if c in rare else c for c in text)
    return _HAN.sub(rf"{_APART}\1{_APART}", written)


def _train(texts: list[str], size: int) -> bytes:
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        hard_vocab_limit=False,  # a small corpus has fewer runs
        character_coverage=1.0,  # the rare are out already, to the character
        pretokenization_delimiter=_APART,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        max_sentence_length=16 * MAX_CHARACTERS,  # bytes; longer ones would be passed over
        pad_id=PADDING,
        unk_id=UNKNOWN,
        bos_id=START,
        eos_id=END,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
