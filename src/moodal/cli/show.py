"""What commands print: JSON for programs, lines for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click


def show(values: Mapping[str, Any], *, as_json: bool) -> None:
    click.echo(json_text(values) if as_json else flat(values))


def flat(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in values.items())


def json_text(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False, default=str)


_REASONS = {
    "unsure": "abstains: not sure enough / 弃权：把握不足",
    "unfamiliar": "abstains: most of these words are unknown to the model / 弃权：多数词语未学过",
    "empty": "abstains: nothing was said / 弃权：没有内容",
}


def answer_text(answer: Mapping[str, Any]) -> str:
    said = answer["label"] if answer["text"] is None else answer["text"]
    if said is None:
        lines = [f"{answer['value']:.4g}"]
    else:
        why = f"  ({_REASONS[answer['reason']]})" if answer["reason"] else ""
        lines = [f"{said}  {answer['confidence']:.3f}{why}"]
        lines += [f"  {label}  {p:.3f}" for label, p in answer["probabilities"].items()]
    shares = (f"{m} {share:+.3f}" for m, share in answer["contributions"].items())
    lines.append("from  " + ", ".join(shares))
    words = sorted(answer["words"], key=lambda w: -abs(w[1]))[:8]
    if words:
        lines.append("words " + ", ".join(f"{word} {weight:+.3f}" for word, weight in words))
    timed = [t for t in answer["tokens"] if t["start"] is not None]
    lines += [f"  {t['start']:6.2f} s  {t['text']}  {t['confidence']:.3f}" for t in timed]
    cells = [(w, r, c) for r, row in enumerate(answer["regions"], 1) for c, w in enumerate(row, 1)]
    if cells:
        weight, row, column = max(cells)
        grid = f"{len(answer['regions'])} x {len(answer['regions'][0])}"
        lines.append(f"region row {row}, column {column} of {grid} {weight:+.3f}  (--heatmap FILE)")
    return "\n".join(lines)
