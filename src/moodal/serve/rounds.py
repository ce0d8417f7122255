"""What the service does on its own: it counts, looks after its model, forgets, and watches itself.

Of several workers one has the watch: whoever holds the lock in the spool's folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from moodal.errors import MoodalError
from moodal.monitor.watch import Watch
from moodal.serve.loaded import Loaded
from moodal.serve.reload import Reloader
from moodal.serve.service import Service

LOOK_SECONDS = 1.0
FORGET_SECONDS = 3600.0
"""Between two looks for inputs and answers that are older than they may be."""
LOCK = "watch.lock"

_log = logging.getLogger("moodal.serve")


class Rounds:
    """Tasks beside the requests, in the event loop's threads."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reloader = Reloader(service)
        self._lock = Lock(service.spool.folder / LOCK)
        self._forgot = self._watched = -math.inf
        self._watch: tuple[Loaded, Watch] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        settings = self._service.settings
        every: tuple[tuple[float, Callable[[], object]], ...] = (
            (LOOK_SECONDS, self._look),
            (settings.reload_seconds, self._reloader.look),
            (LOOK_SECONDS, self._keep_watch),
        )
        self._tasks = [asyncio.create_task(_repeat(s, work)) for s, work in every]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lock.release()

    def _look(self) -> None:
        self._service.look()
        began = self._lock.hold() and not self._service.watching
        self._service.watching = self._lock.hold()
        if began:
            self._reloader.first()

    def _keep_watch(self) -> None:
        """Of the one worker that has it."""
        if not self._service.watching:
            return
        now = time.monotonic()
        if now >= self._forgot + FORGET_SECONDS:
            self._forgot = now
            self._forget()
        if now >= self._watched + self._service.settings.monitor_seconds:
            self._watched = now
            self._service.metrics.found(self._watcher().step(time.time()))

    def _watcher(self) -> Watch:
        """Of the model that answers now."""
        loaded = self._service.loaded
        if self._watch is None or self._watch[0] is not loaded:
            made = Watch(self._service.journal, loaded.model.info, loaded.reference)
            self._watch = loaded, made
        return self._watch[1]

    def _forget(self) -> None:
        inputs, days = self._service.inputs, self._service.settings.journal_days
        if inputs is not None and (count := inputs.forget(time.time())):
            _log.info("%d kept inputs were deleted, older than %g days", count, inputs.days)
        if days and (count := self._service.journal.forget(time.time() - days * 86_400)):
            _log.info("%d answers were deleted, older than %d days", count, days)


async def _repeat(seconds: float, work: Callable[[], object]) -> None:
    """Again and again; what fails once is logged, and tried again."""
    while True:
        try:
            await asyncio.to_thread(work)
        except (MoodalError, OSError) as error:
            _log.error("%s", error)
        await asyncio.sleep(seconds)


class Lock:
    """Held by one process at a time, and let go of by the kernel when that dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def hold(self) -> bool:
        """Whether this process has it, now or since earlier."""
        if self._file is not None:
            return True
        file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
