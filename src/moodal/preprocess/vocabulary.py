"""Tokens -> numbers: each position holds its word, the word runs that end there, its n-grams.

A piece is text: a word as it is ("good"), a run of words joined by spaces ("not good"), an n-gram
of characters behind a space (" goo"), which no word can begin with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodal.config import Text
from moodal.errors import DataError, ModelError, RecordError
from moodal.preprocess.text import HAN, tokenise

PADDING, UNKNOWN = 0, 1
FIRST = 2
"""The number of the first piece."""

SHORTEST = 3
"""Characters of a Latin word's shortest n-gram, `<` and `>` counted. Source: Bojanowski 2017."""

COUNTED = 2_000_000
"""Pieces counted at once while fitting, about 250 MB; past it the rarest are forgotten."""

REMEMBERED = 50_000
"""Words whose numbers are kept at hand."""

_HAN = re.compile(f"[{HAN}]")
_Word = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Vocabulary:
    """The pieces that are known. The number of pieces[i] is i + FIRST.

    Letters: S positions, K = settings.pieces.
    """

    pieces: tuple[str, ...]
    settings: Text
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)
    _words: dict[str, _Word] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {piece: number for number, piece in enumerate(self.pieces, FIRST)}
        object.__setattr__(self, "_numbers", numbers)
        object.__setattr__(self, "_words", {})

    def __len__(self) -> int:
        """Rows of an embedding: the pieces, the padding and the unknown."""
        return len(self.pieces) + FIRST

    def number(self, piece: str) -> int | None:
        """The number of a piece; None when it is not known."""
        return self._numbers.get(piece)

    def words(self, text: str) -> list[str]:
        """The S tokens that `encode` numbers. Raises: RecordError, as `encode`."""
        return tokenise(text, self.settings)

    def encode(self, text: str) -> NDArray[np.int32]:
        """(S, K) numbers, the word first, then runs of words, then n-grams, the longest first.

        Rows end with PADDING; a position without a known piece holds UNKNOWN.

        Raises: RecordError, when the text is empty.
        """
        words = tokenise(text, self.settings)
        width = self.settings.pieces
        flat: list[int] = []
        known: list[int] = []
        for word, runs in zip(words, self._known_runs(words), strict=True):
            own, grams = self._words.get(word) or self._look_up(word)
            row = (own + runs + grams)[:width] or (UNKNOWN,)
            flat += row
            known.append(len(row))
        rows = np.full((len(words), width), PADDING, np.int32)
        rows[np.arange(width) < np.array(known)[:, None]] = flat
        return rows

    def known_share(self, pieces: NDArray[np.int32]) -> float:
        """Of the words of a text, those that are pieces themselves, in [0, 1]; punctuation and
        emoji do not count, and a text of these alone has 1.

        pieces: (S, K), as `encode` gives them.
        """
        first = pieces[:, 0].tolist()
        own = [self.pieces[n - FIRST] if n >= FIRST else " " for n in first]
        unknown = sum(" " in piece for piece in own)  # a run of words, an n-gram, or nothing
        known = sum(" " not in piece and any(map(str.isalpha, piece)) for piece in own)
        return known / (known + unknown) if known + unknown else 1.0

    def _known_runs(self, words: list[str]) -> list[tuple[int, ...]]:
        """For each position the runs of two words or more that end there, the longest first."""
        found: list[tuple[int, ...]] = [()] * len(words)
        for size in range(self.settings.word_ngrams, 1, -1):
            for last, run in enumerate(_runs(words, size), size - 1):
                if number := self._numbers.get(run):
                    found[last] += (number,)
        return found

    def _look_up(self, word: str) -> _Word:
        number = self._numbers.get
        own = tuple(n for n in (number(word),) if n)
        grams = tuple(n for gram in _grams(word, self.settings.char_ngrams) if (n := number(gram)))
        if len(self._words) >= REMEMBERED:
            self._words.clear()
        self._words[word] = own, grams
        return own, grams

    def save(self, path: Path) -> None:
        """UTF-8, one piece a line, the first is number FIRST."""
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{piece}\n" for piece in self.pieces)


def fit(texts: Iterable[str], settings: Text, *, known: Sequence[str] = ()) -> Vocabulary:
    """The pieces found in the most texts; equal counts are ordered by the piece itself.

    known: pieces that keep their places at the front; new ones follow while there is room.
    Texts that hold nothing are passed over. Memory is bounded: see COUNTED.

    Raises: DataError, when no piece is left.
    """
    counts: Counter[str] = Counter()
    least, remembered = 1, dict[str, list[str]]()
    for text in texts:
        with suppress(RecordError):
            counts.update(_pieces(tokenise(text, settings), settings, remembered))
        while len(counts) > COUNTED:
            least += 1
            counts = Counter({piece: n for piece, n in counts.items() if n >= least})
    for piece in known:
        counts.pop(piece, None)
    kept = [item for item in counts.items() if item[1] >= settings.min_count]
    if not kept and not known:
        raise DataError(
            f"no word or n-gram stands in {settings.min_count} texts; "
            "give more texts or lower text.min_count"
        )
    kept.sort(key=lambda item: (-item[1], item[0]))
    room = max(0, settings.vocabulary - len(known))
    return Vocabulary((*known, *(piece for piece, _ in kept[:room])), settings)


def load(path: Path, settings: Text) -> Vocabulary:
    """What `save` wrote. Raises: ModelError, when the file is not such a list."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read as a vocabulary: {error}") from error
    return parse(content, settings, name=str(path))


def parse(content: bytes, settings: Text, *, name: str = "vocabulary") -> Vocabulary:
    """The bytes of what `save` wrote. Raises: ModelError, when they are not such a list."""
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ModelError(f"{name}: cannot be read as a vocabulary: {error}") from error
    if lines.pop() or not lines or len(set(lines)) != len(lines) or "" in lines:
        raise ModelError(f"{name}: not one different piece a line; take the model's own copy")
    return Vocabulary(tuple(lines), settings)


def _pieces(words: list[str], settings: Text, known: dict[str, list[str]]) -> set[str]:
    """Every piece of one text, once. known: word -> its n-grams, filled here."""
    pieces = set(words)
    for size in range(2, settings.word_ngrams + 1):
        pieces.update(_runs(words, size))
    for word in set(words):
        grams = known.get(word)
        if grams is None:
            if len(known) >= REMEMBERED:
                known.clear()
            known[word] = grams = list(_grams(word, settings.char_ngrams))
        pieces.update(grams)
    return pieces


def _runs(words: list[str], size: int) -> Iterator[str]:
    """Every run of `size` words, in reading order."""
    return map(" ".join, zip(*(words[first:] for first in range(size)), strict=False))


def _grams(word: str, longest: int) -> Iterator[str]:
    """The n-grams of a word's characters, the longest first, behind a space each."""
    if _HAN.search(word):
        shortest, body = 1, word
    elif any(map(str.isalpha, word)):
        shortest, body = SHORTEST, f"<{word.removeprefix('#')}>"
    else:
        shortest, body = 1, word
    for size in range(min(longest, len(body)), shortest - 1, -1):
        for start in range(len(body) - size + 1):
            yield f" {body[start : start + size]}"
