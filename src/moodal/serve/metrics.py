"""What is counted, for Prometheus. Where several processes serve, they are counted together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from moodal.types import Prediction

TOGETHER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder of processes that are counted together; it must be
set before prometheus_client is imported."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RECORDS = (1, 2, 4, 8, 16, 32, 64)
SHARES = tuple(tenth / 10 for tenth in range(1, 11))
OTHER = "other"
MOST_SERIES = 200
"""Of one counter; what comes beyond is counted as `other`."""


class Found(Protocol):
    """What is asked of monitor.watch.Gauges."""

    @property
    def psi(self) -> Mapping[str, float]: ...
    @property
    def ks(self) -> Mapping[str, float]: ...
    @property
    def estimated_accuracy(self) -> float | None: ...
    @property
    def feedback_accuracy(self) -> float | None: ...
    @property
    def alerts(self) -> Mapping[str, bool]: ...


class Metrics:
    """All numbers of one service, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests answered", "route", "status")
        self.errors = self._counter("errors", "Errors told, by code", "code")
        self.request_seconds = self._histogram(
            "request_seconds", "From a request's arrival to its answer", SECONDS, "route"
        )
        self.queue_records = self._gauge("queue_records", "Records taken and not answered yet")
        self.batch_records = self._histogram(
            "batch_records", "Records answered in one batch", RECORDS
        )
        self.modalities = self._counter("modalities", "Answers by what they were", "modalities")
        self.answers = self._counter("answers", "Answers by label", "label")
        self.confidence = self._histogram("confidence", "Confidence of the answers", SHARES)
        self.abstained = self._counter("abstained", "Answers not to act on", "reason")
        self.journal_waiting = self._gauge(
            "journal_waiting", "Bytes of rows on their way to the journal"
        )
        self.journal_reachable = self._gauge(
            "journal_reachable", "1 = it takes rows", mode="livemin"
        )
        self.journal_lost = self._counter("journal_lost", "Rows that never reach it", "why")
        self.inputs_failed = self._counter("inputs_failed", "Records that could not be kept")
        self.feedback = self._counter("feedback", "Judgements, by whether we were right", "right")
        self.reloads = self._counter("reloads", "Changes of the model's folder", "result")
        self.streams = self._gauge("streams", "Live streams open now")
        told: Literal["mostrecent"] = "mostrecent"
        self.model_info = self._gauge("model_info", "1 = it answers", "version", "name", mode=told)
        self.feedback_accuracy = self._gauge(
            "feedback_accuracy", "Share of judged answers that were right", mode=told
        )
        self.estimated_accuracy = self._gauge(
            "estimated_accuracy", "Share of answers likely to be right, by confidence", mode=told
        )
        self.drift_psi = self._gauge(
            "drift_psi", "Population stability index", "measure", mode=told
        )
        self.drift_ks = self._gauge("drift_ks", "Kolmogorov-Smirnov distance", "measure", mode=told)
        self.alert = self._gauge("alert", "1 = it is raised", "name", mode=told)
        self._lost: dict[str, int] = {}
        self._model: Gauge | None = None
        self._counters: dict[Counter, dict[tuple[str, ...], Counter]] = {}
        self._seconds: dict[str, Histogram] = {}

    def request(self, route: str, status: int, seconds: float) -> None:
        self._count(self.requests, route, str(status))
        found = self._seconds.get(route)
        if found is None:
            found = self._seconds[route] = self.request_seconds.labels(route)
        found.observe(seconds)

    def error(self, code: str) -> None:
        self._count(self.errors, code)

    def batch(self, predictions: Sequence[Prediction]) -> None:
        """What was answered at once; alike answers are counted in one step."""
        self.batch_records.observe(len(predictions))
        modalities, labels, reasons = dict[str, int](), dict[str, int](), dict[str, int]()
        for p in predictions:
            name = "+".join(p.modalities) or "none"
            modalities[name] = modalities.get(name, 0) + 1
            if p.label is not None:
                labels[p.label] = labels.get(p.label, 0) + 1
            if p.abstain:
                reasons[p.reason] = reasons.get(p.reason, 0) + 1
            if p.value is None:
                self.confidence.observe(p.confidence)
        counters = (self.modalities, self.answers, self.abstained)
        for counter, tally in zip(counters, (modalities, labels, reasons), strict=True):
            for name, n in tally.items():
                self._count(counter, name, n=n)

    def judged(self, *, right: bool) -> None:
        self._count(self.feedback, str(right).lower())

    def lost(self, totals: Mapping[str, int]) -> None:
        """totals: why -> rows that this process has lost so far."""
        for why, total in totals.items():
            self.journal_lost.labels(why).inc(total - self._lost.get(why, 0))
            self._lost[why] = total

    def answering(self, version: str, name: str) -> None:
        """Another model answers from now on."""
        if self._model is not None:
            self._model.set(0)
        self._model = self.model_info.labels(version, name)
        self._model.set(1)

    def found(self, found: Found) -> None:
        """What the monitor found."""
        for gauge, told in ((self.drift_psi, found.psi), (self.drift_ks, found.ks)):
            for measure, value in told.items():
                gauge.labels(measure).set(value)
        for name, raised in found.alerts.items():
            self.alert.labels(name).set(raised)
        if found.estimated_accuracy is not None:
            self.estimated_accuracy.set(found.estimated_accuracy)
        if found.feedback_accuracy is not None:
            self.feedback_accuracy.set(found.feedback_accuracy)

    def render(self) -> bytes:
        """All of it, as Prometheus reads it."""
        if TOGETHER not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def _count(self, counter: Counter, *labels: str, n: int = 1) -> None:
        """As counter.labels(*labels).inc(n), which costs several times as much."""
        known = self._counters.setdefault(counter, {})
        found = known.get(labels)
        if found is None:
            found = counter.labels(
                *(labels if len(known) < MOST_SERIES else (OTHER,) * len(labels))
            )
            known[labels] = found
        found.inc(n)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"moodal_{name}", f"{words}.", labels, registry=self._registry)

    def _histogram(
        self, name: str, words: str, buckets: Sequence[float], *labels: str
    ) -> Histogram:
        return Histogram(
            f"moodal_{name}", f"{words}.", labels, buckets=buckets, registry=self._registry
        )

    def _gauge(
        self,
        name: str,
        words: str,
        *labels: str,
        mode: Literal["livesum", "livemin", "mostrecent"] = "livesum",
    ) -> Gauge:
        return Gauge(
            f"moodal_{name}",
            f"{words}.",
            labels,
            multiprocess_mode=mode,
            registry=self._registry,
        )


def forget(pid: int, folder: Path) -> None:
    """Of a process that is gone, what was true only while it lived."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
