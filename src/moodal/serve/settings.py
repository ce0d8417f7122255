"""Every setting of the service; the defaults are safe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from moodal.config import Count, Positive, Stage

Bounded = Annotated[int, Field(ge=0)]


class Limits(Stage):
    """What one caller may ask of the service. What is over a limit is refused, with the number."""

    megabytes: Positive = 20.0
    """Of one request's body."""
    megapixels: Positive = 25.0
    """Of one picture."""
    seconds: Positive = 120.0
    """Of one recording; a stream may last ten times as long."""
    characters: Count = 10_000
    """Of one text."""
    records: Count = 64
    """Of one batch."""
    label_characters: Count = 200
    comment_characters: Count = 2_000
    rate: Bounded = 6_000
    """Records a minute of one API key (without keys: of one address); 0 = no limit."""
    streams: Count = 8
    """Live streams at a time, in one worker."""


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
    private_docs: bool = False
    """The API's documents, too, need a key."""
    private_metrics: bool = False
    """/metrics, too, needs a key."""
    batch: Count = 32
    """Records answered at once."""
    queue: Count = 256
    """Records that may wait; beyond it the answer is 503."""
    wait_seconds: Positive = 10.0
    """A record that waited longer is refused rather than answered late."""
    threads: Count = 2
    """That decode pictures and recordings."""
    monitor_seconds: Positive = 60.0
    """Between two looks at drift and quality."""
    reload_seconds: Positive = 2.0
    """Between two looks at whether the model's folder has changed."""
    stop_seconds: Positive = 30.0
    """Given to accepted requests when the service stops."""
    limits: Limits = Limits()
