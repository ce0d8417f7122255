"""A look, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from moodal.evaluation.report import aligned
from moodal.monitor.drift import Drift
from moodal.monitor.look import Look
from moodal.monitor.quality import Interval, Quality


def table(look: Look) -> str:
    """Traffic, accuracy, drift, alerts: what is amiss first within each."""
    return "\n".join(
        [
            *_traffic(look),
            "",
            *_accuracy(look),
            "",
            *_drift(look),
            "",
            *_alerts(look),
            *_events(look),
        ]
    )


def _traffic(look: Look) -> Iterator[str]:
    yield f"{_time(look.since)} to {_time(look.until)} (UTC), model {look.name} {look.model}"
    yield f"requests    {look.requests:,}{_others(look)}"
    shares = (
        ("labels", look.labels),
        ("modalities", look.modalities),
        ("languages", look.languages),
    )
    for name, counts in shares:
        if counts:
            yield f"{name:<12}{_shares(counts)}"
    abstained = sum(bucket.abstained for bucket in look.buckets)
    if look.requests:
        yield f"abstained   {abstained / look.requests:.1%}"
    slowest = max((b for b in look.buckets if b.p99_ms), key=lambda b: b.p99_ms or 0, default=None)
    if slowest is not None:
        yield (
            f"latency     at worst p50 {slowest.p50_ms:,.1f} ms, p99 {slowest.p99_ms:,.1f} ms, "
            f"in the {look.bucket_seconds:,.0f} s from {_time(slowest.at)}"
        )


def _others(look: Look) -> str:
    """How many of the requests another model answered; then drift and accuracy are not of them."""
    others = look.requests - look.measured.rows
    sampled = look.measured.sampled
    told = f", {others:,} of them answered by other models" if others else ""
    return told + (f"; {sampled:,} looked at" if sampled < look.measured.rows else "")


def _accuracy(look: Look) -> list[str]:
    head = ["accuracy", "answers", "estimated", "", "judged", "right", "", "expected"]
    rows = [_quality(found) for found in look.measured.qualities if found.n or found.n_feedback]
    return aligned([head, *rows]) if rows else ["accuracy    nothing was answered by this model"]


def _quality(found: Quality) -> list[str]:
    return [
        found.name or "all",
        f"{found.n:,}",
        _share(found.estimated),
        _interval(found.estimated_interval),
        f"{found.n_feedback:,}",
        _share(found.feedback),
        _interval(found.feedback_interval),
        _share(found.expected),
    ]


def _drift(look: Look) -> list[str]:
    if not look.measured.drifts:
        return [
            "drift       this model, made by an older version, holds no reference: train it again"
        ]
    head = ["drift", "n", "PSI", "limit", "KS", "limit", "state"]
    rows = [_row(found) for found in look.measured.drifts if found.n]
    return aligned([head, *rows]) if rows else ["drift       nothing was answered by this model"]


def _row(found: Drift) -> list[str]:
    numbers = (found.psi, found.psi_limit, found.ks, found.ks_limit)
    cells = ["–" if value is None else f"{value:.3f}" for value in numbers]
    return [found.measure, f"{found.n:,}", *cells, found.state]


def _alerts(look: Look) -> Iterator[str]:
    if not look.alerts:
        yield "alerts      none"
    for alert in look.alerts:
        until = "still on" if alert.cleared is None else f"until {_time(alert.cleared)}"
        yield f"alert       {alert.sentence} (since {_time(alert.raised)}, {until})"


def _events(look: Look) -> Iterator[str]:
    for event in look.events[:5]:
        yield f"model       {_time(event.at)}  {event.change} {event.name} {event.model}"


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name or 'none'} {n / total:.1%}" for name, n in ordered[:8])
    return named if len(ordered) <= 8 else f"{named}, {len(ordered) - 8} more"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _interval(bounds: Interval | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:.1%}, {bounds[1]:.1%}]"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
