"""What can be known of deploy/ without an engine; docs/deploy.md says what was run in one."""

from __future__ import annotations

import configparser
import fnmatch
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from moodal.cli import cli
from moodal.cli import service as commands
from moodal.serve.keys import Keys
from moodal.serve.settings import Serve, is_loopback, load

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SERVICES = ("moodal", "db", "prometheus", "grafana")
SPARE_SECONDS = 5
"""Between the end that a service makes by itself and the one that is made of it."""
EXPOSURE = 10
"""Tenths that systemd-analyze may find; its best units have 1 to 2, an untended one 96."""


def instructions() -> Iterator[tuple[str, str]]:
    """(instruction, the rest), continued lines joined, in order."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def final(name: str) -> list[str]:
    """Of the stage that becomes the image."""
    found = list(instructions())
    start = max(n for n, (instruction, _) in enumerate(found) if instruction == "FROM")
    return [rest for instruction, rest in found[start:] if instruction == name]


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["project"])


def arguments() -> dict[str, str]:
    pairs = (rest.partition("=") for name, rest in instructions() if name == "ARG")
    return {name: value for name, _, value in pairs}


def test_the_extras_of_the_image_exist_and_bring_no_torch() -> None:
    extras = project()["optional-dependencies"]
    chosen = arguments()["EXTRAS"].split(",")
    assert {"serve", "postgres"} <= set(chosen) <= set(extras)
    wanted = [name for extra in chosen for name in extras[extra]]
    # Another extra of moodal's own would be asked of the package index.
    assert not [name for name in wanted if name.startswith(("torch", "moodal"))]


def test_the_base_is_the_official_one_and_new_enough() -> None:
    image, _, version = arguments()["PYTHON"].partition(":")
    assert image == "python"
    assert version.endswith("-slim")
    major, minor = map(int, version.removesuffix("-slim").split("."))
    assert f">={major}.{minor}" == project()["requires-python"]
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert bases == ["${PYTHON}", "parts", "${PYTHON}"]


def test_the_image_runs_as_a_number_that_is_not_root_and_installs_nothing() -> None:
    [user] = final("USER")
    assert min(map(int, user.split(":"))) > 0
    assert not re.search(r"\b(pip|apt-get|gcc|curl|wget)\b", " ".join(final("RUN")))
    assert all(rest.startswith("--from=") for rest in final("COPY"))


def test_the_image_stops_gently_and_tells_how_it_fares_without_curl() -> None:
    assert final("STOPSIGNAL") == ["SIGTERM"]
    assert final("EXPOSE") == ["8000"]
    [check] = final("HEALTHCHECK")
    command = json.loads(check.partition(" CMD ")[2])
    assert command[0].endswith("/python")
    compile(command[-1], "HEALTHCHECK", "exec")
    assert "http://127.0.0.1:8000/readyz" in command[-1]
    assert "OMP_NUM_THREADS=1" in " ".join(final("ENV"))


def test_the_image_serves_where_it_may_write() -> None:
    settings = served(json.loads(final("CMD")[0]))
    [folder] = final("WORKDIR")
    assert final("VOLUME") == [folder]
    assert not is_loopback(settings.host)
    assert settings.api_keys is not None
    for path in (settings.api_keys, settings.spool_folder, *sqlite(settings)):
        assert Path(folder, path).is_relative_to(folder)


def served(command: list[str], **paths: Path) -> Serve:
    """Settings that a command line of `moodal serve` comes to, by the command's own parser."""
    assert command[0] == "serve"
    words = [str(paths.get(a, a)) for a in command[1:]]
    # A command keeps the help option of its first context: without the group's it has no -h.
    group = click.Context(cli, **cli.context_settings)
    given = commands.serve.make_context("serve", words, parent=group).params
    file, settings = given.pop("config_file"), given.pop("settings")
    return load(file, settings, over={k: v for k, v in given.items() if v is not None})


def sqlite(settings: Serve) -> list[Path]:
    scheme, _, path = settings.store.partition(":///")
    return [Path(path)] if scheme == "sqlite" else []


