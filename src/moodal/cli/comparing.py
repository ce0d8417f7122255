"""moodal compare: models side by side, and whether they keep a budget."""

from __future__ import annotations

from pathlib import Path

import click

from moodal.cli.options import PATH, columns_option, json_option, pairs_of
from moodal.cli.show import json_text


@click.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option("--test", required=True, type=PATH, help="Manifest of labelled rows.")
@click.option("--out", type=PATH, help="Page to write, FILE.html; FILE.json beside it.")
@click.option("--max-drop", type=click.FloatRange(0), help="Of the score, e.g. 0.01.")
@click.option("--max-ms", type=click.FloatRange(0), help="Of one record, the model alone, p50.")
@click.option("--max-mb", type=click.FloatRange(0), help="Of all files of a model.")
@columns_option
@json_option
def compare(
    models: tuple[Path, ...],
    test: Path,
    out: Path | None,
    max_drop: float | None,
    max_ms: float | None,
    max_mb: float | None,
    renames: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure MODELS side by side: size, memory, speed, score by subset and language.

    The first is what the others are measured against. Exit code 1 where a budget is missed.
    """
    from moodal import api

    budget = {"max_drop": max_drop, "max_ms": max_ms, "max_mb": max_mb}
    found = api.compare(models, test=test, out=out, renames=pairs_of(renames), **budget)
    from moodal.compress.compare_page import table

    click.echo(json_text(found.to_dict()) if as_json else table(found))
    if not found.within:
        click.get_current_context().exit(1)
