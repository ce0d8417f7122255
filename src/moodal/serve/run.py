"""Bind, then serve until told to stop, in one process or in several."""

from __future__ import annotations

import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from moodal.errors import CapacityError
from moodal.serve import app, logs, workers
from moodal.serve.protocol import protocol
from moodal.serve.settings import Serve
from moodal.store.journal import Journal

BACKLOG = 2048
"""Connections that the kernel may hold for us."""
IDLE_SECONDS = 75
"""After which a silent connection is closed: later than proxies do, who would else use it then."""
UNREAD_MILLISECONDS = 60_000
"""After which the kernel gives up a connection whose other side takes nothing of its answer."""


def run(settings: Serve) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted is answered first. Raises: MoodalError."""
    sock = bind(settings)
    logs.set_up()
    _raise_open_files()
    if settings.workers > 1:
        workers.supervise(settings, sock, work, lambda: _greet(sock, settings))
    else:
        work(settings, sock, None, lambda: _greet(sock, settings))


def work(
    settings: Serve, sock: socket.socket, together: Path | None, ready: Callable[[], object]
) -> None:
    """One process that answers. together: as of Service. ready: called once it does."""
    application = app.create(settings, together=together)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises anew, when it has stopped, what made it stop: that is no failure.
        signal.signal(number, lambda *_: None)
    server(application, settings, ready=ready).run(sockets=[sock])


def bind(settings: Serve) -> socket.socket:
    """A listening address. Raises: CapacityError, when it is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
    try:
        sock.bind((settings.host, settings.port))
    except OSError as error:
        sock.close()
        raise CapacityError(
            f"{settings.host}:{settings.port}: cannot be bound ({error.strerror or error}); name "
            "another with --host or --port"
        ) from error
    sock.listen(BACKLOG)
    return sock


def server(
    application: FastAPI, settings: Serve, *, ready: Callable[[], object] = lambda: None
) -> uvicorn.Server:
    """One process's server of an application; it still has to be run."""
    told = False

    async def tell() -> None:
        """At the first of uvicorn's ticks, when it has begun."""
        nonlocal told
        if not told:
            told = True
            ready()

    config = uvicorn.Config(
        application.state.edge,
        http=protocol(settings.limits.read_seconds),
        loop="uvloop",
        access_log=False,
        log_config=None,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
        callback_notify=tell,
        ws_max_size=int(1000 * settings.limits.chunk_kilobytes),
        server_header=False,
        proxy_headers=False,
    )
    return uvicorn.Server(config)


def _raise_open_files() -> None:
    """Each connection is one; what a shell allows by default is few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _greet(sock: socket.socket, settings: Serve) -> None:
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    name = Journal(settings.store).name
    sys.stderr.write(f"moodal: http://{shown}:{port} is ready; the journal is {name}\n")
    sys.stderr.flush()
