"""The watch over a running service: look, raise and clear alerts, say the numbers to be plotted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from moodal import bundle
from moodal.monitor.alert import Hysteresis, Signal, signals
from moodal.monitor.look import Measured, measure, span
from moodal.runtime.reference import Reference
from moodal.store.ids import new_id
from moodal.store.journal import Count, Journal
from moodal.store.rows import Alert

STRETCHES = (3_600, 21_600, 86_400, 604_800)
"""Seconds looked back: the shortest with ENOUGH answers, so that much traffic is judged soon, and
little is judged at all. At what people said, of whom there are fewer, always the longest."""
ENOUGH = 1_000


@dataclass(frozen=True, slots=True)
class Gauges:
    """Numbers to be plotted. psi, ks: by measure, where there are rows enough. alerts: by name,
    whether it is open; those that ever were, and those that could be."""

    psi: Mapping[str, float] = field(default_factory=dict)
    ks: Mapping[str, float] = field(default_factory=dict)
    estimated_accuracy: float | None = None
    feedback_accuracy: float | None = None
    alerts: Mapping[str, bool] = field(default_factory=dict)


class Watch:
    """Watches the answers of one version. info, reference: of its model.

    Raises: CapacityError when the journal cannot be reached, here and in step.
    """

    def __init__(self, journal: Journal, info: bundle.Info, reference: Reference) -> None:
        self._journal, self._info, self._reference = journal, info, reference
        self._state = Hysteresis(alert.name for alert in journal.alerts(open_only=True))

    def step(self, now: float) -> Gauges:
        """Look once, and put into the journal what became of the alerts."""
        self._let_go(now)
        measured = self._measured(now)
        watched = list(signals(measured.drifts, measured.quality, validated=_validated(self._info)))
        for signal in watched:
            self._tell(signal, now)
        told = [d for d in measured.drifts if d.state != "few"]
        names = {signal.name for signal in watched} | self._state.opened
        return Gauges(
            psi={d.measure: d.psi for d in told},
            ks={d.measure: d.ks for d in told if d.ks is not None},
            estimated_accuracy=measured.quality.estimated,
            feedback_accuracy=measured.quality.feedback,
            alerts={name: name in self._state.opened for name in sorted(names)},
        )

    def _measured(self, now: float) -> Measured:
        version = bundle.version(self._info)
        counts: list[Count] = []
        for stretch in STRETCHES:
            seconds = span(stretch)
            counts = self._journal.counts(since=now - stretch, until=now, bucket=seconds)
            if sum(c.n for c in counts if c.model == version) >= ENOUGH:
                break
        return measure(
            self._journal,
            counts,
            self._journal.judged(since=now - STRETCHES[-1]),
            reference=self._reference,
            info=self._info,
            seconds=seconds,
        )

    def _let_go(self, now: float) -> None:
        """End the alerts of a model before this one that nothing here could end."""
        known = {f"drift:{name}" for name in (*self._reference.measures, *self._reference.counts)}
        for name in [n for n in self._state.opened if n.startswith("drift:") and n not in known]:
            self._state.opened.remove(name)
            self._journal.clear_alert(name, now)

    def _tell(self, signal: Signal, now: float) -> None:
        step = self._state.step(signal)
        if step == "clear":
            self._journal.clear_alert(signal.name, now)
        elif step == "raise":
            made = Alert(
                new_id(now), signal.name, now, None, signal.value, signal.limit, *signal.sentences
            )
            self._journal.raise_alert(made)


def _validated(info: bundle.Info) -> float | None:
    """Accuracy on the validation rows, where labels were answered."""
    found = info.scores.get("all", {}).get("accuracy")
    return None if found is None else float(found)
