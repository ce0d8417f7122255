"""`make bench-serve`: moodal beside plain FastAPI and LitServe, the same model, one run.

Every server and the in-process run have one core to themselves, the client the other. The servers
take turns in each round; figures are medians over the rounds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import base64
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

HERE = Path(__file__).parent
PYTHON = sys.executable
SERVER_CORE, CLIENT_CORE = "0", "1"
CLIENTS = (1, 8, 32)
KINDS = ("text", "text + image + audio")
RECORDS = 32
"""Different ones in a round trip."""
IN_BATCH = 32
"""Records of one request to /v1/predict/batch."""
WORDS = [
    *("the", "room", "was", "clean", "and", "friendly", "but", "breakfast", "not", "worth"),
    *("price", "again", "never", "lovely", "staff", "slow", "service", "great", "film", "boring"),
    *("plot", "actors", "music", "long", "short", "good", "bad", "really", "quite"),
]
HANZI = "服务太慢了再也不来房间干净前台很热情下次还住这里电影精彩剧情一般音乐不错演员失望"


def servers(port: int, folder: Path) -> dict[str, list[str]]:
    moodal = str(Path(PYTHON).with_name("moodal"))
    journal = f"sqlite:///{folder}/moodal.sqlite"
    ours = ["--port", str(port), "--store", journal, "--set", "limits.rate=0"]
    return {
        "moodal": [moodal, "serve", *ours],
        "plain FastAPI": [PYTHON, str(HERE / "peers" / "plain.py"), str(port)],
        "LitServe": [PYTHON, str(HERE / "peers" / "lit.py"), str(port)],
    }


def records(folder: Path) -> dict[str, list[dict[str, str]]]:
    """RECORDS records of each kind, as JSON carries them; the same ones for every server."""
    rng = np.random.default_rng(0)
    texts, whole = [], []
    for row in range(RECORDS):
        words = rng.choice(WORDS, 16) if row % 2 else rng.choice(list(HANZI), 24)
        text = (" " if row % 2 else "").join(words)
        small = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        picture, sound = folder / "p.jpg", folder / "s.wav"
        Image.fromarray(small).resize((192, 192), Image.Resampling.BICUBIC).save(picture)
        soundfile.write(sound, 0.1 * rng.standard_normal(48_000), 16_000)
        media = {"image": picture, "audio": sound}
        encoded = {m: base64.b64encode(p.read_bytes()).decode() for m, p in media.items()}
        texts.append({"text": text})
        whole.append({"text": text, **encoded})
    return dict(zip(KINDS, (texts, whole), strict=True))


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A server on its core, once it answers; with the seconds that took."""
    started = time.perf_counter()
    log = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the server)
    pinned = ["taskset", "-c", SERVER_CORE, *command]
    process = subprocess.Popen(pinned, stdout=log, stderr=log, start_new_session=True)
    try:
        while not answers(port):
            if process.poll() is not None or time.perf_counter() - started > 60:
                log.seek(0)
                raise SystemExit(f"{command[0]} did not start:\n{log.read().decode()[-2000:]}")
            time.sleep(0.02)
        yield process, time.perf_counter() - started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    """Whether a first record is answered: what counts as ready, of every server alike."""
    body = json.dumps({"text": "good"}).encode()
    url, kind = f"http://127.0.0.1:{port}/v1/predict", {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, kind), timeout=5) as told:
            return int(told.status) == 200
    except OSError:
        return False


def load(
    port: int, bodies: Path, *, clients: int, seconds: float, path: str = "/v1/predict"
) -> Any:
    command = [
        PYTHON,
        str(HERE / "load.py"),
        str(port),
        str(bodies),
        path,
        str(clients),
        str(seconds),
    ]
    done = subprocess.run(
        ["taskset", "-c", CLIENT_CORE, *command], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def memory_mb(process: subprocess.Popen[bytes]) -> float:
    """Resident memory of all processes of a server, the largest."""
    found = [0.0]
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(status.parent.name)) == process.pid:
                size = re.search(r"VmRSS:\s+(\d+) kB", status.read_text(encoding="utf-8"))
                found.append(int(size[1]) / 1024 if size else 0.0)
    return max(found)


def free_port() -> int:
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        return int(any_free.getsockname()[1])


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def compare(folder: Path, *, rounds: int, seconds: float) -> None:
    """Requests a second and latency of each server, by kind of record and number of clients."""
    port = free_port()
    bodies = {kind: lines(folder / f"{kind}.jsonl", rows) for kind, rows in records(folder).items()}
    found: dict[tuple[str, str, int], list[Any]] = {}
    ready: dict[str, list[float]] = {}
    resident: dict[str, float] = {}
    for _ in range(rounds):
        for name, command in servers(port, folder).items():
            with running(command, port) as (process, took):
                ready.setdefault(name, []).append(took)
                for kind in KINDS:
                    load(port, bodies[kind], clients=8, seconds=1)  # to warm up
                    for clients in CLIENTS:
                        told = load(port, bodies[kind], clients=clients, seconds=seconds)
                        found.setdefault((kind, name, clients), []).append(told)
                resident[name] = max(resident.get(name, 0.0), memory_mb(process))
    table(found)
    for name, took in ready.items():
        print(
            f"{name:<16} start to the first answer {np.median(took):.2f} s, {resident[name]:.0f} MB"
        )


