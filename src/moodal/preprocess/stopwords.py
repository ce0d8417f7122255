"""Function words that may be dropped: lists in the package, one word a line."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "zh")


@cache
def stop_words() -> frozenset[str]:
    """English and Chinese function words, lower case; never a negation or an intensifier."""
    folder = files("moodal.preprocess")
    lists = (folder / f"stopwords_{language}.txt" for language in LANGUAGES)
    return frozenset(word for each in lists for word in each.read_text(encoding="utf-8").split())
