"""API keys: a file of `name:sha256` lines. A key itself is shown once, when it is made."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from moodal.errors import CapacityError, ConfigError, MoodalError
from moodal.serve.errors import RefusalError

PREFIX = "moodal_"
"""By which scanners for leaked secrets, and people, know a key."""
SECRET_BYTES = 32
LOOK_SECONDS = 1.0
"""Between two looks at whether the file has changed."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")

_log = logging.getLogger("moodal.serve")


class Keys:
    """The keys of a file; it is read again when it changes, and kept as it was when it cannot be.

    Raises: ConfigError, when it is not there, is damaged or holds no key.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._hashes = _some(file)
        self._seen = _signature(file)
        self._looked = time.monotonic()

    def caller(self, headers: Mapping[bytes, bytes]) -> str:
        """The name of the key that was sent: Authorization: Bearer KEY, or X-API-Key: KEY.

        Raises: RefusalError (401).
        """
        self._look()
        sent = headers.get(b"x-api-key", b"")
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            sent = bearer.strip()
        if not sent:
            raise RefusalError(
                "key_missing",
                "no API key was sent; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
                headers={"www-authenticate": "Bearer"},
            )
        found = hashlib.sha256(sent).hexdigest()
        # All are compared, so that the time tells nothing of which was nearest.
        names = [n for n, known in self._hashes.items() if hmac.compare_digest(known, found)]
        if not names:
            raise RefusalError(
                "key_unknown",
                "the API key is not one of this service's; ask whoever runs it for one",
                headers={"www-authenticate": 'Bearer error="invalid_token"'},
            )
        return names[0]

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._looked + LOOK_SECONDS:
            return
        self._looked = now
        seen = _signature(self._file)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._hashes = _some(self._file)
        except MoodalError as error:
            _log.error("the keys stay as they were: %s", error)


def add(file: Path, name: str) -> str:
    """A new key, which is kept nowhere but with whoever reads it here.

    Raises: ConfigError when the name is no name, or taken.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name of a key; use up to 64 letters, digits and _ . @ -, beginning "
            "with a letter or digit"
        )
    hashes = read(file) if file.exists() else {}
    if name in hashes:
        raise ConfigError(f"{file}: has a key {name!r}; remove it first, or take another name")
    key = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    _write(file, {**hashes, name: hashlib.sha256(key.encode()).hexdigest()})
    return key


def remove(file: Path, name: str) -> None:
    """Raises: ConfigError when there is none of that name."""
    hashes = read(file)
    if name not in hashes:
        raise ConfigError(f"{file}: has no key {name!r}, only {', '.join(hashes) or 'none'}")
    _write(file, {n: h for n, h in hashes.items() if n != name})


def read(file: Path) -> dict[str, str]:
    """Name -> SHA-256 in hexadecimal digits. Raises: ConfigError."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: cannot be read as a file of keys ({error}); make one with: "
            f"moodal keys add {file} NAME"
        ) from error
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, sha256 = line.strip().partition(":")
        if not _NAME.fullmatch(name) or not _HASH.fullmatch(sha256) or name in hashes:
            raise ConfigError(
                f"{file} line {number}: is not a different name, a colon and 64 hexadecimal "
                "digits; remove it, and make keys with: moodal keys add"
            )
        hashes[name] = sha256
    return hashes


def _some(file: Path) -> dict[str, str]:
    hashes = read(file)
    if not hashes:
        raise ConfigError(f"{file}: holds no key, so nobody could ask; make one: moodal keys add")
    return hashes


def _signature(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _write(file: Path, hashes: Mapping[str, str]) -> None:
    """Whole or not at all, and for its owner alone."""
    lines = "".join(f"{name}:{sha256}\n" for name, sha256 in hashes.items())
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(lines)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CapacityError(
            f"{file}: cannot be written ({error.strerror}); name a place that can be"
        ) from error
