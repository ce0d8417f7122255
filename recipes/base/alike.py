"""Texts that say the same: with another's name in them, or a slip of the pen.

What a model learns of a name from a few rows is chance: one villain of a series, and everybody of
that name is blamed. So names that are seen seldom take each other's places, and what a text says
stays as it is. The invariance: Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models
with CheckList (ACL 2020), section 2.2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import rjieba

from recipes.base.made import words

Row = dict[str, Any]
Names = Mapping[str, frozenset[str]]
"""Of each language; English ones in lower case."""

SEEN = (2, 100)
"""How often, from and to. Of what stands in more rows enough has been learned."""
PURE = 0.8
"""Share of a word's places in which it looks like a name."""
TAGS = ("nr", "nrt", "nrfg", "ns")
"""Persons and places, as jieba tags them."""
UNCASED = ("sst2",)
"""Sets in lower case: no name can be told there."""
SLIPS = 0.03
"""Share of the English words of LONG letters and more that are misspelt."""
LONG = 4

_WORD = re.compile(r"(?<![\w@#])[A-Za-z]+(?!\w)")
"""Not of a tag, a user's name or a number."""
_FIRST = ("", *".!?:;\"'([-*#@")
"""What a word begins a sentence, a quotation or a tag behind."""


def find(rows: Iterable[Row]) -> Names:
    """What looks like a name of a person or a place in these rows, and is seen seldom."""
    seen: dict[str, Counter[str]] = {"en": Counter(), "zh": Counter()}
    looks: dict[str, Counter[str]] = {"en": Counter(), "zh": Counter()}
    for row in rows:
        if row["lang"] in seen and row["group"] not in UNCASED:
            for word, so in _looks(row["text"], row["lang"]):
                seen[row["lang"]][word] += 1
                looks[row["lang"]][word] += so
    low, high = SEEN
    return {
        lang: frozenset(
            w for w, n in counts.items() if low <= n <= high and looks[lang][w] >= PURE * n
        )
        for lang, counts in seen.items()
    }


def _looks(text: str, lang: str) -> Iterator[tuple[str, bool]]:
    """Each word, but English ones that begin a sentence, and whether it looks like a name."""
    if lang == "zh":
        yield from ((word, tag in TAGS and len(word) > 1) for word, tag in rjieba.tag(text, False))
    else:
        for found in _WORD.finditer(text):
            if text[: found.start()].rstrip()[-1:] not in _FIRST:
                yield found[0].lower(), found[0].istitle() and len(found[0]) > 2


def alike(rows: Iterable[Row], names: Names, rng: np.random.Generator) -> Iterator[Row]:
    """The rows with other names, drawn at random, and, if English, some words misspelt; all else
    as it was."""
    drawn = {lang: sorted(listed) for lang, listed in names.items()}
    for row in rows:
        text, lang = row["text"], row["lang"]
        if names.get(lang):
            draw = partial(_draw, drawn[lang], rng)
            text = _exchanged(text, lang, names[lang], draw)
        yield row | {"text": _misspelt(text, rng) if lang == "en" else text}


def _draw(names: list[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def _exchanged(text: str, lang: str, names: frozenset[str], draw: Callable[[], str]) -> str:
    if lang == "zh":
        return "".join(draw() if word in names else word for word in words(text, lang))
    return _WORD.sub(lambda w: draw().title() if w[0].lower() in names else w[0], text)


def _misspelt(text: str, rng: np.random.Generator) -> str:
    """In some words, but at neither end, two letters change places, one is left out or doubled."""

    def slip(found: re.Match[str]) -> str:
        word = found[0]
        if len(word) < LONG or rng.random() >= SLIPS:
            return word
        i = int(rng.integers(1, len(word) - 2))
        here, next_ = word[i], word[i + 1]
        slips = (next_ + here, next_, here + here + next_)
        return word[:i] + slips[int(rng.integers(len(slips)))] + word[i + 2 :]

    return _WORD.sub(slip, text)
