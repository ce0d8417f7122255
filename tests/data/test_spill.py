"""What went to disk comes back; quantiles are numpy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moodal.data.spill import Ids, Spill, Values


def test_equal_keys_meet_in_one_bucket_and_none_is_lost(tmp_path: Path) -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64)
    spill = Spill(tmp_path, "s", [("key", "u8"), ("row", "u4")])
    for row in range(40_000):
        spill.add(int(keys[row % 500]), row)
    buckets = list(spill.buckets())
    held = [set(bucket["key"].tolist()) for bucket in buckets]
    assert sum(map(len, held)) == 500
    assert sorted(np.concatenate([b["row"] for b in buckets]).tolist()) == list(range(40_000))


def test_quantiles_are_numpys_to_a_bin(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(5, 2, 40_000)
    values = Values(tmp_path, "v")
    for i, value in enumerate(x):
        values.add(float(value) if i % 2 else float("nan"))
    found = values.quantiles(0.0, 0.25, 0.5, 0.75, 1.0)
    expected = np.quantile(x[1::2], (0.0, 0.25, 0.5, 0.75, 1.0))
    assert found == pytest.approx(expected, abs=2 * np.ptp(x) / 4096)


def test_rows_outside_are_named(tmp_path: Path) -> None:
    values = Values(tmp_path, "v")
    for value in (1.0, 9.0, float("nan"), -4.0, 2.0):
        values.add(value)
    assert list(values.outside(0.0, 5.0)) == [(1, 9.0), (3, -4.0)]
    for _ in range(10_000):
        values.add(3.0)
    values.add(7.0)
    assert list(values.outside(0.0, 5.0))[-1] == (10_005, 7.0)
    assert Values(tmp_path, "none").quantiles(0.5) == []


def test_ids_come_back_by_row(tmp_path: Path) -> None:
    ids = Ids(tmp_path, "i")
    names = ["a", "", "第三", "x" * 300] * 5000
    for name in names:
        ids.add(name)
    assert [ids[row] for row in (0, 1, 2, 3, 4096, 19_999)] == [
        names[row] for row in (0, 1, 2, 3, 4096, 19_999)
    ]
