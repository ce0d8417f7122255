"""Several processes over one address: a dead one is replaced, and all stop together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from moodal.errors import CapacityError, MoodalError
from moodal.serve import logs, metrics
from moodal.serve.settings import Serve

Work = Callable[[Serve, socket.socket, Path, Callable[[], None]], None]
"""What one process does: settings, the shared address, the folder of all workers, and what to call
once it answers."""

QUICK_SECONDS = 10.0
"""A process that dies younger than this is replaced only after a pause, longer each time."""
LONGEST_PAUSE = 30.0
KILL_SECONDS = 10.0
"""Beyond those that accepted requests are given."""

_log = logging.getLogger("moodal.serve")
_spawn = multiprocessing.get_context("spawn")


@dataclass(eq=False)
class Worker:
    """One process. line: it says "ready" by it, and learns by its end that we are gone."""

    process: Any
    line: Connection
    since: float = field(default_factory=time.monotonic)
    ready: bool = False


def supervise(settings: Serve, sock: socket.socket, work: Work, greet: Callable[[], None]) -> None:
    """Run settings.workers processes until SIGTERM or SIGINT. greet: called once all answer.

    Raises: CapacityError, when one cannot even begin.
    """
    with tempfile.TemporaryDirectory(prefix="moodal-") as name:
        os.environ[metrics.TOGETHER] = name
        Supervisor(settings, sock, work, Path(name)).run(greet)


class Supervisor:
    """The parent: it answers nothing itself."""

    def __init__(self, settings: Serve, sock: socket.socket, work: Work, together: Path) -> None:
        self._settings, self._sock, self._work, self._together = settings, sock, work, together
        self._workers: list[Worker] = []
        self._fast_deaths = 0
        self._ears, self._mouth = os.pipe()

    def run(self, greet: Callable[[], None]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.write(self._mouth, b"."))
        self._workers = [self._begin() for _ in range(self._settings.workers)]
        greeted = False
        try:
            while not self._told_to_stop():
                self._replace_dead(first=not greeted)
                if not greeted and all(worker.ready for worker in self._workers):
                    greeted = True
                    greet()
        finally:
            self._end()

    def _begin(self) -> Worker:
        ours, theirs = _spawn.Pipe()
        given = (self._work, self._settings.model_dump_json(), self._sock, self._together, theirs)
        process = _spawn.Process(target=_life, args=given, name="moodal-worker")
        process.start()
        theirs.close()
        return Worker(process, ours)

    def _told_to_stop(self) -> bool:
        """Wait for something to happen; whether it was the signal to stop."""
        lines = [w.line for w in self._workers if not w.ready]
        happened = connection.wait(
            [self._ears, *lines, *(w.process.sentinel for w in self._workers)], 1.0
        )
        for worker in self._workers:
            if worker.line in happened:
                with suppress(EOFError, OSError):  # it died; see _replace_dead
                    worker.ready = bool(worker.line.recv_bytes())
        return self._ears in happened

    def _replace_dead(self, *, first: bool) -> None:
        for place, worker in enumerate(self._workers):
            if worker.process.is_alive():
                continue
            code = worker.process.exitcode
            metrics.forget(worker.process.pid, self._together)
            if first and not worker.ready:
                raise CapacityError(f"a worker ended with code {code} before it could answer")
            young = time.monotonic() < worker.since + QUICK_SECONDS
            self._fast_deaths = self._fast_deaths + 1 if young else 0
            pause = min(LONGEST_PAUSE, 2.0**self._fast_deaths) if young else 0.0
            _log.error("worker %d died (%s), replaced in %g s", worker.process.pid, code, pause)
            if connection.wait([self._ears], pause):
                os.write(self._mouth, b".")  # to be heard again by whoever waits next
                return
            self._workers[place] = self._begin()

    def _end(self) -> None:
        """Ask all to stop, wait as long as accepted requests are given, then insist."""
        self._sock.close()
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
        until = time.monotonic() + self._settings.stop_seconds + KILL_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                _log.error("worker %d did not stop in time, killed", worker.process.pid)
                worker.process.kill()
                worker.process.join()


def _life(work: Work, settings: str, sock: socket.socket, together: Path, line: Connection) -> None:
    """Of a worker process."""
    logs.set_up()
    threading.Thread(target=_mourn, args=(line,), daemon=True).start()
    found = Serve.model_validate_json(settings)
    try:
        work(found, sock, together, lambda: line.send_bytes(b"ready"))
    except MoodalError as error:
        sys.stderr.write(f"moodal: {error}\n")
        sys.exit(1)


def _mourn(line: Connection) -> None:
    """End, gracefully, when the parent is gone."""
    try:
        line.recv_bytes()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
