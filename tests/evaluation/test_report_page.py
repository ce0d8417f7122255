"""A page: what comes from the data is escaped, its files stand together or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moodal.evaluation import page


def test_numbers_and_intervals_are_written_one_way() -> None:
    assert page.number(None) == "–"
    assert page.number(0.12345) == "0.123"
    assert page.interval(None) == ""
    assert page.interval((-0.1, 0.25)) == "[-0.100, 0.250]"


def test_both_files_stand_or_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page.write(tmp_path, {"a.html": "old", "b.json": "old"})
    plain = Path.write_text

    def full(path: Path, text: str, **given: Any) -> int:
        if path.name == "b.json":
            raise OSError(28, "no space")
        return plain(path, text, **given)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        page.write(tmp_path, {"a.html": "new", "b.json": "new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.html": "old",
        "b.json": "old",
    }
