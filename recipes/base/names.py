"""Names that change places, so that a model learns nothing from them.

What it learns of a name from a few rows is chance: one villain of a series, and everybody of that
name is blamed. So names that are seen seldom take each other's places, and what a text says stays
as it is. The invariance: Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models with
CheckList (ACL 2020), section 2.2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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

_WORD = re.compile(r"((?<![\w@#])[A-Za-z]+(?!\w))")
"""Not of a tag, a user's name or a number."""
_BEFORE = ("", *".!?:;\"'([-*#@")
"""What stands before a word that begins a sentence, a quotation or a tag."""


def find(rows: Iterable[Row]) -> Names:
    """What looks like a name of a person or a place in these rows, and is seen seldom."""
    seen: dict[str, Counter[str]] = {"en": Counter(), "zh": Counter()}
    named: dict[str, Counter[str]] = {"en": Counter(), "zh": Counter()}
    for row in rows:
        if row["lang"] in seen and row["group"] not in UNCASED:
            for word, looks in _looks(row["text"], row["lang"]):
                seen[row["lang"]][word] += 1
                named[row["lang"]][word] += looks
    low, high = SEEN
    return {
        lang: frozenset(
            word for word, n in counts.items() if low <= n <= high and named[lang][word] >= PURE * n
        )
        for lang, counts in seen.items()
    }


def _looks(text: str, lang: str) -> Iterator[tuple[str, bool]]:
    """Each word, but English ones that begin a sentence, and whether it looks like a name."""
    if lang == "zh":
        yield from ((word, tag in TAGS and len(word) > 1) for word, tag in rjieba.tag(text, False))
    else:
        for found in _WORD.finditer(text):
            if text[: found.start()].rstrip()[-1:] not in _BEFORE:
                yield found[0].lower(), found[0].istitle() and len(found[0]) > 2


def exchanged(rows: Iterable[Row], names: Names, rng: np.random.Generator) -> Iterator[Row]:
    """The rows with another name, drawn at random, in the place of each; all else as it was."""
    listed = {lang: sorted(known) for lang, known in names.items()}
    for row in rows:
        known, others = names.get(row["lang"], ()), listed.get(row["lang"], [])
        parts = words(row["text"], "zh") if row["lang"] == "zh" else _WORD.split(row["text"])
        text = "".join(
            others[int(rng.integers(len(others)))].title() if part.lower() in known else part
            for part in parts
        )
        yield row | {"text": text}
