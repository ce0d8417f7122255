"""Raw text -> clean text -> tokens, Chinese and English mixed.

Both steps are linear in the length of the text: no pattern can backtrack more than a fixed number
of characters, and a text is cut to MAX_CHARACTERS before any work.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

from moodal.config import Text
from moodal.errors import RecordError
from moodal.preprocess.stopwords import stop_words

MAX_CHARACTERS = 20_000
"""Characters read of a text; the rest is cut. 20,000 Chinese characters are a short story."""

MAX_WORD = 40
"""Letters of one token; a longer run is split. The longest English words stay under it."""

HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Inside of a character class. Source: Unicode Standard 15.1, table 18-1."""

_PICTURE = (
    "[\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2934\u2935"
    "\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_DRESS = "[\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
EMOJI = (
    "(?:[\U0001f1e6-\U0001f1ff]{2}|[0-9#*]\ufe0f?\u20e3"
    f"|{_PICTURE}{_DRESS}{{0,8}}(?:\u200d{_PICTURE}{_DRESS}{{0,8}}){{0,8}})"
)
"""One emoji with its skin tone, joined parts and flag letters. Source: Unicode TR 51, 1.4.9."""

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|\w{2,31});")
_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_EMOJI = re.compile(f"({EMOJI})")
_DELETED = re.compile(
    "[\u00ad\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_URL = re.compile(r"(?:https?://|www\.)[!-;=?-~]+", re.IGNORECASE)
_USER = re.compile(r"(?<![A-Za-z0-9_.])@[\w-]{1,30}")
_REPEATED = re.compile("([^\\d\\s][\ufe0f\U0001f3fb-\U0001f3ff]?)\\1{3,}")
_PLAIN = str.maketrans("‘’ʼ`´“”„", "'''''\"\"\"", "\ufe0e")  # and no "draw it flat"

# The parts of a token. They spell out both cases, since IGNORECASE is three times slower.
_LETTER = rf"[^\W\d_{HAN}]"
_ALONE = r"(?![^\W_])"
_NOT = rf"[Nn]'[Tt]{_ALONE}"
_WORD = rf"""
    {_LETTER}{{1,{MAX_WORD}}}(?={_NOT}) | {_NOT} | [Cc][Aa][Nn](?=[Nn][Oo][Tt]{_ALONE})
    | {_LETTER}(?:{_LETTER}|\d){{0,{MAX_WORD - 1}}}
    | '(?:[SsMmDd]|[Rr][Ee]|[Ll][Ll]|[Vv][Ee]){_ALONE}
"""
_NUMBER = rf"""
    \d{{1,{MAX_WORD}}}(?:[.,:/]\d{{1,{MAX_WORD}}}){{0,8}}
    (?:%|(?:[Ss][Tt]|[Nn][Dd]|[Rr][Dd]|[Tt][Hh]){_ALONE})?
"""
_FACE = rf"""
    (?<![A-Za-z0-9])(?:[Dd]:(?![\w/\\])|(?:[TtQq]_+[TtQq]|[Oo0]_+[Oo0]|[Oo]\.[Oo]){_ALONE})
"""
_EMOTICON = rf"""
    [<>]?[:;=][-'^]?(?:\)+|\]+|(?<![{HAN}]:)\(+|[|*\\]|/(?!/))
    | (?<![A-Za-z0-9])[<>]?[:;=][-'^]?[DdPpOoCcSsXx3]{_ALONE}
    | \([-'^]?[:;=](?!\w) | </?3(?!\d)
    | \^[-_.o]?\^ | >[_.]{{1,3}}< | (?<![-=;])[-=;][_.]{{1,3}}[-=;](?![-=;])
"""
_BRACKET = rf"\[(?:{_LETTER}{{1,12}}|[{HAN}]{{1,8}})\]"
_MARKS = rf"[!?]{{1,{MAX_WORD}}}|\.+|,+|~+|-+|\*+|=+|。+|、+|·+"
_TOKEN = re.compile(
    rf"""\ ?(
      [{HAN}]+ | {_FACE} | {_WORD} | \#[^\W_]\w{{0,{MAX_WORD - 1}}}
    | {EMOJI} | {_EMOTICON} | <(?:url|user)> | {_BRACKET} | {_NUMBER} | {_MARKS} | \S
    )""",
    re.VERBOSE,
)
_HASHTAG = re.compile(rf"#([^\W_]\w{{0,{MAX_WORD - 1}}})")
_CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_HAN = re.compile(f"[{HAN}]")


def normalise(text: str) -> str:
    """One spelling for what means the same; emoji and emoticons stay as they are.

    Entities become characters, full-width half-width (NFKC), addresses `<url>`, names `<user>`;
    a character repeated more than three times is written three times, space runs one space.
    """
    text = text[:MAX_CHARACTERS]
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    if "<" in text:
        text = _BREAK.sub(" ", text)
    if not text.isascii():
        text = _compose(text)
    if not text.isprintable():
        text = _CONTROL.sub(" ", _DELETED.sub("", text))
    text = " ".join(text.split())
    text = _URL.sub("<url>", text)
    if "@" in text:
        text = _USER.sub("<user>", text)
    return _REPEATED.sub(r"\1\1\1", text)


def tokenise(text: str, settings: Text) -> list[str]:
    """At least one token and at most `settings.max_tokens`, in reading order.

    A text of stop words alone keeps them.

    Raises: RecordError, when the text is empty or holds only spaces.
    """
    tokens = _scan(normalise(text), settings)
    if not tokens:
        raise RecordError("the text is empty; leave the cell out or give words", field="text")
    if settings.stop_words:
        tokens = [token for token in tokens if token.lower() not in stop_words()] or tokens
    return tokens[: settings.max_tokens]


def _scan(clean: str, settings: Text) -> list[str]:
    if "#" in clean:
        clean = _HASHTAG.sub(_add_words, clean)
    if settings.lowercase:
        clean = clean.lower()
    tokens: list[str] = _TOKEN.findall(clean)
    if clean.isascii():
        return tokens
    whole: list[str] = []
    for token in tokens:
        if _HAN.match(token):
            whole += _segment(token, settings)
        elif plain := token.replace("\ufe0f", ""):  # a heart is a heart, drawn red or black
            whole.append(plain)
    return whole


def _segment(han: str, settings: Text) -> Iterable[str]:
    if settings.segment == "characters":
        return han
    import rjieba  # 0.1 s and 20 MB that a text without Chinese does not pay

    words: list[str] = rjieba.cut(han)
    return words


def _add_words(hashtag: re.Match[str]) -> str:
    """#LoveIt -> #LoveIt Love It; a hashtag of one word stays alone."""
    body = hashtag[1]
    words = _CAMEL.findall(body) if body.isascii() else [body]
    if words == [body] and body.isascii():
        return hashtag[0]
    return " ".join((hashtag[0], *words, ""))


def _compose(text: str) -> str:
    """NFKC and straight quotes around the emoji, which NFKC would take apart."""
    parts = _EMOJI.split(text.translate(_PLAIN))
    parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
    return "".join(parts)
