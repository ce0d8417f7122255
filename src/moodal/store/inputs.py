"""What people sent, kept by content where the operator wants it, and forgotten after some days."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from moodal.errors import CapacityError, DataError
from moodal.types import MODALITIES, Media, Modality, Record, Text

_HASH = re.compile(r"[0-9a-f]{64}")
_DAY = 86_400.0
_UNKNOWN = ".bin"

_MAGIC = (
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (0, b"GIF8", ".gif"),
    (8, b"WEBP", ".webp"),
    (0, b"BM", ".bmp"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (8, b"WAVE", ".wav"),
    (0, b"fLaC", ".flac"),
    (0, b"OggS", ".ogg"),
    (0, b"ID3", ".mp3"),
    (0, b"\xff\xfb", ".mp3"),
    (0, b"\xff\xf3", ".mp3"),
    (0, b"\xff\xf2", ".mp3"),
    (0, b"\x1aE\xdf\xa3", ".webm"),
    (4, b"ftyp", ".m4a"),
)
"""(offset, first bytes, extension). Source: https://en.wikipedia.org/wiki/List_of_file_signatures."""

_TYPES = {
    ".txt": "text/plain; charset=utf-8",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".webm": "audio/webm",
    ".m4a": "audio/mp4",
    _UNKNOWN: "application/octet-stream",
}


class Inputs:
    """A folder of inputs: ab/cd/abcd...64 digits.txt, the name being the content's SHA-256.

    days: how long each is kept after it was last sent. Threads and processes may share a folder.
    Raises: CapacityError when the folder cannot be written.
    """

    def __init__(self, folder: Path, days: float) -> None:
        self.folder = folder
        self.days = days
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def keep(self, record: Record) -> dict[Modality, str]:
        """Write a record's text and media; modality -> SHA-256. Features and arrays are not kept:
        nobody could look at them.

        Raises: CapacityError when the disk is full.
        """
        kept: dict[Modality, str] = {}
        try:
            for modality in MODALITIES:
                content = _content(getattr(record, modality))
                if content is not None:
                    suffix = ".txt" if modality == "text" else _extension(content)
                    kept[modality] = self._write(content, suffix)
        except OSError as error:
            raise self._unusable(error) from error
        return kept

    def path(self, sha256: str) -> Path | None:
        """The file of that content; None where it is not kept, or no longer.

        Raises: DataError when it is no SHA-256 in 64 lower-case hexadecimal digits.
        """
        if not _HASH.fullmatch(sha256):
            raise DataError(
                f"{sha256[:80]!r} is no input's name; give a SHA-256, 64 digits of 0-9 and a-f"
            )
        place = self._place(sha256)
        for suffix in _TYPES:
            path = place / (sha256 + suffix)
            if path.is_file():
                return path
        return None

    def read(self, sha256: str) -> tuple[bytes, str] | None:
        """The content and its media type; None where it is not kept, or damaged.

        Raises: DataError as path does.
        """
        path = self.path(sha256)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:  # forgotten between the two
            return None
        if hashlib.sha256(content).hexdigest() != sha256:
            return None
        return content, _TYPES[path.suffix]

    def forget(self, now: float) -> int:
        """Delete what was last sent over `days` days before now (since 1970, UTC); how many."""
        before = now - self.days * _DAY
        count = 0
        for path in self.folder.glob("??/??/*"):
            try:
                if path.stat().st_mtime < before:
                    path.unlink()
                    count += 1
            except FileNotFoundError:  # another process was faster
                continue
            except OSError as error:
                raise self._unusable(error) from error
        return count

    def _place(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256[2:4]

    def _write(self, content: bytes, suffix: str) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        place = self._place(sha256)
        path = place / (sha256 + suffix)
        try:
            if path.stat().st_size == len(content):
                os.utime(path)
                return sha256
        except FileNotFoundError:
            place.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=place)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).rename(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return sha256

    def _unusable(self, error: OSError) -> CapacityError:
        return CapacityError(
            f"inputs cannot be kept in {self.folder}: {error.strerror or error}; see that the"
            " folder is there, is writable and has space"
        )


def _content(value: Text | Media | None) -> bytes | None:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, Path):
        return value.read_bytes()
    return value if isinstance(value, bytes) else None


def _extension(content: bytes) -> str:
    for offset, magic, suffix in _MAGIC:
        if content[offset : offset + len(magic)] == magic:
            return suffix
    return _UNKNOWN
