"""The documents: generated pages are current, links lead somewhere, defaults are the code's."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from moodal.config import Run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
STAGES = (
    "data",
    "preprocess",
    "model",
    "training",
    "tuning",
    "evaluation",
    "bundle",
    "cli",
    "architecture",
)

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_TABLE = re.compile(r"^\| setting \| default \|.*\n((?:\|.*\n)+)", re.MULTILINE)
_ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \|", re.MULTILINE)


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Of each heading, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(prose(page)))
    return {title.strip().replace(" ", "-") for title in plain}


def defaults() -> dict[str, Any]:
    """ "stage.name" -> default, as YAML would write it, of every setting there is."""
    plain = Run().model_dump(mode="json")
    found: dict[str, Any] = {}
    for name, field in Run.model_fields.items():
        if isinstance(field.default, BaseModel):
            found |= {f"{name}.{inner}": value for inner, value in plain[name].items()}
        else:
            found[name] = plain[name]
    return found


def documented() -> list[tuple[str, Any]]:
    """(setting, default) of every table of settings; `*_encoder` stands for the three of them."""
    rows: list[tuple[str, Any]] = []
    for page in DOCS.glob("*.md"):
        for name, cell in _ROW.findall("".join(_TABLE.findall(prose(page)))):
            parts = ("text", "image", "audio") if name.startswith("*") else ("",)
            rows += [(name.replace("*", part), yaml.safe_load(cell)) for part in parts]
    return rows


def test_there_is_a_page_for_every_stage() -> None:
    assert {page.stem for page in PAGES} >= {*STAGES, "README", "README.zh", "CHANGELOG"}


def test_the_page_of_commands_is_current() -> None:
    generate = runpy.run_path(str(DOCS / "generate_cli.py"))
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == generate["page"](), (
        "run python docs/generate_cli.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_every_setting_is_documented_once_with_its_default() -> None:
    rows = documented()
    assert len(rows) == len(dict(rows)), "a setting stands in two tables"
    assert dict(rows) == defaults()


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_first_commands_of_a_readme_are_all_a_new_machine_needs(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    first = _FENCE.search(text)
    assert first
    assert first[0].splitlines()[1:-1] == ["make demo", "make test"]
