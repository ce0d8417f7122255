"""Any accepted picture in, upright square pixels out; anything else is a named rejection."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from moodal import config
from moodal.errors import RecordError
from moodal.preprocess import image

SIZE = 32
SETTINGS = config.Image(size=SIZE)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def quarters(side: int = SIZE) -> Image.Image:
    """Red, green / blue, white quarters: no turn or mirror leaves it the same."""
    pixels = np.zeros((side, side, 3), np.uint8)
    half = side // 2
    pixels[:half, :half] = RED
    pixels[:half, half:] = (0, 255, 0)
    pixels[half:, :half] = BLUE
    pixels[half:, half:] = 255
    return Image.fromarray(pixels)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG of black pixels that says it is this large, a bomb of a few bytes when it is."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_the_very_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    result = image.decode(saved(quarters(), kind, **options), SETTINGS)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, np.asarray(quarters()))


def test_a_jpeg_gives_nearly_the_pixels() -> None:
    result = image.decode(saved(quarters(), "JPEG", quality=95, subsampling=0), SETTINGS)
    assert np.abs(result.astype(int) - np.asarray(quarters())).mean() < 3


def test_path_bytes_and_array_agree(tmp_path: Path) -> None:
    data = saved(quarters(40), "PNG")
    path = tmp_path / "快乐.png"
    path.write_bytes(data)
    expected = image.decode(data, SETTINGS)
    np.testing.assert_array_equal(image.decode(path, SETTINGS), expected)
    np.testing.assert_array_equal(image.decode(np.asarray(quarters(40)), SETTINGS), expected)


def test_a_grey_array_becomes_three_equal_channels() -> None:
    grey = np.arange(SIZE * SIZE, dtype=np.uint32).reshape(SIZE, SIZE).astype(np.uint8)
    result = image.decode(grey, SETTINGS)
    np.testing.assert_array_equal(result, np.repeat(grey[:, :, None], 3, axis=2))


def test_the_result_may_be_written_to() -> None:
    image.decode(saved(quarters(), "PNG"), SETTINGS)[0, 0] = 7


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stored_turned_is_put_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(quarters(), kind, exif=exif, quality=95)
    with Image.open(io.BytesIO(data)) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    np.testing.assert_array_equal(image.decode(data, SETTINGS), expected)
    assert orientation == 1 or not np.array_equal(expected, np.asarray(quarters()))


def test_transparent_becomes_white_and_half_transparent_half_white() -> None:
    pixels = np.zeros((SIZE, SIZE, 4), np.uint8)  # black; the left half transparent
    pixels[:, SIZE // 2 :, 3] = 128
    result = image.decode(saved(Image.fromarray(pixels), "PNG"), SETTINGS)
    assert (result[:, : SIZE // 2] == 255).all()
    assert (np.abs(result[:, SIZE // 2 :].astype(int) - 127) <= 1).all()


def test_a_transparent_palette_colour_becomes_white() -> None:
    palette = quarters().quantize(4)
    at_corner = palette.getpixel((0, 0))
    for kind in ("PNG", "GIF"):
        result = image.decode(saved(palette, kind, transparency=at_corner), SETTINGS)
        assert (result[0, 0] == 255).all(), kind
        np.testing.assert_array_equal(result[-1, 0], BLUE, kind)


def test_cmyk_is_converted() -> None:
    result = image.decode(saved(quarters().convert("CMYK"), "JPEG", quality=95), SETTINGS)
    assert np.abs(result[4, 4].astype(int) - RED).max() < 12
    assert np.abs(result[-4, 4].astype(int) - BLUE).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_to_8_not_cut(kind: str) -> None:
    levels = np.array([0, 257, 128 * 257, 65535], np.uint16).repeat(SIZE // 4)
    picture = Image.fromarray(np.tile(levels, (SIZE, 1)))
    result = image.decode(saved(picture, kind), SETTINGS)
    np.testing.assert_array_equal(result[0, :: SIZE // 4, 0], [0, 1, 128, 255])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"])
def test_a_white_picture_is_white_in_every_mode(mode: str) -> None:
    white = Image.new("RGB", (50, 20), "white")
    picture = (
        Image.fromarray(np.full((20, 50), 65535, np.uint16))
        if mode == "I;16"
        else white.convert(mode)
    )
    kind = "PNG" if mode in ("P", "RGBA", "LA") else "TIFF"
    data = saved(white if mode == "HSV" else picture, kind)
    assert (image.decode(data, SETTINGS) >= 254).all()


def test_the_first_frame_of_an_animation_is_taken() -> None:
    later = Image.new("RGB", (SIZE, SIZE), "black")
    data = saved(quarters(), "GIF", save_all=True, append_images=[later])
    np.testing.assert_array_equal(image.decode(data, SETTINGS), np.asarray(quarters()))


def test_the_whole_picture_is_fitted() -> None:
    wide = quarters(64).resize((300, 40), Image.Resampling.NEAREST)
    result = image.decode(saved(wide, "PNG"), SETTINGS)
    assert result.shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(result[2:14, 2:14], np.broadcast_to(RED, (12, 12, 3)))
    np.testing.assert_array_equal(result[18:30, 2:14], np.broadcast_to(BLUE, (12, 12, 3)))


def test_a_large_jpeg_decoded_small_is_the_same_picture() -> None:
    data = saved(quarters(1024), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as full:
        expected = np.asarray(full.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    assert np.abs(image.decode(data, SETTINGS).astype(int) - expected).mean() < 2


def test_a_cut_picture_is_refused_or_whole_never_half() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        data = saved(noise, kind)
        whole = image.decode(data, SETTINGS)
        n_refused = 0
        for share in np.linspace(0.01, 0.999, 40):
            try:
                result = image.decode(data[: int(share * len(data))], SETTINGS)
            except RecordError:
                n_refused += 1
            else:
                np.testing.assert_array_equal(result, whole, kind)
        assert n_refused >= 35, kind


def test_random_damage_is_a_rejection_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        data = np.frombuffer(saved(quarters(), kind), np.uint8)
        for _ in range(60):
            broken = data.copy()
            broken[rng.integers(8, min(200, len(data)), 5)] = rng.integers(0, 256, 5)
            with contextlib.suppress(RecordError):
                assert image.decode(broken.tobytes(), SETTINGS).shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("side", [9_700, 10_100, 14_000, 40_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_decoding(side: int) -> None:
    words = "pixels, at most 100,000,000" if side > 10_000 else "cut short"
    with pytest.raises(RecordError, match=words):
        image.decode(png_header(side, side), SETTINGS)


def test_too_many_bytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(image.MAX_BYTES + 1)  # a hole: takes no disk
    with pytest.raises(RecordError, match=r"huge\.png: 200,000,001 bytes, at most 200,000,000"):
        image.decode(path, SETTINGS)


def test_a_bad_path_is_named(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.jpg", tmp_path / "notes.jpg"
    empty.touch()
    text.write_text("What a lovely day, 真开心！ It could not be better.", encoding="utf-8")
    for path, words in (
        (tmp_path / "gone.jpg", r"gone\.jpg: No such file"),
        (tmp_path, "is not a file"),
        (empty, r"empty\.jpg: is empty"),
        (text, r"notes\.jpg: is a text file, not a picture .* JPEG, PNG, WebP"),
    ):
        with pytest.raises(RecordError, match=words) as raised:
            image.decode(path, SETTINGS)
        assert raised.value.field == "image"


def test_other_formats_are_refused_by_name() -> None:
    with pytest.raises(RecordError, match="not a picture that can be read"):
        image.decode(saved(quarters(), "PPM"), SETTINGS)
    with pytest.raises(RecordError, match="a HEIC picture"):
        image.decode(b"\0\0\0\x18ftypheic" + bytes(100), SETTINGS)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_an_array_that_is_no_picture_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(RecordError, match="is no picture"):
        image.decode(pixels, SETTINGS)


def test_a_thumbnail_keeps_the_sides_in_ratio_and_never_grows() -> None:
    wide = saved(Image.new("RGBA", (300, 150), (0, 0, 255, 128)), "PNG")
    with Image.open(io.BytesIO(image.thumbnail(wide, 64))) as small:
        assert (small.format, small.size, small.mode) == ("JPEG", (64, 32), "RGB")
    with Image.open(io.BytesIO(image.thumbnail(wide, 1000))) as small:
        assert small.size == (300, 150)


def test_a_turned_thumbnail_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    data = saved(quarters().resize((40, 20)), "JPEG", exif=exif)
    with Image.open(io.BytesIO(image.thumbnail(data, 64))) as small:
        assert small.size == (20, 40)
        assert small.getexif().get(0x0112, 1) == 1
