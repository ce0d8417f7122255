"""Equal and nearly equal inputs, in bounded memory: hashes of rows, gathered in files by value.

Equal: a 64-bit hash of all that a row holds. Nearly equal texts: MinHash over character trigrams,
with banding. Nearly equal pictures: a 64-bit difference hash within 4 bits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moodal.data.spill import Spill

U64 = np.uint64
_EXACT = [("key", "u8"), ("row", "u4"), ("file", "u1"), ("label", "u8")]
_NEAR = [("key", "u8"), ("row", "u4"), ("file", "u1"), ("input", "u4"), ("sketch", "u8", (2,))]

N_HASHES = 32
"""MinHash values of a text: the share on which two texts agree estimates their Jaccard
similarity, with a standard error of at most 0.09. Source: Broder, 1997."""
BANDS, BAND_HASHES = 5, 4
"""Texts that agree on one band are compared: similarity 0.9 is found with probability 0.995, 0.8
with 0.93, 0.3 compared with 0.04. Source: Leskovec et al., Mining of Massive Datasets, 3.4."""
TEXT_AGREE = 26
"""Of 32 hashes kept to 4 bits: a similarity of about 0.8. Source: Li & Koenig, b-bit MinHash."""
IMAGE_BITS = 4
"""Bits of 64 in which two pictures may differ; among 5 blocks one is then equal (pigeonhole)."""
_MIN_CHARS = 8
"""Shorter texts are only compared exactly."""
_MAX_CHARS = 10_000
"""Of a text that is compared."""
_REACH = 8
"""Rows of one bucket that a row is compared with: enough, since a copy of a copy is near both."""
_BATCH = 1024
_NOISE = re.compile(r"https?://\S+|@\w+|[\W_]+")
_NIBBLES = U64(0x1111111111111111)


class Match(NamedTuple):
    """A row of the main file (from 1) and what it equals: `file` 0 is the main file itself."""

    row: int
    file: int
    other: int


class Exact:
    """Rows whose inputs are equal in every modality."""

    def __init__(self, folder: Path, name: str = "exact") -> None:
        self._spill = Spill(folder, name, _EXACT)

    def add(self, row: int, file: int, *, key: int, label: str) -> None:
        """key: 64-bit hash of the input. label: "" = unlabelled."""
        self._spill.add(key, row, file, digest(label.encode("utf-8", "replace")) if label else 0)

    def copies(self) -> Iterator[Match]:
        """Rows of the main file after the first with the same input."""
        for rows in self._main("row"):
            yield from _matches(rows, _same(rows, "key"))

    def identical(self) -> Iterator[int]:
        """Rows of the main file after the first with the same input and the same label."""
        for rows in self._main("row", "label"):
            yield from rows["row"][1:][_same(rows, "key") & _same(rows, "label")].tolist()

    def conflicts(self) -> Iterator[Match]:
        """Rows of the main file whose input stands there with another label too."""
        for bucket in self._main("row", "label"):
            rows = bucket[bucket["label"] != 0]
            clash = _same(rows, "key") & ~_same(rows, "label")
            keys = np.unique(rows["key"][1:][clash])
            starts = np.searchsorted(rows["key"], keys, "left")
            ends = np.searchsorted(rows["key"], keys, "right")
            for start, end in zip(starts, ends, strict=True):
                yield from _clashes(rows[start:end])

    def leaks(self) -> Iterator[Match]:
        """Rows of the main file whose input stands in another file too."""
        for bucket in self._spill.buckets():
            main, other = bucket[bucket["file"] == 0], bucket[bucket["file"] > 0]
            other = other[np.argsort(other["key"], kind="stable")]
            place = np.searchsorted(other["key"], main["key"])
            found = place < len(other)
            found[found] = other["key"][place[found]] == main["key"][found]
            for row, hit in zip(main[found], other[place[found]], strict=True):
                yield Match(int(row["row"]), int(hit["file"]), int(hit["row"]))

    def _main(self, *then_by: str) -> Iterator[NDArray[Any]]:
        for bucket in self._spill.buckets():
            rows = bucket[bucket["file"] == 0]
            yield rows[np.lexsort([rows[name] for name in then_by] + [rows["key"]])]


class NearTexts:
    """Texts of which most character trigrams are the same."""

    def __init__(self, folder: Path) -> None:
        self._spill = Spill(folder, "texts", _NEAR)
        self._waiting: list[tuple[str, int, int, int]] = []
        rng = np.random.default_rng(0)
        self._factors = rng.integers(0, 2**31, N_HASHES, dtype=np.uint32) * 2 + 1
        self._terms = rng.integers(0, 2**32, N_HASHES, dtype=np.uint32)

    def add(self, row: int, file: int, *, key: int, text: str) -> None:
        """key: 64-bit hash of the whole input: rows with equal inputs are not called near."""
        plain = _NOISE.sub(" ", text[:_MAX_CHARS].lower()).strip()
        if len(plain) >= _MIN_CHARS:
            self._waiting.append((plain, row, file, key & 0xFFFFFFFF))
        if len(self._waiting) == _BATCH:
            self._sketch()

    def matches(self) -> Iterator[Match]:
        """Rows of the main file near an earlier row of it, or near a row of another file."""
        if self._waiting:
            self._sketch()
        for bucket in self._spill.buckets():
            yield from _near(bucket, _texts_agree)

    def _sketch(self) -> None:
        texts, rows, files, inputs = zip(*self._waiting, strict=True)
        self._waiting.clear()
        hashes = self._min_hashes(texts)  # (texts, N_HASHES)
        nibbles = (hashes >> np.uint32(12) & np.uint32(15)).astype(U64)
        shifts = np.arange(0, 64, 4, dtype=U64)
        sketch = (nibbles.reshape(len(texts), 2, 16) << shifts).sum(axis=2, dtype=U64)
        bands = []
        for band in range(BANDS):
            key = np.full(len(texts), band, dtype=U64)
            for column in hashes[:, band * BAND_HASHES : (band + 1) * BAND_HASHES].T:
                key = _mix(key ^ column.astype(U64))
            bands.append(_records(key, rows, files, inputs, sketch))
        self._spill.extend(np.concatenate(bands))

    def _min_hashes(self, texts: tuple[str, ...]) -> NDArray[np.uint32]:
        codes = np.frombuffer("".join(texts).encode("utf-32-le", "replace"), dtype=np.uint32)
        lengths = np.array([len(text) for text in texts])
        starts = np.cumsum(lengths) - lengths
        grams = codes[:-2].astype(U64) << U64(42)
        grams ^= (codes[1:-1].astype(U64) << U64(21)) ^ codes[2:]
        grams = (_mix(grams) >> U64(32)).astype(np.uint32)
        found = np.empty((len(texts), N_HASHES), dtype=np.uint32)
        ends = (starts + lengths)[:-1]
        for i in range(N_HASHES):
            values = grams * self._factors[i] + self._terms[i]
            values[ends - 1] = values[ends - 2] = 0xFFFFFFFF  # trigrams across two texts
            found[:, i] = np.minimum.reduceat(values, starts)
        return found


class NearImages:
    """Pictures that look alike: copies that were resized, recompressed or lightly retouched."""

    def __init__(self, folder: Path) -> None:
        self._spill = Spill(folder, "images", _NEAR)

    def add(self, row: int, file: int, *, key: int, image: NDArray[np.uint8]) -> None:
        """key: as in NearTexts. image: (H, W, 3)."""
        bits = difference_hash(image)
        if bits is None:
            return
        for i, (start, width) in enumerate(((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))):
            block = (bits >> start) & ((1 << width) - 1)
            mixed = int(_mix(np.array([block * 8 + i], dtype=U64))[0])
            self._spill.add(mixed, row, file, key & 0xFFFFFFFF, (bits, 0))

    def matches(self) -> Iterator[Match]:
        """As NearTexts.matches."""
        for bucket in self._spill.buckets():
            yield from _near(bucket, _images_agree)


def digest(data: bytes) -> int:
    """A 64-bit hash."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def difference_hash(image: NDArray[np.uint8]) -> int | None:
    """64 bits: is each of 8 x 8 places darker than its right neighbour? None: a blank picture.

    image: (H, W, 3). Source: Krawetz, "Kind of Like That", 2013 (dHash).
    """
    small = Image.fromarray(image).convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.int16)  # (8, 9)
    if grey.std() < 2:
        return None
    return int.from_bytes(np.packbits(grey[:, :-1] < grey[:, 1:]).tobytes(), "big")


