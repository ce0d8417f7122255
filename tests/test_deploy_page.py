"""docs/deploy.md says what is so: defaults, arguments of the image, commands that can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from moodal.cli import cli
from moodal.serve.settings import Serve

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def table(head: str) -> dict[str, Any]:
    """First column -> second, of the table that begins with these titles."""
    rows = re.search(rf"^\| {head} \| default \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert rows, f"no table of {head}"
    cells = re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", rows[1], re.MULTILINE)
    return {name: yaml.safe_load(cell.strip("` ")) for name, cell in cells}


def test_every_setting_of_the_service_stands_there_with_its_default() -> None:
    plain = Serve().model_dump(mode="json")
    limits = plain.pop("limits")
    assert table("key") == plain | {f"limits.{name}": value for name, value in limits.items()}


def test_every_argument_of_the_image_stands_there_with_its_default() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert table("build argument") == dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))


def commands() -> Iterator[list[str]]:
    """What is typed after `moodal`, in whichever container."""
    for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for n, word in enumerate(words[:-1]):
                if Path(word).name == "moodal" and words[n + 1] in cli.commands:
                    yield words[n + 1 :]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_can_be_typed(words: list[str]) -> None:
    command: click.Command = cli
    group = click.Context(cli, **cli.context_settings)
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, words, parent=group)


def test_the_commands_are_found() -> None:
    assert {words[0] for words in commands()} >= {"keys", "promote", "rollback", "monitor"}
