"""A closed loop of HTTP clients: each asks, waits for the answer, and asks again.

Raw sockets over asyncio, requests encoded beforehand, so that the client is never what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

TIMEOUT_SECONDS = 60.0


@dataclass
class Load:
    """What one run found. seconds: of each answer, in order of arrival."""

    clients: int
    wall: float
    seconds: list[float] = field(default_factory=list)
    errors: int = 0

    def to_dict(self) -> dict[str, float]:
        told = 1000 * np.array(self.seconds or [float("nan")])
        return {
            "clients": self.clients,
            "n": len(self.seconds),
            "errors": self.errors,
            "per_second": len(self.seconds) / self.wall,
            "p50_ms": float(np.quantile(told, 0.5)),
            "p99_ms": float(np.quantile(told, 0.99)),
        }


def request(path: str, body: bytes, *, kind: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def client(port: int, requests: Sequence[bytes], until: float, load: Load) -> None:
    """Ask in turn until the time has come; a connection that breaks is an error, and made anew."""
    turn = itertools.cycle(requests)
    while time.perf_counter() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        try:
            while time.perf_counter() < until:
                started = time.perf_counter()
                writer.write(next(turn))
                await writer.drain()
                status = await asyncio.wait_for(answer(reader), TIMEOUT_SECONDS)
                if status == b"200":
                    load.seconds.append(time.perf_counter() - started)
                else:
                    load.errors += 1
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            load.errors += 1
        finally:
            writer.close()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Read one whole answer; its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    low = head.lower()
    start = low.index(b"content-length:") + len(b"content-length:")
    await reader.readexactly(int(low[start : low.index(b"\r\n", start)]))
    return head.split(b" ", 2)[1]


async def run(port: int, requests: Sequence[bytes], *, clients: int, seconds: float) -> Load:
    load = Load(clients, seconds)
    started = time.perf_counter()
    shifted = [
        list(requests[n % len(requests) :]) + list(requests[: n % len(requests)])
        for n in range(clients)
    ]
    await asyncio.gather(*(client(port, r, started + seconds, load) for r in shifted))
    load.wall = time.perf_counter() - started
    return load


if __name__ == "__main__":
    # port, file of JSON bodies (one a line), path, clients, seconds: prints what it found as JSON.
    port, bodies, path, clients, seconds = sys.argv[1:]
    given = [request(path, line) for line in Path(bodies).read_bytes().splitlines()]
    found = asyncio.run(run(int(port), given, clients=int(clients), seconds=float(seconds)))
    print(json.dumps(found.to_dict()))
