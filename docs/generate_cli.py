"""The commands' own help as docs/cli.md: python docs/generate_cli.py; a test keeps it current."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from moodal.cli import cli

PAGE = Path(__file__).with_name("cli.md")
COLUMNS = 88
"""Width of the help; fixed, so that the page is the same in every terminal."""
HEAD = """\
# The command line

Written by [generate_cli.py](generate_cli.py) from the commands' own help: change that, not this.

* Exit code 0: done. 1: the input is wrong (a file, a setting, a model); one sentence on standard
  error says what, and what to do. 2: wrong usage.
* `--json` prints one JSON object for programs. Progress bars and complaints go to standard error.
* `--against`, `--column` and `--set` may be given several times.
* `FILE` is CSV, TSV, JSONL (`.jsonl`, `.ndjson`) or Parquet. `moodal predict` also takes `-`,
  standard input.
* `--set KEY=VALUE` takes every setting named on these pages: [data](data.md),
  [preprocessing](preprocess.md), [model](model.md), [training](training.md),
  [evaluation](evaluation.md). The value is read as YAML. A file given with `--config` holds the
  same settings as a tree; the command line lies over it.
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = (f"## {name}\n\n```text\n{text}\n```\n" for name, text in helps())
    return "\n".join((HEAD, *parts))


def helps() -> Iterator[tuple[str, str]]:
    """(command as it is typed, its help), each group before its commands."""
    waiting: list[tuple[click.Command, click.Context | None]] = [(cli, None)]
    while waiting:
        command, parent = waiting.pop(0)
        settings = command.context_settings | {"terminal_width": COLUMNS}
        name = "moodal" if parent is None else command.name
        context = click.Context(command, parent, info_name=name, **settings)
        yield context.command_path, command.get_help(context)
        if isinstance(command, click.Group):
            waiting[:0] = [(command.commands[name], context) for name in sorted(command.commands)]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
