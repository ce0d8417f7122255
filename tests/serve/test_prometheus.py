"""Numbers for Prometheus."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from moodal.serve.metrics import MOST_SERIES, Metrics
from moodal.types import Prediction


def values(text: bytes) -> dict[str, float]:
    """Samples by their names and labels."""
    return {
        sample.name
        + "".join(f",{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def told(label: str | None, confidence: float = 0.5, *, value: float | None = None) -> Prediction:
    return Prediction(
        id="0", label=label, value=value, probabilities={}, confidence=confidence,
        modalities=("text",), contributions={},
    )  # fmt: skip


def test_a_batch_is_counted_by_what_is_alike() -> None:
    metrics = Metrics()
    metrics.batch([told("good", 0.95), told("good", 0.25), told("bad"), told(None, 0.0, value=2.5)])
    found = values(metrics.render())
    assert found["moodal_answers_total,good"] == 2
    assert found["moodal_answers_total,bad"] == 1
    assert found["moodal_modalities_total,text"] == 4
    assert found["moodal_batch_records_bucket,4.0"] == 1
    assert found["moodal_batch_records_bucket,2.0"] == 0
    assert found["moodal_confidence_count"] == 3  # a number has none
    assert found["moodal_confidence_bucket,0.3"] == 1


def test_names_without_end_are_counted_as_other() -> None:
    metrics = Metrics()
    for n in range(MOST_SERIES + 50):
        metrics.error(f"code {n}")
    found = values(metrics.render())
    assert found["moodal_errors_total,other"] == 50
    assert len([name for name in found if name.startswith("moodal_errors")]) == MOST_SERIES + 1


def test_one_model_answers_at_a_time() -> None:
    metrics = Metrics()
    metrics.answering("aaa", "old")
    metrics.answering("bbb", "new")
    found = values(metrics.render())
    assert (found["moodal_model_info,old,aaa"], found["moodal_model_info,new,bbb"]) == (0, 1)


def test_rows_lost_are_growing_counts() -> None:
    metrics = Metrics()
    for total in (0, 3, 3, 5):
        metrics.lost({"dropped": total, "refused": 1})
    found = values(metrics.render())
    assert found["moodal_journal_lost_total,dropped"] == 5
    assert found["moodal_journal_lost_total,refused"] == 1


@dataclass
class Found:
    psi: Mapping[str, float] = field(default_factory=lambda: {"text.length": 0.3})
    ks: Mapping[str, float] = field(default_factory=lambda: {"text.length": 0.2})
    estimated_accuracy: float | None = 0.75
    feedback_accuracy: float | None = None
    alerts: Mapping[str, bool] = field(default_factory=lambda: {"drift:label": True, "x": False})


def test_what_the_monitor_found_is_shown() -> None:
    metrics = Metrics()
    metrics.found(Found())
    found = values(metrics.render())
    assert found["moodal_drift_psi,text.length"] == 0.3
    assert found["moodal_drift_ks,text.length"] == 0.2
    assert found["moodal_estimated_accuracy"] == 0.75
    assert (found["moodal_alert,drift:label"], found["moodal_alert,x"]) == (1, 0)


def count(n: int) -> None:
    metrics = Metrics()
    for _ in range(n):
        metrics.request("/v1/predict", 200, 0.01)
    metrics.queue_records.set(n)


def test_workers_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    spawn = multiprocessing.get_context("spawn")
    for n in (2, 3):
        process = spawn.Process(target=count, args=(n,))
        process.start()
        process.join(60)
        assert process.exitcode == 0
    found = values(Metrics().render())
    assert found["moodal_requests_total,/v1/predict,200"] == 5
    assert found["moodal_request_seconds_count,/v1/predict"] == 5
    assert found["moodal_queue_records"] == 5
