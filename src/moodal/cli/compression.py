"""moodal compress: a smaller and faster model, within a loss that is allowed."""

from __future__ import annotations

from typing import Any

import click

from moodal.cli.options import PATH, columns_option, json_option, pairs_of
from moodal.cli.show import json_text


@click.command()
@click.option("--model", required=True, type=PATH, help="Folder of the model to compress.")
@click.option("--train", required=True, type=PATH, help="Manifest to learn from.")
@click.option("--valid", required=True, type=PATH, help="Manifest to judge by.")
@click.option("--out", required=True, type=PATH, help="Folder of steps, model and report.")
@click.option(
    "--steps",
    default="distil,prune,quantise",
    show_default=True,
    metavar="NAMES",
    help="In order; also prune-weights.",
)
@click.option(
    "--max-drop", default=0.01, show_default=True, help="Loss of score that is allowed, in units."
)
@click.option("--target-ms", type=float, help="p50 of the model alone, one thread.")
@click.option("--target-mb", type=float, help="Size of the folder, 10^6 bytes.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    type=PATH,
    metavar="MODEL",
    help="To learn from instead of --model; may be repeated.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="e.g. text_encoder.width=32"
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of all that is drawn."
)
@columns_option
@json_option
@click.pass_context
def compress(
    context: click.Context, /, steps: str, renames: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Distil, prune and quantise a model; exit code 1 where a budget is missed.

    The same command again goes on where it was stopped.
    """
    from moodal.api import compress as run_compression

    names = [name.strip() for name in steps.split(",") if name.strip()]
    found = run_compression(steps=names, renames=pairs_of(renames), **options)
    from moodal.compress.report import table

    click.echo(json_text(found.to_dict()) if as_json else table(found))
    if not found.met:
        context.exit(1)
