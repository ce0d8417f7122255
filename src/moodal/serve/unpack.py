"""Bodies that were packed with gzip or deflate."""

from __future__ import annotations

import zlib

from moodal.serve.errors import RefusalError

EXPANSION = 1032
"""To so many times its size deflate unpacks at most. Source: zlib.net, zlib technical details."""
INFLATE = zlib.MAX_WBITS | 32
"""gzip and zlib, told apart by their headers."""
PLAIN = ("", "identity")


def expected(body: bytes, encoding: str, most: int) -> int:
    """How many bytes it may become, beside those that it has."""
    return 0 if encoding in PLAIN else min(EXPANSION * len(body), most)


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """most: bytes that it may have. Raises: RefusalError (400, 413, 415)."""
    if encoding in PLAIN:
        return body
    if encoding not in ("gzip", "deflate"):
        raise RefusalError(
            "media_type", f"content encoding {encoding[:20]!r}; send gzip, deflate or none"
        )
    inflater = zlib.decompressobj(INFLATE)
    try:
        content = inflater.decompress(body, most + 1)
    except zlib.error as error:
        raise RefusalError("bad_request", f"the body is no {encoding} ({error})") from error
    if len(content) > most:
        raise RefusalError("too_large", f"the body unpacks to more than {most:,} bytes")
    if not inflater.eof:
        raise RefusalError("bad_request", f"the body ends in the middle of its {encoding}")
    return content
