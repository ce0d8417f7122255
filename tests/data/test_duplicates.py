"""Near means near: MinHash follows Jaccard, the difference hash survives recompression."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from moodal.data.duplicates import (
    Exact,
    Match,
    NearImages,
    NearTexts,
    _texts_agree,
    difference_hash,
)

EN = "the service at this hotel was really slow and nobody at the desk wanted to help us at all"
ZH = "这家酒店的服务非常好，房间干净整洁，早餐丰富，前台工作人员态度热情，下次还会再来入住的"


def _near_texts(folder: Path, texts: list[str], files: list[int] | None = None) -> list[Match]:
    near = NearTexts(folder)
    for i, text in enumerate(texts):
        near.add(i + 1, files[i] if files else 0, key=i, text=text)
    return sorted(set(near.matches()))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (EN, EN.upper() + " !!"),
        (EN, f"@someone {EN} https://t.co/xyz"),
        (EN, EN.replace("really ", "")),
        (ZH, ZH.replace("，", " ")),
        (ZH, ZH[:-1]),
    ],
)
def test_texts_with_a_small_change_are_near(one: str, two: str, tmp_path: Path) -> None:
    assert _near_texts(tmp_path, [one, two]) == [Match(2, 0, 1)]


@pytest.mark.parametrize(("equal", "near"), [(32, True), (26, True), (25, False), (0, False)])
def test_26_of_32_equal_hashes_are_near(equal: int, near: bool) -> None:
    nibbles = [0] * equal + [9] * (32 - equal)
    sketch = [sum(n << 4 * i for i, n in enumerate(nibbles[at : at + 16])) for at in (0, 16)]
    other = np.array([sketch], dtype=np.uint64)
    assert _texts_agree(np.zeros((1, 2), dtype=np.uint64), other).tolist() == [near]


def test_texts_that_share_half_their_words_are_not(tmp_path: Path) -> None:
    half = " ".join(EN.split()[:9]) + " but the breakfast made up for everything and more"
    assert (
        _near_texts(tmp_path, [EN, half, ZH, ZH[:20] + "交通也很方便离地铁站只有五分钟路程"]) == []
    )


def test_random_texts_are_not_near_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(0x4E00, 0x9000, 20))) for _ in range(3000)]
    assert _near_texts(tmp_path, texts) == []


def test_the_share_of_equal_hashes_estimates_the_jaccard_similarity(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    near = NearTexts(tmp_path)
    estimates, truths = [], []
    for kept in (10, 20, 30, 40):
        one = [chr(c) for c in rng.integers(0x4E00, 0x9000, 40)]
        other = one[:kept] + [chr(c) for c in rng.integers(0x4E00, 0x9000, 40 - kept)]
        hashes = near._min_hashes(("".join(one), "".join(other)))
        grams = [{tuple(x[i : i + 3]) for i in range(38)} for x in (one, other)]
        estimates.append(float((hashes[0] == hashes[1]).mean()))
        truths.append(len(grams[0] & grams[1]) / len(grams[0] | grams[1]))
    # Three standard errors of 32 hashes.
    assert np.abs(np.subtract(estimates, truths)).max() < 3 * np.sqrt(0.25 / 32)
    assert estimates[-1] == 1.0


def test_a_text_near_one_of_another_file_is_told_apart(tmp_path: Path) -> None:
    assert _near_texts(tmp_path, [EN, ZH, EN + " ok"], [0, 0, 1]) == [Match(1, 1, 3)]
    assert _near_texts(tmp_path / "..", [EN, EN + " ok"], [1, 1]) == []


def _picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)


def test_a_recompressed_resized_or_brightened_picture_is_near_and_others_are_not(
    tmp_path: Path,
) -> None:
    original = _picture(0)
    buffer = io.BytesIO()
    original.save(buffer, "JPEG", quality=30)
    copies = [
        Image.open(buffer).convert("RGB"),
        original.resize((50, 50)).resize((96, 96)),
        original.filter(ImageFilter.GaussianBlur(1)),
    ]
    near = NearImages(tmp_path)
    for i, picture in enumerate([original, *copies, *(_picture(seed) for seed in range(1, 200))]):
        near.add(i + 1, 0, key=i, image=np.asarray(picture))
    assert {match.row for match in near.matches()} == {2, 3, 4}


def test_the_difference_hash_of_a_ramp_is_known() -> None:
    ramp = np.repeat(np.arange(0, 252, 28, dtype=np.uint8)[None, :, None], 8, axis=0).repeat(3, 2)
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(np.ascontiguousarray(ramp[:, ::-1])) == 0
    assert difference_hash(np.full((8, 9, 3), 77, dtype=np.uint8)) is None


def test_equal_inputs_clash_leak_and_repeat(tmp_path: Path) -> None:
    exact = Exact(tmp_path)
    rows = [(1, 0, 7, "a"), (2, 0, 7, "a"), (3, 0, 7, "b"), (4, 0, 8, ""), (5, 0, 8, "")]
    for row, file, key, label in [*rows, (6, 0, 9, "a"), (1, 1, 9, "a"), (2, 1, 10, "a")]:
        exact.add(row, file, key=key, label=label)
    assert sorted(m.row for m in exact.copies()) == [2, 3, 5]
    assert sorted(exact.identical()) == [2, 5]
    assert sorted(m.row for m in exact.conflicts()) == [1, 2, 3]
    assert list(exact.leaks()) == [Match(6, 1, 1)]
