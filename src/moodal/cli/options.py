"""Options that several commands share, and how what they are given is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from moodal.types import TaskName

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def columns_option(command: Command) -> Command:
    return click.option(
        "--column",
        "renames",
        multiple=True,
        metavar="OURS=THEIRS",
        help="Name of a column in the file, e.g. text=review; may be repeated.",
    )(command)


def model_option(command: Command) -> Command:
    return click.option(
        "--model",
        type=PATH,
        help="Folder of the model; without it, the one that comes with the package.",
    )(command)


def run_options(command: Command) -> Command:
    """Of every command that trains: task, config, settings, label, target, group."""
    tasks = click.Choice(get_args(TaskName))
    for option in (
        click.option("--group", metavar="COLUMN", help="Column of groups, e.g. speakers."),
        click.option("--target", metavar="COLUMN", help="The same, where the answer is a text."),
        click.option("--label", metavar="COLUMN", help="Column that holds the answer."),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="e.g. train.epochs=5"
        ),
        click.option("--config", "run", type=PATH, help="YAML file of settings."),
        click.option("--task", type=tasks, help="What is answered; the setting task."),
    ):  # the last is shown first
        command = option(command)
    return command


def pairs_of(renames: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for rename in renames:
        ours, equals, theirs = rename.partition("=")
        if not equals:
            raise click.UsageError(f"--column {rename!r}: write it as text=review")
        pairs[ours] = theirs
    return pairs


def columns_of(renames: Iterable[str]) -> Any:
    from moodal import config

    return config.parse({"columns": pairs_of(renames)}).columns


def as_settings(
    renames: Iterable[str],
    *,
    task: str | None,
    label: str | None,
    target: str | None,
    group: str | None,
) -> tuple[str, ...]:
    """--task, --column, --label or --target, and --group as settings of a run."""
    if label and target:
        raise click.UsageError("--label and --target name the same column; give one of them")
    named = {"label": label or target, "group": group}
    renamed = pairs_of(renames) | {ours: theirs for ours, theirs in named.items() if theirs}
    # A name is text: "no" and "2024" would be something else in YAML, but not as JSON writes them.
    columns = (f"columns.{ours}={json.dumps(theirs)}" for ours, theirs in renamed.items())
    return (*([f"task={task}"] if task else []), *columns)
