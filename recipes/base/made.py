"""Texts that nobody wrote, for a teacher to answer: so a small model learns what the teacher knows
of words that few rows show.

A text is a stretch of a row, two stretches of one set joined, or a whole row; words are dropped,
and others put in their place. Source: Tang et al., Distilling Task-Specific Knowledge from BERT
into Simple Neural Networks (2019), section 3.3, whose masks and n-grams these are; words by
frequency in place of words of the same part of speech.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rjieba
from numpy.typing import NDArray

Row = dict[str, Any]

GROUP = "made-"
"""And the name of the set whose rows they are made of."""
N = {"en": 500_000, "zh": 150_000}
N_PAIRS = 60_000
"""Of the words of pairs."""
SHARE = {"sst2": 0.5, "chnsenticorp": 0.3, "smp2020-ewect": 0.3}
"""Of a language's texts: sets of few rows, most of whose words are rare. The other sets share what
is left by the root of their size."""
LONGEST = 40
"""Words."""
JOINED, CUT = 0.2, 0.3
"""Shares of two stretches and of one; the rest are whole rows."""
DROPPED, REPLACED = 0.15, (0.05, 0.35)
"""Shares of the words: at most, and from and to; drawn for each text."""


@dataclass(frozen=True, slots=True)
class Words:
    """Words that may stand anywhere, drawn in proportion to the root of their number."""

    words: tuple[str, ...]
    until: NDArray[np.float64]

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], lang: str) -> Words:
        """Of letters of the language alone, seen twice or more."""
        counts = Counter(word for text in texts for word in text)
        letters = re.compile("[a-z]+" if lang == "en" else "[\u4e00-\u9fff]+")
        kept = sorted(word for word, n in counts.items() if n > 1 and letters.fullmatch(word))
        return cls(tuple(kept), np.cumsum(np.sqrt([counts[word] for word in kept])))

    def draw(self, rng: np.random.Generator) -> str:
        return self.words[int(np.searchsorted(self.until, rng.random() * self.until[-1]))]


def texts(rows: Sequence[Row], n: int, rng: np.random.Generator) -> Iterator[Row]:
    """n rows of new texts, less those of signs alone, not told what they say.

    rows: of one language, of any sets.
    """
    lang = rows[0]["lang"]
    split = {row["id"]: words(row["text"], lang) for row in rows}
    known = Words.of([[word.lower() for word in text] for text in split.values()], lang)
    sets: dict[str, list[list[str]]] = {}
    for row in rows:
        sets.setdefault(row["group"], []).append(split[row["id"]])
    for name, many in _shares(sets, n).items():
        for i in range(many):
            text = joint(lang).join(_changed(_stretches(sets[name], rng), known, rng))
            if not any(letter.isalnum() for letter in text):
                continue  # a teacher would be sure of signs alone
            group = f"{GROUP}{name}"
            row = {"id": f"{group}/{i}", "text": text, "image": "", "audio": ""}
            yield row | {"label": "", "lang": lang, "group": group}


def words(text: str, lang: str) -> list[str]:
    """What joint(lang) joins again."""
    return text.split() if lang == "en" else [str(word) for word in rjieba.cut(text)]


def joint(lang: str) -> str:
    return " " if lang == "en" else ""


def _shares(sets: dict[str, list[list[str]]], n: int) -> dict[str, int]:
    """How many of each set."""
    roots = {name: len(texts) ** 0.5 for name, texts in sets.items() if name not in SHARE}
    given = {name: round(n * SHARE[name]) for name in sets if name in SHARE}
    whole, left = sum(roots.values()), n - sum(given.values())
    return {name: round(left * root / whole) for name, root in roots.items()} | given


def _stretches(texts: list[list[str]], rng: np.random.Generator) -> list[str]:
    kind = rng.random()
    words = texts[int(rng.integers(len(texts)))]
    if kind < JOINED:
        other = texts[int(rng.integers(len(texts)))]
        words = _stretch(words, 0.3, 0.8, rng) + _stretch(other, 0.3, 0.8, rng)
    elif kind < JOINED + CUT:
        words = _stretch(words, 0.25, 0.9, rng)
    return words[:LONGEST]


def _stretch(words: list[str], low: float, high: float, rng: np.random.Generator) -> list[str]:
    """A share of the words, side by side, at least two if there are."""
    many = max(min(2, len(words)), round(len(words) * rng.uniform(low, high)))
    start = int(rng.integers(len(words) - many + 1))
    return words[start : start + many]


def _changed(words: list[str], known: Words, rng: np.random.Generator) -> list[str]:
    dropped, replaced = rng.random() * DROPPED, rng.uniform(*REPLACED)
    left = [word for word in words if rng.random() >= dropped] or words[:1]
    return [
        known.draw(rng) if word.isalpha() and rng.random() < replaced else word for word in left
    ]
