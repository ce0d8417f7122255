"""The command line: each command parses, calls one library function and prints."""

from __future__ import annotations

import io
import sys

import click

from moodal.cli import service
from moodal.cli.comparing import compare
from moodal.cli.compression import compress
from moodal.cli.data import data
from moodal.cli.models import evaluate, info, predict, train
from moodal.cli.tuning import tune
from moodal.errors import MoodalError


def main() -> None:
    """Exit code 0 done, 1 the input is wrong, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        # To a file or a program, UTF-8 whatever the machine is set to; a terminal knows its own.
        if isinstance(stream, io.TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        cli()
    except MoodalError as error:
        click.echo(f"moodal: {error}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="moodal")
def cli() -> None:
    """Texts, images and recordings in, a sentiment model that you own out."""


for command in (data, train, tune, compress, compare, evaluate, predict, info, *service.COMMANDS):
    cli.add_command(command)
