"""Settings: file < command line; unsafe ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodal.errors import ConfigError
from moodal.serve.settings import Serve, is_loopback, load


def test_the_command_line_lies_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("port: 1\nworkers: 2\nlimits:\n  rate: 5\n  records: 3\nkeep_inputs:\n")
    found = load(file, ["limits.rate=7", "batch=4"], over={"port": 9})
    assert (found.port, found.workers, found.batch) == (9, 2, 4)
    assert (found.limits.rate, found.limits.records, found.limits.seconds) == (7, 3, 120)
    assert load() == Serve()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("port", "has no '='"),
        ("port=x", "port='x': "),
        ("port=[", "is not YAML"),
        ("colour=red", "colour: there is no such setting, only model, "),
        ("limits.colour=red", "limits.colour: there is no such setting, only megabytes, "),
        ("limits.records=300", "limits.records=300 is above queue=256"),
        ("limits=3", "limits=3: "),
        ("host=0.0.0.0", "moodal keys add FILE NAME"),
        ("limits.seconds=-1", "limits.seconds=-1: "),
    ],
)
def test_what_is_wrong_is_told(setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [setting])
    assert sentence in str(caught.value)


@pytest.mark.parametrize("content", ["[1]", "a: [", "\udcff"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(content, errors="surrogateescape")
    with pytest.raises(ConfigError, match=r"serve\.yaml"):
        load(file)
    with pytest.raises(ConfigError, match="absent"):
        load(tmp_path / "absent")


def test_without_keys_only_this_machine_may_ask(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(ValueError, match="can be reached from other machines"):
            Serve(host=host)
        assert Serve(host=host, api_keys=tmp_path / "keys").host == host
    for host in ("127.0.0.1", "::1", "localhost"):
        assert Serve(host=host).host == host


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.1.2.3", True), ("[::1]", True), ("a.localhost", True), ("", False),
        ("127.0.0.1.x", False), ("localhost.x", False), ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False), ("2130706433", False),
    ],
)  # fmt: skip
def test_loopback(host: str, is_ours: bool) -> None:
    assert is_loopback(host) == is_ours


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "moodal.spool"),
        ({"store": "sqlite:////var/lib/m/j.sqlite?timeout=3"}, "/var/lib/m/j.spool"),
        ({"store": "postgresql://u@h/d"}, "moodal-spool"),
        ({"spool": "s"}, "s"),
    ],
)
def test_the_spool_lies_beside_the_journal(settings: dict[str, str], expected: str) -> None:
    assert Serve.model_validate(settings).spool_folder == Path(expected)