def table(found: dict[tuple[str, str, int], list[Any]]) -> None:
    figures = f"{'per s':>8}{'p50 ms':>9}{'p99 ms':>9}{'errors':>8}"
    head = f"{'records':<22}{'clients':>8}  {'server':<16}{figures}  moodal / it"
    print(head)
    for kind in KINDS:
        for clients in CLIENTS:
            ours = median(found[kind, "moodal", clients], "per_second")
            for name in ("moodal", "plain FastAPI", "LitServe"):
                told = found[kind, name, clients]
                rate, errors = median(told, "per_second"), sum(int(t["errors"]) for t in told)
                times = "".join(f"{median(told, q):>9.2f}" for q in ("p50_ms", "p99_ms"))
                who = f"{kind:<22}{clients:>8}  {name:<16}"
                print(f"{who}{rate:>8.0f}{times}{errors:>8}  {ours / rate:.2f}")


def median(told: list[Any], name: str) -> float:
    return float(np.median([t[name] for t in told]))


IN_PROCESS = """
import base64, json, sys, time
import moodal
model = moodal.load(); model.warm()
rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
def record(row):
    media = {m: base64.b64decode(row[m]) for m in ("image", "audio") if m in row}
    return {"text": row["text"], **media}
rows = [record(row) for row in rows]
list(model.predict_many(rows))
n, started = 0, time.perf_counter()
while time.perf_counter() - started < float(sys.argv[2]):
    n += len(list(model.predict_many(rows)))
print(n / (time.perf_counter() - started))
"""


def throughput(folder: Path, *, rounds: int, seconds: float) -> None:
    """Records a second of the service beside predict_many in a process of its own."""
    port = free_port()
    for kind, rows in records(folder).items():
        one = lines(folder / "one.jsonl", rows)
        many = lines(folder / "many.jsonl", [{"records": rows[:IN_BATCH]}])
        inside, singly, batched = [], [], []
        for _ in range(rounds):
            command = [
                "taskset",
                "-c",
                SERVER_CORE,
                PYTHON,
                "-c",
                IN_PROCESS,
                str(one),
                str(seconds),
            ]
            inside.append(float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
            with running(servers(port, folder)["moodal"], port):
                load(port, one, clients=8, seconds=1)
                singly.append(load(port, one, clients=32, seconds=seconds)["per_second"])
                told = load(port, many, clients=4, seconds=seconds, path="/v1/predict/batch")
                batched.append(IN_BATCH * told["per_second"])
        floor = float(np.median(inside))
        parts = (("one a request, 32 clients", singly), ("32 a request, 4 clients", batched))
        print(f"{kind}: predict_many {floor:.0f} records/s; the service:")
        for name, rates in parts:
            print(f"  {name:<28}{np.median(rates):>8.0f}  {np.median(rates) / floor:.2f} of it")


def steady(folder: Path, *, seconds: float) -> None:
    """One load for a long time: memory at the beginning and at the end, and errors."""
    port = free_port()
    mixed = [row for pair in zip(*records(folder).values(), strict=True) for row in pair]
    bodies = lines(folder / "mixed.jsonl", mixed)
    with running(servers(port, folder)["moodal"], port) as (process, _):
        load(port, bodies, clients=8, seconds=10)
        sizes, n, errors = [memory_mb(process)], 0, 0
        for _ in range(10):
            told = load(port, bodies, clients=8, seconds=seconds / 10)
            n, errors = n + int(told["n"]), errors + int(told["errors"])
            sizes.append(memory_mb(process))
        grown = np.polyfit(np.arange(len(sizes)), sizes, 1)[0]
        shown = " ".join(f"{size:.0f}" for size in sizes)
        print(f"steady load, {seconds:.0f} s: {n:,} answers, {errors} errors; MB {shown}")
        print(f"  growth {grown * 600 / seconds:+.2f} MB a minute")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--steady", type=float, default=600.0, help="seconds of the steady load")
    parser.add_argument("--only", choices=("compare", "throughput", "steady"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.only in (None, "compare"):
            compare(folder, rounds=given.rounds, seconds=given.seconds)
        if given.only in (None, "throughput"):
            throughput(folder, rounds=given.rounds, seconds=given.seconds)
        if given.only in (None, "steady"):
            steady(folder, seconds=given.steady)


if __name__ == "__main__":
    main()
