"""Another model in the same folder is taken up, once it is loaded and proven."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from moodal import bundle
from moodal.errors import MoodalError
from moodal.serve.service import Service
from moodal.store.ids import new_id
from moodal.store.rows import Change, Event

Signature = tuple[tuple[int, int, int] | None, ...]

_log = logging.getLogger("moodal.serve")


class Reloader:
    """Looks after the folders of one service's models."""

    def __init__(self, service: Service) -> None:
        self._service = service
        ears = service.settings.transcriber
        self._files = [f / bundle.INFO for f in (service.folder, ears) if f is not None]
        self._seen = self._signature() if self._is_current() else ()

    def first(self) -> None:
        """Write down which model answers, unless that is what was written last."""
        version = self._service.version
        try:
            served = (e for e in self._service.journal.events() if e.change == "served")
            last = next(served, None)
        except MoodalError:
            last = None  # then it cannot be written either, and the log will say so
        if last is None or last.model != version:
            self._record("served", version, {})

    def look(self) -> bool:
        """Take up what has changed. Returns whether another model answers now."""
        found = self._signature()
        if found == self._seen or None in found:  # a folder that is gone for a moment, too
            return False
        try:
            fresh = self._service.load()
        except (MoodalError, OSError) as error:
            if self._signature() != found:  # it was being replaced: the next look sees it whole
                return False
            self._seen = found
            self._refuse(error)
            return False
        if self._signature() != found:
            return False
        self._seen = found
        if fresh.version == self._service.version and len(self._files) == 1:
            return False
        self._service.swap(fresh)
        self._service.metrics.reloads.labels("done").inc()
        _log.info("the model %s (%s) answers from now on", fresh.model.info.name, fresh.version)
        self._record("served", fresh.version, {})
        return True

    def _is_current(self) -> bool:
        """Whether what lies in the folder is what was loaded, some moments ago."""
        try:
            return bundle.version(bundle.load(self._service.folder)) == self._service.version
        except MoodalError:
            return False

    def _refuse(self, error: Exception) -> None:
        service = self._service
        service.metrics.reloads.labels("refused").inc()
        _log.error("the changed model is refused, %s goes on: %s", service.version, error)
        self._record("reload_failed", service.version, {"error": str(error)})

    def _record(self, change: Change, version: str, numbers: dict[str, str]) -> None:
        """In the journal, if it can be reached, by one of the workers; the log has it anyway."""
        service, now = self._service, time.time()
        if not service.watching:
            return
        event = Event(new_id(now), now, change, version, service.model.info.name, numbers)
        try:
            service.journal.record(event)
        except MoodalError as error:
            _log.error("the journal does not hold it: %s", error)

    def _signature(self) -> Signature:
        return tuple(map(_of, self._files))


def _of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
