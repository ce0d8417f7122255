"""moodal tune: settings that beat the defaults, or the word that none does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from moodal.cli.options import PATH, columns_as_settings, columns_option, json_option
from moodal.cli.show import json_text
from moodal.types import TaskName


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
@click.option(
    "--task", type=click.Choice(get_args(TaskName)), help="What is answered; the setting task."
)
@click.option("--config", "run", type=PATH, help="YAML file of settings.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="e.g. train.epochs=5")
@click.option("--label", metavar="COLUMN", help="Column that holds the answer.")
@click.option("--target", metavar="COLUMN", help="The same, where the answer is a text.")
@click.option("--group", metavar="COLUMN", help="Column of groups, e.g. speakers.")
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
    columns = columns_as_settings(renames, label=label, target=target, group=group)
    settings = (*([f"task={task}"] if task else []), *columns, *settings)
    from moodal.api import tune as run_tune

    found = run_tune(file, settings=settings, **options)
    from moodal.tuning.report import table

    click.echo(json_text(found.to_dict()) if as_json else table(found))
