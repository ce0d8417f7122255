"""`moodal serve` and `moodal keys`, as far as they go without a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from moodal.cli import cli
from moodal.errors import CapacityError, ConfigError
from moodal.serve import run
from moodal.serve.settings import Serve


def moodal(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_keys_are_made_listed_and_removed(tmp_path: Path) -> None:
    file = str(tmp_path / "keys")
    made = moodal("keys", "add", file, "ann")
    key = made.stdout.strip()
    assert key.startswith("moodal_")
    assert key not in (tmp_path / "keys").read_text()
    assert json.loads(moodal("keys", "add", file, "bob", "--json").stdout)["name"] == "bob"
    assert moodal("keys", "list", file).stdout == "ann\nbob\n"
    assert json.loads(moodal("keys", "list", file, "--json").stdout) == ["ann", "bob"]
    assert json.loads(moodal("keys", "remove", file, "ann", "--json").stdout) == {"removed": "ann"}
    assert moodal("keys", "list", file).stdout == "bob\n"
    with pytest.raises(ConfigError, match="has no key 'ann'"):
        moodal("keys", "remove", file, "ann")


def test_options_lie_over_settings_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Serve] = []
    monkeypatch.setattr(run, "run", found.append)
    (tmp_path / "s.yaml").write_text("port: 1\nworkers: 3\nbatch: 8\n")
    moodal(
        "serve", "--config", str(tmp_path / "s.yaml"), "--set", "port=2", "--set", "workers=4",
        "--port", "5", "--keep-inputs", "in", "--keep-days", "3", "--store", "sqlite:///x.sqlite",
    )  # fmt: skip
    assert (found[0].port, found[0].workers, found[0].batch) == (5, 4, 8)
    assert (found[0].keep_inputs, found[0].keep_days) == (Path("in"), 3)
    moodal("serve")
    assert found[1] == Serve()


def test_another_host_needs_keys() -> None:
    with pytest.raises(ConfigError, match="moodal keys add FILE NAME"):
        moodal("serve", "--host", "0.0.0.0")


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "moodal.serve.run")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(
        CapacityError, match=r"needs the package uvicorn: pip install 'moodal\[serve\]'"
    ):
        moodal("serve")
