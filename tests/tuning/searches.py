"""A set of vectors whose first number says the label, learned in milliseconds; a search on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moodal import api
from moodal.tuning.plan import Plan
from moodal.tuning.result import Tuned

SETTINGS = (
    "text_encoder.width=8",
    "text_encoder.heads=2",
    "text_encoder.layers=1",
    "text_encoder.dropout=0",
    "fusion.width=8",
    "fusion.heads=2",
    "train.epochs=3",
    "train.batch_size=16",
    "train.learning_rate=0.0001",
)
"""Defaults that learn nothing in so few epochs: there is something to find."""
SPACE = """
train.learning_rate: {kind: log-float, low: 1e-4, high: 0.1}
train.batch_size: {kind: choice, values: [8, 16]}
fusion.dropout: {kind: float, low: 0, high: 0.5}
"""


def vectors(folder: Path, *, n: int = 48, n_valid: int = 80, groups: int = 0) -> Path:
    """Write train.jsonl, valid.jsonl and test.jsonl; the three share no group. Returns: folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, size) in enumerate((("train", n), ("valid", n_valid), ("test", 20))):
        rng = np.random.default_rng((seed, size))
        lines = []
        for i in range(size):
            label = "bad" if i % 2 else "good"
            vector = rng.normal(0, 1, 3)
            vector[0] += 1.5 if i % 2 else -1.5
            row: dict[str, Any] = {"id": f"{part}-{i}", "text": vector.tolist(), "label": label}
            if groups:
                row["group"] = f"{part} {rng.integers(groups)}"
            lines.append(json.dumps(row) + "\n")
        (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def tune(data: Path, out: Path, *settings: str, **given: Any) -> Tuned:
    """A small search over SPACE."""
    return api.tune(
        data / "train.jsonl",
        valid=data / "valid.jsonl",
        out=out,
        settings=(*SETTINGS, f"cache={data.parent / 'cache'}", *settings),
        **({"space": data / "space.yaml", "trials": 6, "seeds": 1} | given),
    )


MakePlan = Callable[..., Plan]
"""(settings, ...) -> a Plan on the vectors."""
