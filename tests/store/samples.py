"""Rows for tests: answer number n was given n seconds after NOON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from moodal.store.rows import Judgement, Served

NOON = 1_700_000_000.0


def served(n: int, **changes: Any) -> Served:
    row = Served(
        id=f"{n:032x}",
        at=NOON + n,
        model="0123456789ab",
        source="http",
        caller="",
        label="positive",
        value=None,
        said=None,
        confidence=0.75,
        probabilities={"negative": 0.25, "positive": 0.75},
        modalities="text",
        contributions={"text": 0.25},
        abstain=False,
        reason="",
        language="en",
        measures={"text.length": 3.0},
        seconds=0.002,
    )
    return replace(row, **changes)


def judgement(n: int, prediction: int, **changes: Any) -> Judgement:
    """Judgement number n, n seconds after one o'clock, that `prediction` was right."""
    row = Judgement(
        id=f"{n:032x}",
        prediction=f"{prediction:032x}",
        at=NOON + 3_600 + n,
        label="positive",
        comment="",
        caller="",
        by="user",
    )
    return replace(row, **changes)
