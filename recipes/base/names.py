"""Names that change places, and words for men and women, so that a model learns nothing from them.

What it learns of a name from a few rows is chance: one villain of a series, and everybody of that
name is blamed. So names that are seen seldom take each other's places, and what a text says stays
as it is. The invariance: Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models with
CheckList (ACL 2020), section 2.2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
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


PAIRS = {
    "en": (
        "he she", "his her", "him her", "himself herself", "man woman", "men women", "boy girl",
        "boys girls", "guy lady", "guys ladies", "male female", "mr mrs", "sir madam", "dad mom",
        "father mother", "son daughter", "sons daughters", "brother sister", "brothers sisters",
        "husband wife", "uncle aunt", "nephew niece", "grandfather grandmother",
        "grandpa grandma", "boyfriend girlfriend", "king queen", "prince princess",
        "actor actress", "actors actresses", "waiter waitress", "host hostess", "hero heroine",
    ),
    "zh": (
        "他 她", "男 女", "先生 女士", "爸 妈", "父 母", "儿子 女儿", "哥 姐", "弟 妹", "爷爷 奶奶",
        "丈夫 妻子", "老公 老婆", "叔叔 阿姨", "舅舅 舅妈", "帅哥 美女", "小伙子 小姑娘",
    ),
}  # fmt: skip
"""Words for men and for women."""
_OTHER = {
    lang: dict(pair.split(" ")[::way] for pair in reversed(pairs) for way in (1, -1))
    for lang, pairs in PAIRS.items()
}
"""Word -> the other's; of two that it could be, the first listed."""
_GENDERED = {
    "en": re.compile(rf"\b({'|'.join(_OTHER['en'])})\b", re.IGNORECASE),
    "zh": re.compile(f"(?<!其)({'|'.join(sorted(_OTHER['zh'], key=len, reverse=True))})"),
}


def of_both(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows; behind each that speaks of men or women the same with these exchanged, so that
    neither is learned to be the better.

    Source: Zhao et al., Gender Bias in Coreference Resolution (NAACL 2018): gender swapping.
    """
    for row in rows:
        yield row
        if (lang := row["lang"]) in _GENDERED:
            text = _GENDERED[lang].sub(_exchange(lang), row["text"])
            if text != row["text"]:
                yield row | {"text": text}


def _exchange(lang: str) -> Callable[[re.Match[str]], str]:
    def told(found: re.Match[str]) -> str:
        other = _OTHER[lang][found[0].lower()]
        return other.title() if found[0].istitle() else other

    return told
