"""Log lines for programs: a JSON object an event on standard error, each with its request's id."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic_core import to_json

from moodal.store.ids import new_id

REQUEST: ContextVar[str] = ContextVar("moodal_request", default="")
"""The id of the request that is being answered."""
_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_GATHER_SECONDS = 0.25


def request_id(sent: bytes) -> str:
    """What the client calls its request, where that is a plain word; else a new name."""
    if sent and _ID.fullmatch(sent):
        return sent.decode("ascii")
    return f"{_mine()}-{next(_count):x}"


@functools.cache
def _mine() -> str:
    """What the names that this process gives begin with."""
    return new_id(time.time())


_count = itertools.count(1)


def set_up(stream: TextIO = sys.stderr) -> None:
    """All that is logged in this process as JSON lines; called once, by whoever runs the server."""
    shown = logging.StreamHandler(stream)
    shown.setFormatter(Lines())
    for name, level in (("moodal", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [shown], False
        logger.setLevel(level)


class Lines(logging.Formatter):
    """A record as one JSON object: at, level, event, and what was given with `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, Any] = {
            "at": _time(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "request": getattr(record, "request", "") or REQUEST.get(),
        }
        if record.exc_info:
            values["error"] = self.formatException(record.exc_info)
        return json.dumps({k: v for k, v in values.items() if v != ""}, ensure_ascii=False)


class Requests:
    """A line a request. They are gathered for a moment and written at once: a write for each would
    cost as much as its answer's journey. Used in the event loop alone."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._lines: list[bytes] = []

    def add(self, values: Mapping[str, str | int | float]) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self.flush)
        told = {"at": _time(time.time()), "level": "info", "event": "request", **values}
        self._lines.append(to_json(told))

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write(b"\n".join((*lines, b"")).decode("utf-8"))
            self._stream.flush()


def _time(seconds: float) -> str:
    """ISO 8601, UTC, to the millisecond."""
    return f"{_second(int(seconds))}.{int(seconds * 1000) % 1000:03d}+00:00"


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
