"""Picture files -> pixels. Limits on bytes and pixels come before decoding."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from moodal import config
from moodal.errors import RecordError
from moodal.preprocess.cache import kind_of, name_of, size_bytes
from moodal.types import Media

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
ACCEPTED = "JPEG, PNG, WebP, GIF, BMP and TIFF pictures are read"
MAX_PIXELS = 100_000_000
MAX_BYTES = 200_000_000

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
"""Of red, green and blue in [0, 1]. Source: ImageNet training set, as published in
https://docs.pytorch.org/vision/stable/models.html (v0.13 and before: all models)."""

_ORIENTATION = 0x0112  # EXIF 2.32, table 4
_DAMAGE = (
    # What Pillow raises on damaged files, found by feeding it some.
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)


def decode(source: Media, settings: config.Image) -> NDArray[np.uint8]:
    """The whole picture, upright, on white where it is transparent, fitted to a square.

    source: a path, a file's bytes, or pixels (H, W, 3) or (H, W) uint8.
    Returns: (size, size, 3) uint8, red, green, blue.
    Raises: RecordError naming the file, what it is and what is accepted.
    """
    picture = _shrunk(source, settings.size, keep_ratio=False)
    return np.array(picture, np.uint8)


def small(source: Media, side: int) -> Image.Image:
    """The picture in RGB, sides in ratio, the longer at most `side` pixels.

    Raises: RecordError, as decode.
    """
    return _shrunk(source, side, keep_ratio=True)


def thumbnail(source: Media, side: int) -> bytes:
    """A small JPEG of the picture, sides in ratio, the longer at most `side` pixels.

    Raises: RecordError, as decode.
    """
    return jpeg(small(source, side))


def jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def _shrunk(source: Media, side: int, *, keep_ratio: bool) -> Image.Image:
    if not isinstance(source, Path | bytes):
        return _fit(_from_array(source), side, keep_ratio=keep_ratio)
    size_bytes(source, field="image", limit=MAX_BYTES)
    try:
        with warnings.catch_warnings():
            # Pillow's words about odd files are ours to say, as a rejection or not at all.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return _read(source, side, keep_ratio=keep_ratio)
    except Image.DecompressionBombError as error:
        raise _too_large(source, f"more than {MAX_PIXELS:,}") from error
    except UnidentifiedImageError as error:
        raise RecordError(
            f"{name_of(source)}: is {kind_of(source)}, not a picture that can be read; {ACCEPTED}",
            field="image",
        ) from error
    except _DAMAGE as error:
        raise RecordError(
            f"{name_of(source)}: cannot be read, damaged or cut short ({error}); replace it;"
            f" {ACCEPTED}",
            field="image",
        ) from error


def _read(source: Path | bytes, side: int, *, keep_ratio: bool) -> Image.Image:
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(file, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise _too_large(source, f"{width} x {height}")
        # JPEG alone: decodes at 1/2, 1/4 or 1/8 of the size, never below `side`.
        picture.draft("RGB", (side, side))
        picture.load()
        # After load, since TIFF turns itself there and forgets the tag.
        orientation = picture.getexif().get(_ORIENTATION, 1)
        small = _fit(picture, side, keep_ratio=keep_ratio)
    if orientation != 1:  # turning the small picture is the same and cheaper
        small.getexif()[_ORIENTATION] = orientation
        small = ImageOps.exif_transpose(small)
    return small


def _too_large(source: Media, size: str) -> RecordError:
    return RecordError(
        f"{name_of(source)}: {size} pixels, at most {MAX_PIXELS:,} are read; make it smaller",
        field="image",
    )


def _from_array(pixels: NDArray[Any]) -> Image.Image:
    is_picture = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not is_picture or pixels.size == 0:
        raise RecordError(
            f"an array of {pixels.dtype} {pixels.shape} is no picture;"
            " give uint8 (H, W, 3) or (H, W)",
            field="image",
        )
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise _too_large(pixels, f"{pixels.shape[1]} x {pixels.shape[0]}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _fit(picture: Image.Image, side: int, *, keep_ratio: bool) -> Image.Image:
    """Shrink first, then lay on white: the same pixels, since both are linear, for less work."""
    size = (side, side)
    if keep_ratio:
        shrink = min(1.0, side / max(picture.size))
        size = (max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink)))
    picture = _plain(picture)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    if picture.mode != "RGBA":
        return picture
    paper = Image.new("RGBA", size, "white")
    return Image.alpha_composite(paper, picture).convert("RGB")


def _plain(picture: Image.Image) -> Image.Image:
    """Any mode -> RGB, or RGBA where something is transparent."""
    if picture.mode.startswith("I"):
        return _from_16_bit(picture)
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _from_16_bit(picture: Image.Image) -> Image.Image:
    """0..65535 -> 0..255. 65535 / 255 = 257 exactly; convert("L") would cut at 255 instead."""
    levels = np.clip(np.asarray(picture).astype(np.float32), 0, 65535) / 257
    return Image.fromarray(np.rint(levels).astype(np.uint8)).convert("RGB")
