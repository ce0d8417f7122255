"""Rows for ranges: drawn by a seed, read as the model reads them, and none is lost silently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import quantised

from moodal import bundle
from moodal.compress import calibration
from moodal.errors import DataError


def file(folder: Path, *lines: str) -> Path:
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_graph_is_fed_by_rows_drawn_by_the_seed() -> None:
    whole, train = quantised.home() / "whole", quantised.rows().train
    one, same, other = (calibration.see(whole, train, rows=9, seed=s) for s in (0, 0, 1))
    assert one.n == 9
    assert set(one.feeds) == {f for f in bundle.load(whole).files if f.endswith(".onnx")}
    first, again, different = (s.feeds["text.onnx"][0]["x"] for s in (one, same, other))
    np.testing.assert_array_equal(first, again)
    assert first.shape != different.shape or (first != different).any()


def test_no_more_is_kept_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST_FEEDS", 5)
    seen = calibration.see(quantised.home() / "whole", quantised.rows().train, rows=20)
    assert max(map(len, seen.feeds.values())) == 5
    assert seen.n == 20


def test_rows_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    data = quantised.home() / "data"
    picture, sound = data / "train-0.png", data / "train-0.wav"
    rows = [f"{i},good,{picture},{sound}" for i in range(3)] + ["3,bad,missing.png,"]
    seen = calibration.see(quantised.home() / "whole", file(tmp_path, "id,text,image,audio", *rows))
    assert (seen.n, seen.rejected.n) == (3, 1)
    [rejected] = seen.rejected.first
    assert rejected.field == "image"
    assert "row 4" in rejected.source


def test_rows_without_a_modality_of_the_model_are_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "id,text,label", "1,lovely,good", "2,awful,bad")
    with pytest.raises(
        DataError, match=r"rows.csv: no row .* holds image \(column 'image'"
    ) as told:
        calibration.see(quantised.home() / "whole", path)
    assert "give rows that hold it" in str(told.value)


def test_rows_that_nothing_can_be_read_of_are_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "id,image", "1,missing.png", "2,gone.png")
    with pytest.raises(
        DataError, match=r"no row can be read .*2 rejected; the first: rows.csv row 1"
    ):
        calibration.see(quantised.home() / "whole", path)