def _records(key: NDArray[Any], *columns: Any) -> NDArray[Any]:
    records = np.empty(len(key), dtype=_NEAR)
    for (name, *_), column in zip(_NEAR, (key, *columns), strict=True):
        records[name] = column
    return records


def _same(rows: NDArray[Any], field: str) -> NDArray[np.bool_]:
    """Does each row but the first equal the one before it?"""
    return np.asarray(rows[field][1:] == rows[field][:-1])


def _matches(rows: NDArray[Any], same: NDArray[np.bool_]) -> Iterator[Match]:
    for i in np.flatnonzero(same).tolist():
        yield Match(int(rows["row"][i + 1]), 0, int(rows["row"][i]))


def _clashes(rows: NDArray[Any]) -> Iterator[Match]:
    """Each row of equal inputs, beside one with another label. rows: sorted by label."""
    first, last = rows[0], rows[-1]
    for row in rows:
        other = last if row["label"] == first["label"] else first
        yield Match(int(row["row"]), 0, int(other["row"]))


def _near(bucket: NDArray[Any], agree: Any) -> Iterator[Match]:
    rows = bucket[
        np.lexsort((bucket["row"], bucket["file"], bucket["sketch"][:, 0], bucket["key"]))
    ]
    for step in range(1, _REACH + 1):
        one, two = rows[:-step], rows[step:]
        same = one["key"] == two["key"]
        if not same.any():
            return
        near = np.flatnonzero(
            same & (one["input"] != two["input"]) & ((one["file"] == 0) | (two["file"] == 0))
        )
        near = near[agree(one["sketch"][near], two["sketch"][near])]
        for a, b in zip(one[near], two[near], strict=True):
            first, second = sorted((a, b), key=lambda r: (-int(r["file"]), int(r["row"])))
            yield Match(int(second["row"]), int(first["file"]), int(first["row"]))


def _texts_agree(one: NDArray[U64], two: NDArray[U64]) -> NDArray[np.bool_]:
    unequal = one ^ two  # (pairs, 2), a nibble a hash
    unequal |= unequal >> U64(1)
    unequal |= unequal >> U64(2)
    n_unequal = np.bitwise_count(unequal & _NIBBLES).sum(axis=1)
    return np.asarray(N_HASHES - n_unequal >= TEXT_AGREE)


def _images_agree(one: NDArray[U64], two: NDArray[U64]) -> NDArray[np.bool_]:
    return np.asarray(np.bitwise_count(one[:, 0] ^ two[:, 0]) <= IMAGE_BITS)


def _mix(x: NDArray[U64]) -> NDArray[U64]:
    """Source: the finaliser of SplitMix64 (Steele et al., 2014)."""
    x = (x ^ (x >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U64(27))) * U64(0x94D049BB133111EB)
    return x ^ (x >> U64(31))
