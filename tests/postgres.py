"""A real PostgreSQL server for tests, from the system's own binaries, on a socket in a folder.

In a conftest.py:  from tests.postgres import postgres  # noqa: F401
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

_names = itertools.count()


class Server:
    """A server that can be stopped and started; it ends with this process, however that ends."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._user = _user()
        # Not pytest's folder: that is closed to the server's user.
        self.folder = Path(tempfile.mkdtemp(prefix="moodal-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", self._data, "-U", "moodal", "-A", "trust", "--no-sync",
                  "--locale=C", "--encoding=UTF8")  # fmt: skip
        self.start()

    def start(self) -> None:
        """Returns once it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", self._data, "-k", str(self.folder),
                              "-c", "listen_addresses=", "-c", "fsync=off"),
                cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        ready = self._command("pg_isready", "-q", "-h", str(self.folder))
        while subprocess.run(ready, cwd=self.folder, check=False).returncode != 0:
            assert self._process.poll() is None, self._log.read_text()

    def stop(self) -> None:
        """At once, its clients' connections broken, as when the machine goes down."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"journal_{next(_names)}"
        self._run("createdb", "-h", str(self.folder), "-U", "moodal", name)
        return f"postgresql://moodal@/{name}?host={self.folder}"

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            self._command(*words), cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _command(self, program: str, *words: str) -> list[str]:
        become = ["setpriv", "--pdeathsig", "INT"]
        if self._user is not None:
            user, group = str(self._user.pw_uid), str(self._user.pw_gid)
            become += ["--reuid", user, "--regid", group, "--clear-groups"]
        return [*become, str(self._binaries / program), *words]


@functools.cache
def server() -> Server:
    """The one server of this process. Skips the test where PostgreSQL is not installed."""
    found = binaries()
    if found is None or shutil.which("setpriv") is None:
        pytest.skip("no PostgreSQL server here: install the package postgresql")
    made = Server(found)
    atexit.register(made.remove)
    return made


@pytest.fixture(scope="session")
def postgres() -> Callable[[], str]:
    """Makes a new, empty database each time it is called; gives its URL."""
    return server().database


def binaries() -> Path | None:
    """Where initdb and postgres are: on the PATH, or where Debian puts them, the newest first."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    folders = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max((path.parent for path in folders), default=None, key=_version)


def _version(folder: Path) -> float:
    return float(folder.parent.name)


def _user() -> pwd.struct_passwd | None:
    """Whom to run as: PostgreSQL will not be run by root."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name: user for user in pwd.getpwall()}
    return names.get("postgres", names["nobody"])
