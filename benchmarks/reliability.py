"""kill -9 under load, again and again: what was acknowledged is in the journal afterwards.

`python benchmarks/reliability.py --rounds 50` prints what it found; a test does three rounds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOODAL = [sys.executable, "-m", "moodal.cli"]
CLIENTS = 4
START_SECONDS = 60.0
LATEST_SECONDS = 1.5
"""Of load before the kill."""
JSON = {"Content-Type": "application/json"}


@dataclass
class Acknowledged:
    """What the service said it had: identifiers. faults: answers that were neither 200 nor none."""

    predictions: set[str] = field(default_factory=set)
    judgements: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


class Victim:
    """The real command, in a process of its own. given: more of its options."""

    def __init__(self, folder: Path, *given: str) -> None:
        store = f"sqlite:///{folder}/journal.sqlite"
        command = [*MOODAL, "serve", "--port", "0", "--store", store, *given]
        log = folder / "log"
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stderr=file, stdout=file)
        until = time.monotonic() + START_SECONDS
        while (found := re.search(r"http://127\.0\.0\.1:(\d+) is ready", log.read_text())) is None:
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the service did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)
        self.port = int(found[1])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def client(port: int, told: Acknowledged, lock: threading.Lock) -> None:
    """Ask and judge until the service is gone; note only what was acknowledged."""
    with (
        suppress(OSError, http.client.HTTPException),
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection,
    ):
        while True:
            asked = ask(connection, "/v1/predict", {"text": "the room was not clean 房间很干净"})
            with lock:
                if asked[0] != 200:
                    told.faults.append(f"predict {asked}")
                    continue
                told.predictions.add(asked[1]["prediction_id"])
            judged = ask(
                connection,
                "/v1/feedback",
                {"prediction_id": asked[1]["prediction_id"], "correct": True},
            )
            with lock:
                if judged[0] != 200:
                    told.faults.append(f"feedback {judged}")
                    continue
                told.judgements.add(judged[1]["id"])


def ask(connection: http.client.HTTPConnection, path: str, body: Any) -> tuple[int, Any]:
    connection.request("POST", path, json.dumps(body), JSON)
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def rounds(folder: Path, n: int, *given: str, seed: int = 0) -> Acknowledged:
    """Start, load, kill at a random moment, n times; start once more and stop it well.

    Returns what was acknowledged in all. The journal stands at folder/journal.sqlite.
    """
    told, lock, moments = Acknowledged(), threading.Lock(), random.Random(seed)
    for _ in range(n):
        victim = Victim(folder, *given)
        clients = [
            threading.Thread(target=client, args=(victim.port, told, lock)) for _ in range(CLIENTS)
        ]
        for thread in clients:
            thread.start()
        time.sleep(moments.uniform(0.0, LATEST_SECONDS))
        victim.kill()
        for thread in clients:
            thread.join()
    last = Victim(folder, *given)
    code = last.stop()
    assert code == 0, f"the last one stopped with {code}"
    return told


def missing(folder: Path, told: Acknowledged) -> tuple[int, int, str]:
    """How many acknowledged predictions and judgements the journal lacks; and what SQLite says of
    the file: "ok"."""
    with sqlite3.connect(folder / "journal.sqlite") as journal:
        predictions = {row[0] for row in journal.execute("select id from predictions")}
        judgements = {row[0] for row in journal.execute("select id from feedback")}
        (whole,) = journal.execute("pragma integrity_check").fetchone()
    return len(told.predictions - predictions), len(told.judgements - judgements), str(whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = rounds(folder, given.rounds, seed=given.seed)
        lost = missing(folder, told)
        print(
            f"{given.rounds} kills: {len(told.predictions):,} predictions and "
            f"{len(told.judgements):,} judgements acknowledged, {lost[0]} and {lost[1]} of them "
            f"lost; {len(told.faults)} faults; the file is {lost[2]}"
        )
        print(*told.faults[:5], sep="\n")


if __name__ == "__main__":
    main()
