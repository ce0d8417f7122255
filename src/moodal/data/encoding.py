"""Before the rows: is the beginning of a file UTF-8, and if not, what does it look like?"""

from __future__ import annotations

import codecs

from moodal.errors import DataError

_BOMS = {b"\xff\xfe\x00\x00": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def check_encoding(name: str, head: bytes) -> None:
    """Accept a file whose header and most of whose first rows are UTF-8 (a BOM is welcome).

    name: of the file. head: its first bytes; they may end in the middle of a character.
    Raises: DataError, naming the encoding it looks like and how to convert the file.
    """
    found = _other_encoding(head)
    if found:
        raise DataError(
            f"{name}: is not UTF-8; it looks like {found}. Convert it with "
            f"`iconv -f {found} -t UTF-8 {name} > utf8-{name}`, or save it as UTF-8"
        )


def _other_encoding(head: bytes) -> str:
    """The encoding it looks like, or "" when it is UTF-8 but for a bad row here and there."""
    for bom, name in _BOMS.items():
        if head.startswith(bom):
            return name
    if head.count(0) > len(head) // 5:  # ASCII in UTF-16 is half zeros; Chinese holds commas
        return "UTF-16LE" if head[1::2].count(0) >= head[::2].count(0) else "UTF-16BE"
    whole = head.splitlines()
    marked = [line for line in whole if not line.isascii()]
    bad = [line for line in marked if not _decodes(line, "utf-8")]
    few = len(bad) < 3 and len(bad) * 2 < len(whole) - 1
    if not bad or (bad[0] is not whole[0] and (few or len(bad) * 2 <= len(marked))):
        return ""
    return _legacy(b"\n".join(bad))


def _legacy(text: bytes) -> str:
    """GB18030 (of which GBK is a part) where most characters are common Hanzi, else Windows-1252.

    Source: GB 2312-1980: a common Hanzi is a pair of bytes in B0-F7, A1-FE.
    """
    if not _decodes(text, "gb18030"):
        return "WINDOWS-1252"
    decoded = text.decode("gb18030", "ignore")
    pairs = [c.encode("gb18030") for c in decoded if not c.isascii()]
    common = sum(0xB0 <= pair[0] <= 0xF7 and pair[-1] >= 0xA1 for pair in pairs)
    return "GB18030" if common * 2 > len(pairs) else "WINDOWS-1252"


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        # Not final: the head may end within a character.
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return True
