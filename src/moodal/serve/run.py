"""Bind, then serve until told to stop."""

from __future__ import annotations

import signal
import socket
import sys

import uvicorn
from fastapi import FastAPI

from moodal.errors import CapacityError
from moodal.serve import app, logs
from moodal.serve.settings import Serve

BACKLOG = 2048
"""Connections that the kernel may hold for us."""


def bind(settings: Serve) -> socket.socket:
    """A listening address. Raises: CapacityError, when it is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


def server(application: FastAPI, settings: Serve) -> uvicorn.Server:
    """One process's server of an application; it still has to be run."""
    config = uvicorn.Config(
        application,
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
        server_header=False,
    )
    return uvicorn.Server(config)


def run(settings: Serve) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted is answered first. Raises: MoodalError."""
    sock = bind(settings)
    logs.set_up()
    application = app.create(settings)
    _greet(sock, application.state.service.journal.name)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises anew, when it has stopped, what made it stop: that is no failure.
        signal.signal(number, lambda *_: None)
    server(application, settings).run(sockets=[sock])


def _greet(sock: socket.socket, journal: str) -> None:
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"moodal: http://{shown}:{port} is ready; the journal is {journal}\n")
    sys.stderr.flush()
