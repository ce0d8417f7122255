"""Every setting of the service; the defaults are safe."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from moodal.config import Count, Positive, Stage, checked, laid, plain

Bounded = Annotated[int, Field(ge=0)]

OPEN = ("/", "/healthz", "/readyz", "/docs", "/v2", "/v2/health/live", "/v2/health/ready")
"""Paths that need no key: they tell nothing that anybody asked, and nothing of the model."""
OPEN_BELOW = "/ui/"
"""Files of the page."""


class Limits(Stage):
    """What one caller may ask of the service. What is over a limit is refused, with the number."""

    megabytes: Positive = 20.0
    """Of one request's body."""
    read_seconds: Positive = 30.0
    """In which a request must have arrived whole."""
    megapixels: Positive = 25.0
    """Of one picture."""
    seconds: Positive = 120.0
    """Of one recording; a stream may last ten times as long."""
    characters: Count = 10_000
    """Of one text."""
    vectors: Count = 2_000
    """Of one sequence of precomputed features."""
    records: Count = 64
    """Of one batch."""
    label_characters: Count = 200
    comment_characters: Count = 2_000
    rate: Bounded = 6_000
    """Records a minute of one API key (without keys: of one address); 0 = no limit."""
    streams: Count = 8
    """Live streams at a time, in one worker."""
    idle_seconds: Positive = 20.0
    """A live stream that sends nothing for so long is ended."""
    chunk_kilobytes: Positive = 256.0
    """Of one message of a live stream."""


class Serve(Stage):
    """All of a service."""

    model: Path | None = None
    """None = the model that comes with the package."""
    transcriber: Path | None = None
    """A model that writes speech down, for records without a text."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """0 = any that is free."""
    workers: Count = 1
    """Processes, each with a model of its own."""
    store: str = "sqlite:///moodal.sqlite"
    """The journal: an SQLAlchemy URL of SQLite or PostgreSQL."""
    spool: Path | None = None
    """Folder of answers on their way to the journal; None = beside the SQLite file, else
    ./moodal-spool."""
    spool_megabytes: Positive = 64.0
    """Of all that waits for the journal; beyond it new rows are dropped, and counted."""
    api_keys: Path | None = None
    """File of hashed keys; None = only this machine may ask."""
    keep_inputs: Path | None = None
    """Folder to keep inputs in; None = they are not kept."""
    keep_days: Count = 30
    journal_days: Count | None = None
    """After which an answer, and what was said of it, is deleted; None = never."""
    private_docs: bool = False
    """The API's documents, too, need a key."""
    private_metrics: bool = False
    """/metrics, too, needs a key."""
    batch: Count = 64
    """Records answered at once, at most; fewer where they are long."""
    queue: Count = 256
    """Records that may wait; beyond it the answer is 503."""
    wait_seconds: Positive = 10.0
    """A record that waited longer is refused rather than answered late."""
    threads: Count = 2
    """That decode pictures and recordings."""
    body_megabytes: Positive = 200.0
    """Of all requests' bodies that are in work; beyond it the answer is 503."""
    monitor_seconds: Positive = 60.0
    """Between two looks at drift and quality."""
    reload_seconds: Positive = 2.0
    """Between two looks at whether the model's folder has changed."""
    stop_seconds: Positive = 30.0
    """Given to accepted requests when the service stops."""
    log_requests: bool = True
    """A log line for each request."""
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.limits.records > self.queue:
            raise ValueError(
                f"limits.records={self.limits.records} is above queue={self.queue}: such a batch "
                "would never find room; raise queue"
            )
        if self.api_keys is None and not is_loopback(self.host):
            raise ValueError(
                f"host={self.host} can be reached from other machines, and without api_keys "
                "anybody could ask; make a key (moodal keys add FILE NAME) and give --api-keys FILE"
            )
        return self

    def is_open(self, path: str) -> bool:
        """Whether a path needs no key."""
        if path in OPEN or path.startswith(OPEN_BELOW):
            return True
        shut = {"/openapi.json": self.private_docs, "/metrics": self.private_metrics}
        return not shut.get(path, True)

    @property
    def spool_folder(self) -> Path:
        """Where answers wait for the journal."""
        if self.spool is not None:
            return self.spool
        scheme, _, path = self.store.partition(":///")
        if not scheme.startswith("sqlite"):
            return Path("moodal-spool")
        return Path(path.partition("?")[0]).with_suffix(".spool")


@functools.lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether only this machine is meant."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load(
    file: Path | None = None,
    settings: Sequence[str] = (),
    *,
    over: Mapping[str, Any] | None = None,
) -> Serve:
    """The settings in a YAML file, or the defaults; `key=value` laid over it, `over` over both.

    Raises: ConfigError, naming the key, its value and what was allowed.
    """
    return checked(Serve, laid(plain(file, settings), over or {}))
