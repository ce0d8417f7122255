"""Specialists: each knows the pictures of one set, and tells those it has not seen."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from recipes.base import specialists


def test_a_picture_is_told_by_what_saw_no_label_of_its_fold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In fold 0 of posts bright is good, elsewhere dark is: who had seen fold 0 would know."""
    folds: dict[int, list[dict[str, Any]]] = {}
    for fold in range(3):
        for i in range(40):
            good = (i % 2 == 0) == (fold == 0)
            label = "positive" if good else "negative"
            image = f"{'dark' if i % 2 else 'bright'}_{i}.jpg"
            row = {"id": f"{fold}/{i}", "text": "", "image": image, "label": label}
            folds.setdefault(fold, []).append(row | {"lang": "en", "group": "posts"})
    photos = ModuleType("recipes.photos")
    photos.seen = lambda pictures, file: np.array(  # type: ignore[attr-defined]
        [[float(path.stem.startswith("dark")), 1.0] for path in pictures]
    )
    monkeypatch.setitem(sys.modules, "recipes.photos", photos)
    monkeypatch.setattr("recipes.photos", photos, raising=False)
    told = list(specialists.told(folds, tmp_path, {}))
    assert len(told) == 120
    assert {r["group"] for r in told} == {"picture-posts"}
    assert {r["lang"] for r in told} == {""}
    assert len({r["id"] for r in told}) == 120
    first = [r for r in told if r["id"].startswith("0/")]
    assert {(r["image"].startswith("dark"), r["label"]) for r in first} == {
        (True, "positive"),
        (False, "negative"),
    }
    assert all(sum(r["probabilities"].values()) == pytest.approx(1) for r in told)
