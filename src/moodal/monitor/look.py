"""One look at a stretch of time: traffic, latency, drift, accuracy, alerts, and models' fates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from moodal import bundle
from moodal.errors import ConfigError
from moodal.monitor import drift, quality
from moodal.monitor.drift import Drift
from moodal.monitor.quality import Quality
from moodal.runtime.reference import Reference, counted, load
from moodal.store import journal
from moodal.store.journal import Count, Journal, Latency
from moodal.store.rows import Alert, Event, Judgement, Served

SAMPLE = 2_000
"""Answers looked at one by one; of more, a sample."""
BUCKETS = 60
"""Spans of time that a plot has, at most."""
_SPANS = (10, 30, 60, 300, 900, 3_600, 10_800, 21_600, 86_400, 604_800)
"""Seconds that a span may last."""
_Key = TypeVar("_Key", str, float)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@dataclass(slots=True)
class Bucket:
    """A span of time: n answers, their latency in milliseconds, mean confidence."""

    at: float
    n: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    confidence: float | None = None
    abstained: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    modalities: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """asdict would make its counters anew, of pairs."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Measured:
    """What the answers of one version tell. sampled: how many were looked at, of rows."""

    rows: int
    sampled: int
    drifts: tuple[Drift, ...]
    qualities: tuple[Quality, ...]

    @property
    def quality(self) -> Quality:
        """Over all answers."""
        return self.qualities[0]


@dataclass(frozen=True, slots=True)
class Look:
    """model: the version that drift and accuracy are of. languages: of the answers with a text."""

    since: float
    until: float
    model: str
    name: str
    requests: int
    bucket_seconds: float
    buckets: tuple[Bucket, ...]
    labels: Counter[str]
    modalities: Counter[str]
    languages: Counter[str]
    models: Counter[str]
    measured: Measured
    alerts: tuple[Alert, ...]
    events: tuple[Event, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        values = {n: getattr(self, n) for n in self.__slots__ if n != "measured"}
        everything = self.measured.quality.to_dict()
        names = ("estimated", "estimated_interval", "feedback", "feedback_interval", "expected")
        return values | {
            "buckets": [bucket.to_dict() for bucket in self.buckets],
            "rows_of_model": self.measured.rows,
            "sampled": self.measured.sampled,
            "drift": [found.to_dict() for found in self.measured.drifts],
            "accuracy": {name: everything[name] for name in names}
            | {
                "n": everything["n"],
                "n_feedback": everything["n_feedback"],
                "slices": [found.to_dict() for found in self.measured.qualities[1:]],
            },
            "alerts": [asdict(alert) for alert in self.alerts],
            "events": [{**asdict(event), "numbers": dict(event.numbers)} for event in self.events],
        }


def of_store(url: str, *, model: Path | None, since: str, now: float) -> Look:
    """One look at a journal by its URL. model: the one in use; None = the packaged one. since: how
    far back, as `period` reads it.

    Raises: ConfigError, when there is no such journal; ModelError; CapacityError.
    """
    stretch, folder = period(since), bundle.find(model)
    info = bundle.load(folder)
    held = load(folder, info)
    with journal.open(url, create=False) as book:
        return look(book, reference=held, info=info, since=max(0.0, now - stretch), until=now)


def look(
    book: Journal, *, reference: Reference, info: bundle.Info, since: float, until: float
) -> Look:
    """What the journal tells of since <= time < until. info, reference: of the model in use.

    Raises: CapacityError when the journal cannot be reached.
    """
    seconds = span(until - since)
    counts = book.counts(since=since, until=until, bucket=seconds)
    latencies = book.latencies(since=since, until=until, bucket=seconds)
    alerts = (a for a in book.alerts() if a.cleared is None or a.cleared >= since)
    return Look(
        since=since,
        until=until,
        model=bundle.version(info),
        name=info.name,
        requests=sum(c.n for c in counts),
        bucket_seconds=seconds,
        buckets=tuple(_buckets(counts, latencies)),
        labels=_sums((c.label, c.n) for c in counts),
        modalities=_sums((c.modalities, c.n) for c in counts),
        languages=_sums((c.language, c.n) for c in counts if "text" in c.modalities),
        models=_sums((c.model, c.n) for c in counts),
        measured=measure(
            book,
            counts,
            book.judged(since=since, until=until),
            reference=reference,
            info=info,
            seconds=seconds,
        ),
        alerts=tuple(alerts),
        events=tuple(book.events()),
    )


def measure(
    book: Journal,
    counts: Sequence[Count],
    judged: Iterable[tuple[Served, Judgement]],
    *,
    reference: Reference,
    info: bundle.Info,
    seconds: float,
) -> Measured:
    """Drift and accuracy of one version, over a sample of its answers and all that was said.
    counts: of the answers to look at, by spans of so many seconds."""
    version = bundle.version(info)
    rows = _sums((c.at, c.n) for c in counts if c.model == version)
    fallen, sums = drift.Tally(reference), quality.Tally(sure=bool(info.labels))
    sampled = 0
    for row in sample(book, version, rows, seconds=seconds):
        sampled += 1
        fallen.add(row.measures, counted(row, row.modalities, _language(row)))
        sums.add(row)
    for row, judgement in judged:
        if row.model == version:
            sums.judge(row, judgement)
    return Measured(sum(rows.values()), sampled, tuple(fallen.drifts()), tuple(sums.qualities()))


def sample(
    book: Journal, version: str, rows: Mapping[float, int], *, seconds: float
) -> Iterator[Served]:
    """SAMPLE answers, or all where there are no more: of each span of time as many as its share of
    all, those that came first.

    rows: beginning of a span -> answers of the version in it.
    Source: Cochran, Sampling Techniques (1977), section 5.5, proportional stratified sampling.
    """
    total = sum(rows.values())
    for at, n in rows.items():
        wanted = n if total <= SAMPLE else -(-n * SAMPLE // total)
        found = book.served(since=at, until=at + seconds, model=version)
        yield from islice(found, wanted)


def period(text: str) -> float:
    """ "90s", "30m", "24h", "7d" or "2w" as seconds. Raises: ConfigError."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise ConfigError(
            f"{text[:40]!r} is no stretch of time; write it as 90s, 30m, 24h, 7d or 2w"
        )
    return float(int(found[1]) * _UNITS[found[2]])


def span(seconds: float) -> float:
    """How long the spans of a plot of so many seconds last."""
    return next((float(s) for s in _SPANS if seconds <= BUCKETS * s), seconds / BUCKETS)


def _language(row: Served) -> str | None:
    return row.language if "text" in row.modalities else None


def _sums(pairs: Iterable[tuple[_Key | None, int]]) -> Counter[_Key]:
    sums: Counter[_Key] = Counter()
    for key, n in pairs:
        if key is not None:
            sums[key] += n
    return sums


def _buckets(counts: Sequence[Count], latencies: Sequence[Latency]) -> list[Bucket]:
    """Spans without an answer are left out."""
    buckets: dict[float, Bucket] = {}
    for count in counts:
        bucket = buckets.setdefault(count.at, Bucket(count.at))
        mean = bucket.confidence or 0.0
        bucket.n += count.n
        bucket.confidence = mean + (count.confidence - mean) * count.n / bucket.n
        bucket.abstained += count.n if count.abstained else 0
        bucket.modalities[count.modalities] += count.n
        if count.label is not None:
            bucket.labels[count.label] += count.n
    for latency in latencies:
        if latency.at in buckets:
            buckets[latency.at].p50_ms = 1000 * latency.p50
            buckets[latency.at].p99_ms = 1000 * latency.p99
    return list(buckets.values())
