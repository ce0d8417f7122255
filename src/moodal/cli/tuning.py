"""moodal tune: settings that beat the defaults, or the word that none does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from moodal.cli.options import PATH, as_settings, columns_option, json_option, run_options
from moodal.cli.show import json_text


@click.command()
@click.argument("file", type=PATH)
@click.option("--valid", required=True, type=PATH, help="Manifest to choose and to compare by.")
@click.option("--out", required=True, type=PATH, help="Folder of trials, model and report.")
@click.option("--trials", default=50, show_default=True, type=click.IntRange(1), help="In all.")
@click.option("--time", metavar="TIME", help="No trial begins after it: 90s, 30m, 1h, 2d.")
@click.option("--space", type=PATH, metavar="FILE", help="YAML of what to search.")
@click.option("--storage", metavar="URL", help="Shared by processes: sqlite:///FILE, postgresql://")
@click.option(
    "--seeds",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Trainings of the best settings, and of the defaults, for the comparison.",
)
@click.option(
    "--whole", is_flag=True, help="Tune and compare on the same validation rows, which flatters."
)
@run_options
@click.option(
    "--from",
    "start",
    multiple=True,
    type=PATH,
    metavar="MODEL",
    help="Start every trial from a trained model; may be repeated.",
)
@columns_option
@json_option
def tune(
    file: Path,
    task: str | None,
    settings: tuple[str, ...],
    label: str | None,
    target: str | None,
    group: str | None,
    renames: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Search for settings that beat the defaults on FILE, and keep the better model.

    The same command again goes on where it was stopped.
    """
    named = as_settings(renames, task=task, label=label, target=target, group=group)
    from moodal.api import tune as run_tune

    found = run_tune(file, settings=(*named, *settings), **options)
    from moodal.tuning.report import table

    click.echo(json_text(found.to_dict()) if as_json else table(found))