def ignored(path: str) -> bool:
    """As .dockerignore has it: the last line that matches a path, or a folder of it, decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            parts = Path(path).parts
            heads = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
            names = parts if line.startswith("**/") else heads
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                out = not line.startswith("!")
    return out


def test_nothing_goes_to_the_engine_but_what_the_wheel_is_made_of() -> None:
    copied = [w for n, rest in instructions() if n == "COPY" for w in rest.split()[:-1]]
    sources = [name for name in copied if (ROOT / name).exists()]
    assert {"src", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} == set(sources)
    assert not [name for name in sources if ignored(name)]
    kept = {path.name for path in ROOT.iterdir() if not ignored(path.name)}
    assert kept <= set(sources)


def test_data_history_and_secrets_stay_out_of_the_image() -> None:
    for path in (".git/config", ".venv/bin/python", "shared/data/train.csv", "demo/moodal.sqlite"):
        assert ignored(path), path
    for path in ("deploy/secrets/postgres_password", "deploy/.env", "src/moodal/__pycache__/a.pyc"):
        assert ignored(path), path


# --- compose.yaml


def compose() -> dict[str, Any]:
    """With each ${NAME:-value} as value."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)))


def service(name: str) -> dict[str, Any]:
    return dict(compose()["services"][name])


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    found = service(name)
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert int(found["user"].split(":")[0]) > 0
    assert found["restart"] == "unless-stopped"
    assert set(found["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert set(found["logging"]["options"]) == {"max-size", "max-file"}
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(found)
    assert "docker.sock" not in json.dumps(found)
    # moodal's check is its image's, and so is its version.
    assert ("healthcheck" in found) == (name != "moodal")
    assert re.search(r":v?\d", found["image"]) or name == "moodal"


def test_only_the_service_and_the_dashboard_can_be_reached_and_from_this_machine_alone() -> None:
    published = {name: service(name).get("ports", []) for name in SERVICES}
    assert {name for name, ports in published.items() if ports} == {"moodal", "grafana"}
    assert all(is_loopback(p.split(":")[0]) for ports in published.values() for p in ports)
    assert set(published) == set(compose()["services"])
    assert compose()["networks"]["inside"] == {"internal": True}
    for name in ("db", "prometheus"):
        assert service(name)["networks"] == ["inside"]


def test_a_container_starts_when_what_it_needs_is_ready() -> None:
    waits = {name: service(name).get("depends_on", {}) for name in SERVICES}
    assert waits["moodal"] == {"db": {"condition": "service_healthy"}}
    assert waits["grafana"] == {"prometheus": {"condition": "service_healthy"}}
    assert set(waits["prometheus"]) == {"moodal"}


def mounts() -> list[tuple[str, str, str]]:
    """(service, source, where) of every volume."""
    lines = [(name, line) for name in SERVICES for line in service(name).get("volumes", [])]
    return [(name, *line.split(":")[:2]) for name, line in lines]


def test_every_mounted_file_is_here_and_every_volume_has_a_name() -> None:
    made = {"./models"}  # by setup.sh, and by the engine
    for _, source, _ in mounts():
        if source.startswith("."):
            assert source in made or (DEPLOY / source).exists(), source
        else:
            assert source in compose()["volumes"]
    used = {source for _, source, _ in mounts() if not source.startswith(".")}
    assert used == set(compose()["volumes"])


def test_no_password_is_an_environment_variable() -> None:
    for name in SERVICES:
        for variable, value in service(name).get("environment", {}).items():
            if re.search("PASSWORD|KEY|SECRET|TOKEN|PGSERVICE", variable):
                assert value.removeprefix("/run/secrets/") in service(name)["secrets"]
    assert all(found["file"].startswith("./secrets/") for found in compose()["secrets"].values())


def test_the_settings_in_the_container_are_the_services_own() -> None:
    settings = container()
    assert not is_loopback(settings.host)
    assert settings.port == 8000
    volume = next(where for name, source, where in mounts() if source == "state")
    for path in (settings.api_keys, settings.spool, settings.keep_inputs):
        assert path is None or path.is_relative_to(volume)
    grace = int(service("moodal")["stop_grace_period"].removesuffix("s"))
    assert grace >= settings.stop_seconds + SPARE_SECONDS


def container() -> Serve:
    return served(service("moodal")["command"], **{"/etc/moodal/serve.yaml": DEPLOY / "serve.yaml"})


def test_prometheus_has_the_key_that_the_metrics_ask_for() -> None:
    assert container().private_metrics
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    jobs = [job for job in config["scrape_configs"] if "moodal:8000" in json.dumps(job)]
    assert jobs
    for job in jobs:
        assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    assert service("prometheus")["secrets"] == ["metrics_key"]


def test_the_example_of_variables_names_each_with_its_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    lines = (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert example == dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert example["MOODAL_EXTRAS"] == arguments()["EXTRAS"]


# --- setup.sh


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A copy of deploy/, and beside it an engine that can do nothing but `moodal keys`."""
    folder = tmp_path / "deploy"
    folder.mkdir()
    shutil.copy(DEPLOY / "setup.sh", folder)
    engine = tmp_path / "engine"
    engine.write_text(
        "#!/bin/sh\n"
        'test "$1 $2 $3 $4 $5" = "run --rm --no-deps -T moodal" || exit 9\n'
        "shift 5\n"
        f'exec {shlex.quote(sys.executable)} -m moodal.cli "$1" "$2" {tmp_path}/api_keys "$4"\n',
        encoding="utf-8",
    )
    engine.chmod(0o755)
    return folder


def set_up(machine: Path) -> str:
    done = subprocess.run(
        [str(machine / "setup.sh")],
        env={**os.environ, "COMPOSE": str(machine.parent / "engine")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def secrets(machine: Path) -> Mapping[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in (machine / "secrets").iterdir()}


def test_set_up_makes_every_secret_once(machine: Path) -> None:
    shown = set_up(machine)
    made = secrets(machine)
    assert set(made) == set(compose()["secrets"])
    assert stat.S_IMODE((machine / "secrets").stat().st_mode) == 0o700
    assert len(made["postgres_password"]) == len(made["grafana_password"]) == 48
    assert made["postgres_password"] != made["grafana_password"]

    keys = Keys(machine.parent / "api_keys")
    mine = next(line for line in shown.splitlines() if line.startswith("moodal_"))
    for key, name in [(made["metrics_key"].strip(), "prometheus"), (mine, "admin")]:
        assert keys.caller({b"x-api-key": key.encode()}) == name

    again = set_up(machine)
    assert secrets(machine) == made
    assert "moodal_" not in again


def test_the_service_finds_the_database_by_what_set_up_wrote(machine: Path) -> None:
    set_up(machine)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(secrets(machine)["pg_service"])
    database = service("db")["environment"]
    name = container().store.removeprefix("postgresql:///?service=")
    assert dict(parser[name]) == {
        "host": "db",
        "dbname": database["POSTGRES_DB"],
        "user": database["POSTGRES_USER"],
        "password": secrets(machine)["postgres_password"],
    }


# --- moodal.service


def unit() -> dict[str, list[str]]:
    """Options of [Service], each with its values in order."""
    text = (DEPLOY / "moodal.service").read_text(encoding="utf-8")
    section = text.partition("[Service]")[2].partition("\n[")[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_is_confined() -> None:
    wanted = {
        "DynamicUser": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "IPAddressDeny": "any",
        "LoadCredential": "api_keys:/etc/moodal/api_keys",
        "Restart": "on-failure",
        "KillMode": "mixed",
    }
    assert {name: "".join(unit()[name]) for name in wanted} == wanted


def test_the_unit_serves_where_it_may_write() -> None:
    options = unit()
    program, *command = shlex.split(options["ExecStart"][0].replace("%d", "/run/credentials"))
    assert program == "/opt/moodal/bin/moodal"
    settings = served(command)
    assert is_loopback(settings.host)
    assert settings.api_keys == Path("/run/credentials/api_keys")
    [folder] = options["WorkingDirectory"]
    assert folder == f"/var/lib/{options['StateDirectory'][0]}"
    assert all(path.is_relative_to(folder) for path in (settings.spool_folder, *sqlite(settings)))
    assert int(options["TimeoutStopSec"][0]) >= settings.stop_seconds + SPARE_SECONDS
    assert options["SocketBindAllow"] == [f"tcp:{settings.port}"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "moodal.service"
    text = (DEPLOY / "moodal.service").read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/moodal/bin/moodal", "/bin/true"), encoding="utf-8")
    for options in (["verify"], ["security", "--offline=yes", f"--threshold={EXPOSURE}"]):
        command = ["systemd-analyze", "--no-pager", *options, str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # A misspelt option is a remark, not an error.
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


# --- all of it


def texts() -> list[Path]:
    found = [path for path in DEPLOY.rglob("*") if path.is_file()]
    mine = [
        p for p in found if not {"secrets", "models", ".env"} & set(p.relative_to(DEPLOY).parts)
    ]
    return [*mine, ROOT / ".dockerignore", ROOT / "docs" / "deploy.md"]


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_no_file_names_a_package_index_or_another_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"index-url|find-links|pypi|/root/(?!\.cache)", text, re.IGNORECASE)
    assert f"{ROOT}/" not in text, "where this checkout happens to lie"
    for host in re.findall(r"\bhttps?://([^/\s\"'`:)]+)", text):
        mine = host in {"127.0.0.1", "localhost", *SERVICES} or host.startswith("$")
        assert mine or host.endswith(("example.org", "grafana.com")), host
