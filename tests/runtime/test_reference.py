"""A spread keeps percentiles that were observed, and exactly how many rows lie up to each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import train_once

from moodal import bundle
from moodal.errors import ModelError
from moodal.runtime import reference
from moodal.runtime.reference import Reference, Seen, Spread, spread
from moodal.types import Prediction


def answer(label: str | None, reason: str = "") -> Prediction:
    return Prediction("1", label, None, {}, 0.5, (), {}, reason=reason)  # type: ignore[arg-type]


def test_four_rows_by_hand() -> None:
    found = spread([2, 1, 4, 1])
    assert found == Spread(4, (1.0, 2.0, 4.0), (0.5, 0.75, 1.0))
    assert found.tail(1) == 1.0  # half lies at or under it, all at or above
    assert found.tail(2) == 1.0  # 3 of 4 up to it, 2 of 4 from it on
    assert found.tail(4) == 2 * 0.25
    assert found.tail(3) == 2 * 0.125  # half way from 3 of 4 to 4 of 4
    assert found.tail(5) == 1 / 5 / (1 + 1 / 3)  # a third of the width beyond
    assert found.tail(0) == 1 / 5 / (1 + 1 / 3)
    assert [found.cell(v) for v in (0, 1, 1.5, 2, 3, 4, 5)] == [0, 1, 2, 2, 3, 3, 4]


def test_a_constant_is_a_spread_too() -> None:
    found = spread([3.0] * 5)
    assert found == Spread(5, (3.0,), (1.0,))
    assert found.tail(3.0) == 1.0
    assert found.tail(4.0) == 1 / 6 / 2


def test_the_share_up_to_a_percentile_is_exact_for_whatever_rows() -> None:
    column = np.random.default_rng(0).poisson(5, 1234).astype(float)
    found = spread(column.tolist())
    assert len(found.values) <= reference.GRID + 1
    for value, share in zip(found.values, found.shares, strict=True):
        assert value in column
        assert share == np.mean(column <= value)
    assert found.values[0] == column.min()
    assert found.values[-1] == column.max()


def test_the_further_out_the_smaller_the_tail() -> None:
    found = spread(np.random.default_rng(0).normal(size=500).tolist())
    outwards = [found.tail(v) for v in np.linspace(0.5, 9, 60)]
    assert outwards == sorted(outwards, reverse=True)
    inwards = [found.tail(v) for v in np.linspace(-9, -0.5, 60)]
    assert inwards == sorted(inwards)
    assert all(0 < share <= 1 for share in (*outwards, *inwards))


def test_rows_are_counted_and_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [
        Seen(
            {"text.length": 3, "confidence": 0.5}, reference.counted(answer("good"), "text", "zh")
        ),
        Seen({"confidence": 0.7}, reference.counted(answer("bad", "unsure"), "image", None)),
        Seen({"confidence": 0.9}, reference.counted(answer("good"), "text", "")),
    ]
    made = reference.of(iter(rows))
    assert made.rows == 3
    assert made.measures["text.length"].n == 1
    assert made.measures["confidence"].values == (0.5, 0.7, 0.9)
    assert made.counts == {
        "label": {"good": 2, "bad": 1},
        "reason": {"": 2, "unsure": 1},
        "language": {"zh": 1, "": 1},
        "modalities": {"text": 2, "image": 1},
    }
    folder = with_reference(tmp_path, made.to_json())
    assert reference.load(folder, bundle.load(folder)) == made


def test_a_text_or_a_number_has_no_label_to_count() -> None:
    assert reference.counted(answer(None), "text", None) == {"reason": "", "modalities": "text"}


def with_reference(folder: Path, content: bytes | None) -> Path:
    shutil.copytree(train_once(), folder / "model")
    info = bundle.load(folder / "model")
    files = {name: bundle.read(folder / "model", info, name) for name in info.files}
    files.pop(bundle.REFERENCE)
    if content is not None:
        files[bundle.REFERENCE] = content
    bundle.save(folder / "model", info, files)
    return folder / "model"


@pytest.mark.parametrize("content", [None, json.dumps({"rows": 5, "modalities": {}}).encode()])
def test_a_model_of_an_older_version_has_an_empty_one(
    content: bytes | None, tmp_path: Path
) -> None:
    folder = with_reference(tmp_path, content)
    assert reference.load(folder, bundle.load(folder)) == Reference()


@pytest.mark.parametrize(
    "content", [b"[]", b"{", b'{"format": 2}', b'{"format": 2, "rows": "x", "measures": {}}']
)
def test_what_is_no_reference_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    folder = with_reference(tmp_path, content)
    with pytest.raises(ModelError, match=r"reference\.json: is not a reference"):
        reference.load(folder, bundle.load(folder))
