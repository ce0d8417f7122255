"""The real command, in processes of its own."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from moodal.errors import CapacityError
from moodal.serve import run
from moodal.serve.settings import Serve
from moodal.store import journal
from tests.serve.conftest import until
from tests.tiny import train_once

PATIENCE = 120


class Command:
    """`moodal serve`, started in a folder. port: where it says that it is ready."""

    def __init__(self, folder: Path, *options: str) -> None:
        given = [sys.executable, "-m", "moodal.cli", "serve", "--port", "0", *options]
        self.store = folder / "journal.sqlite"
        given += ["--model", str(train_once()), "--store", f"sqlite:///{self.store}"]
        self.lines: list[str] = []
        self.process = subprocess.Popen(given, cwd=folder, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        found = until(self._ready, seconds=PATIENCE)
        self.port = int(found[1])

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def _ready(self) -> Any:
        assert self.process.poll() is None or self._reader.is_alive(), self.lines
        return re.search(
            r"moodal: http://127\.0\.0\.1:(\d+) is ready; the journal is (\S+)", self.said
        )

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def ask(self, path: str = "/v1/predict", values: Any = None) -> tuple[int, Any]:
        body = json.dumps(values or {"text": "good"})
        with closing(self._connection()) as connection:
            connection.request("POST", path, body, {"content-type": "application/json"})
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())

    def get(self, path: str) -> str:
        with closing(self._connection()) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def children(self) -> list[int]:
        told = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in told.split() if "spawn_main" in _line(int(pid))]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    made: list[Command] = []

    def begin(*options: str) -> Command:
        made.append(Command(tmp_path, *options))
        return made[-1]

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one._reader.join(PATIENCE)
        if one.process.stderr is not None:
            one.process.stderr.close()


def test_a_stop_answers_what_was_accepted_and_leaves_nothing_in_the_spool(
    command: Callable[..., Command],
) -> None:
    one = command("--set", "limits.rate=0")
    told: list[tuple[int, Any]] = []
    lost: list[Exception] = []

    def ask() -> None:
        try:
            while True:
                told.append(one.ask())
        except ConnectionRefusedError:
            pass
        except (OSError, http.client.HTTPException) as error:
            lost.append(error)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    until(lambda: len(told) > 20)
    assert one.stop() == 0
    for client in clients:
        client.join(PATIENCE)
    # A connection that the kernel had taken and we had not is reset; nothing that we had read is.
    assert all(isinstance(error, ConnectionResetError) for error in lost)
    assert {status for status, _ in told} <= {200, 503}
    with journal.open(f"sqlite:///{one.store}") as book:
        written = {row.id for row in book.served()}
    assert {answer["prediction_id"] for status, answer in told if status == 200} <= written
    assert not list(one.store.with_suffix(".spool").glob("*.jsonl"))
    logged = [json.loads(line) for line in one.lines if not line.startswith("moodal: ")]
    assert sum(line.get("status") == 200 for line in logged) >= len(told) - len(lost) - 1


def test_ctrl_c_ends_it_well(command: Callable[..., Command]) -> None:
    assert command().stop(signal.SIGINT) == 0


def _counted(one: Command, n: int) -> bool:
    """Whether so many answers stand among the measures."""
    told = f'moodal_requests_total{{route="/v1/predict",status="200"}} {n}.0'
    return told in one.get("/metrics")


def test_several_workers_serve_and_the_dead_are_replaced(command: Callable[..., Command]) -> None:
    one = command("--workers", "2", "--set", "monitor_seconds=0.2")
    first = one.children()
    assert len(first) == 2
    for _ in range(20):
        assert one.ask()[0] == 200
    # An answer is counted just after it is given: who is killed in between cannot have counted it.
    until(lambda: _counted(one, 20))
    os.kill(first[0], signal.SIGKILL)
    until(lambda: len(one.children()) == 2 and first[0] not in one.children(), seconds=PATIENCE)
    assert one.ask()[0] == 200
    until(lambda: _counted(one, 21))
    assert f"worker {first[0]} died" in one.said
    for _ in range(10):  # a judgement may reach another worker than its prediction
        _, answer = one.ask()
        given = {"prediction_id": answer["prediction_id"], "correct": True}
        assert one.ask("/v1/feedback", given)[0] == 200
    assert one.stop() == 0
    with journal.open(f"sqlite:///{one.store}") as book:
        assert len(list(book.served())) == 31
        assert [event.change for event in book.events()] == ["served"]


def test_workers_do_not_outlive_their_parent(command: Callable[..., Command]) -> None:
    one = command("--workers", "2")
    children = one.children()
    one.process.kill()
    until(lambda: not any(_lives(pid) for pid in children), seconds=PATIENCE)


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it is gone
        return ""


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_workers_that_cannot_begin_end_it(tmp_path: Path) -> None:
    options = ["--workers", "2", "--port", "0", "--model", str(tmp_path)]
    given = [sys.executable, "-m", "moodal.cli", "serve", *options]
    done = subprocess.run(
        given, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert "is not a model" in done.stderr
    assert "before it could answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_is_told() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CapacityError, match=rf"127\.0\.0\.1:{port}: cannot be bound"):
            run.bind(Serve(port=port))
