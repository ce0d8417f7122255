"""The vectors of searches.py, and one search on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from searches import SETTINGS, SPACE, MakePlan, tune, vectors

from moodal import config
from moodal.tuning.plan import Plan
from moodal.tuning.result import Tuned
from tests.postgres import postgres  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = vectors(tmp_path_factory.mktemp("vectors") / "data")
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")
    return folder


@pytest.fixture
def make_plan(data: Path, tmp_path: Path) -> MakePlan:
    """(settings, ...) -> a Plan on the vectors."""

    def make(*settings: str, **given: Any) -> Plan:
        run = config.load(None, (*SETTINGS, f"cache={tmp_path / 'cache'}", *settings))
        given = {"file": data / "train.jsonl", "valid": data / "valid.jsonl"} | given
        return Plan(**({"out": tmp_path / "out", "run": run} | given))

    return make


@pytest.fixture(scope="session")
def found(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """One search for the whole test run: read its folder, never write to it."""
    return tune(data, tmp_path_factory.mktemp("found") / "tuned", trials=12, seeds=2)
