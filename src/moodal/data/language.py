"""The language of a text by its script alone: enough to tell Chinese from English."""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["zh", "en", ""]

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA_OR_HANGUL = re.compile("[\u3040-\u30ff\uac00-\ud7af]")
_LATIN_WORD = re.compile("[A-Za-z\u00c0-\u024f]+")
_HAN_PER_WORD = 1.5
"""Han characters in a Chinese word, on average."""


def language(text: str) -> Language:
    """`zh` where Han characters make up most words, `en` where Latin letters do, else "".

    By script: French counts as `en`. Japanese and Korean (kana, hangul) are "".
    """
    if text.isascii():
        return "en" if _LATIN_WORD.search(text) else ""
    if _KANA_OR_HANGUL.search(text):
        return ""
    n_han = len(_HAN.findall(text))
    n_words = len(_LATIN_WORD.findall(text))
    if n_han and n_han >= n_words * _HAN_PER_WORD:
        return "zh"
    return "en" if n_words else ""
