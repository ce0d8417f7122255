"""The journal's tables as the newest migration leaves them, and rows of ours as rows of theirs.

Mappings are JSON in text columns: alike in both databases, and never parsed unless read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pydantic_core
import sqlalchemy as sa

from moodal.store.rows import Alert, Event, Judgement, Served

METADATA = sa.MetaData()

PREDICTIONS = sa.Table(
    "predictions",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("caller", sa.Text, nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("value", sa.Double),
    sa.Column("said", sa.Text),
    sa.Column("confidence", sa.Double, nullable=False),
    sa.Column("probabilities", sa.Text, nullable=False),
    sa.Column("modalities", sa.Text, nullable=False),
    sa.Column("contributions", sa.Text, nullable=False),
    sa.Column("abstain", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("measures", sa.Text, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("inputs", sa.Text, nullable=False),
    sa.Column("surprise", sa.Double, nullable=False, server_default="0"),
    sa.Column("disagreement", sa.Double, nullable=False, server_default="0"),
    sa.Column("disputed", sa.Boolean, nullable=False, server_default=sa.false()),
)
FEEDBACK = sa.Table(
    "feedback",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("prediction", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("caller", sa.Text, nullable=False),
    sa.Column("judge", sa.Text, nullable=False),
)
MODELS = sa.Table(
    "models",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("change", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("numbers", sa.Text, nullable=False),
)
ALERTS = sa.Table(
    "alerts",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("raised", sa.Double, nullable=False),
    sa.Column("cleared", sa.Double),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("bound", sa.Double, nullable=False),
    sa.Column("sentence", sa.Text, nullable=False),
    sa.Column("sentence_zh", sa.Text, nullable=False, server_default=""),
)

_SERVED = tuple(field.name for field in fields(Served))
SERVED = tuple(PREDICTIONS.c[name] for name in _SERVED)
"""The columns that make a Served, in its order."""


def clean(text: str) -> str:
    """Text as both databases hold it: no NUL, no half of a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def dumps(values: Mapping[str, Any]) -> str:
    return pydantic_core.to_json(values, inf_nan_mode="null").decode("utf-8")


def loads(text: str) -> dict[str, Any]:
    """The mapping again, less what was no number."""
    values: dict[str, Any] = pydantic_core.from_json(text)
    if "null" in text:
        return {name: value for name, value in values.items() if value is not None}
    return values


def disagreement(contributions: Mapping[str, float]) -> float:
    """How far the modalities pull against each other: what they cancel of each other's say.

    The lesser of what speaks for the answer and what speaks against it; 0 where all agree.
    """
    for_it = sum(share for share in contributions.values() if share > 0)
    against = -sum(share for share in contributions.values() if share < 0)
    return min(for_it, against)


def disputes(judged: str, *, label: str | None, value: float | None, said: str | None) -> bool:
    """Whether a judgement says other than the answer; a number that is 0.1 % off is the same."""
    if value is None:
        return judged != (said or "" if label is None else label)
    try:
        return not math.isclose(float(judged), value, rel_tol=1e-3, abs_tol=1e-3)
    except ValueError:
        return True


def from_served(row: Served) -> dict[str, object]:
    return {
        "id": clean(row.id),
        "at": row.at,
        "model": clean(row.model),
        "source": row.source,
        "caller": clean(row.caller),
        "label": None if row.label is None else clean(row.label),
        "value": row.value if row.value is None or math.isfinite(row.value) else None,
        "said": None if row.said is None else clean(row.said),
        "confidence": _finite(row.confidence),
        "probabilities": dumps(row.probabilities),
        "modalities": row.modalities,
        "contributions": dumps(row.contributions),
        "abstain": row.abstain,
        "reason": row.reason,
        "language": clean(row.language),
        "measures": dumps(row.measures),
        "seconds": row.seconds,
        "inputs": dumps(row.inputs),
        "surprise": _finite(row.surprise),
        "disagreement": _finite(disagreement(row.contributions)),
    }


def to_served(row: sa.Row[Any]) -> Served:
    values = dict(zip(_SERVED, row, strict=False))
    for name in ("probabilities", "contributions", "measures", "inputs"):
        values[name] = loads(values[name])
    return Served(**values)


def from_judgement(judgement: Judgement) -> dict[str, object]:
    return {
        "id": clean(judgement.id),
        "prediction": clean(judgement.prediction),
        "at": judgement.at,
        "label": clean(judgement.label),
        "comment": clean(judgement.comment),
        "caller": clean(judgement.caller),
        "judge": judgement.by,
    }


def to_judgement(row: Sequence[Any]) -> Judgement:
    """row: the columns of FEEDBACK, in its order."""
    return Judgement(*row)


def from_event(event: Event) -> dict[str, object]:
    return {
        "id": clean(event.id),
        "at": event.at,
        "change": event.change,
        "model": clean(event.model),
        "name": clean(event.name),
        "numbers": dumps(event.numbers),
    }


def to_event(row: sa.Row[Any]) -> Event:
    numbers = pydantic_core.from_json(row.numbers)
    return Event(row.id, row.at, row.change, row.model, row.name, numbers)


def from_alert(alert: Alert) -> dict[str, object]:
    return {
        "id": clean(alert.id),
        "name": clean(alert.name),
        "raised": alert.raised,
        "cleared": alert.cleared,
        "value": alert.value,
        "bound": alert.limit,
        "sentence": clean(alert.sentence),
        "sentence_zh": clean(alert.sentence_zh),
    }


def to_alert(row: sa.Row[Any]) -> Alert:
    return Alert(
        id=row.id,
        name=row.name,
        raised=row.raised,
        cleared=row.cleared,
        value=row.value,
        limit=row.bound,
        sentence=row.sentence,
        sentence_zh=row.sentence_zh,
    )


def _finite(number: float) -> float:
    return number if math.isfinite(number) else 0.0
