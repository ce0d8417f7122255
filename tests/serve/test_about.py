"""What the service says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from moodal import bundle
from tests.serve.conftest import Running, serving, settings_of, until
from tests.tiny import train_once

DESIGNED = {
    "moodal_requests": {"route", "status"},
    "moodal_errors": {"code"},
    "moodal_request_seconds": {"route", "le"},
    "moodal_queue_records": set(),
    "moodal_batch_records": {"le"},
    "moodal_modalities": {"modalities"},
    "moodal_answers": {"label"},
    "moodal_confidence": {"le"},
    "moodal_abstained": {"reason"},
    "moodal_journal_waiting": set(),
    "moodal_journal_lost": {"why"},
    "moodal_feedback": {"right"},
    "moodal_feedback_accuracy": set(),
    "moodal_estimated_accuracy": set(),
    "moodal_drift_psi": {"measure"},
    "moodal_drift_ks": {"measure"},
    "moodal_alert": {"name"},
    "moodal_model_info": {"version", "name"},
    "moodal_reloads": {"result"},
    "moodal_streams": set(),
}
"""Metric -> its labels, as dashboards and rules read them."""


def values(running: Running) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = running.get("/metrics").body.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_alive_and_ready(server: Running) -> None:
    assert server.get("/healthz").json() == {"status": "alive"}
    ready = server.get("/readyz").json()
    assert ready["ready"] is True
    assert ready["model_version"] == server.service.version
    assert ready["journal"] == "reachable"


def test_not_ready_when_the_engine_has_ended(start: Callable[..., Running]) -> None:
    running = start()
    running.service._engine.close(5)
    reply = running.get("/readyz")
    assert (reply.status, reply.json()["ready"]) == (503, False)
    assert running.get("/healthz").status == 200
    assert running.post("/v1/predict", {"text": "a"}).json()["error"]["code"] == "stopping"


def test_a_journal_that_is_away_is_told_and_waited_for(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    running = start(keep_inputs=None)
    answer = running.post("/v1/predict", {"text": "good"}).json()
    until(lambda: running.get("/readyz").json()["journal"] != "reachable")
    ready = running.get("/readyz").json()
    assert ready["ready"] is True
    assert ready["waiting_bytes"] > 0
    metrics = values(running)
    assert metrics["moodal_journal_waiting", ()] > 0
    assert metrics["moodal_journal_reachable", ()] == 0
    (tmp_path / "journal.sqlite").rmdir()
    until(lambda: running.get("/readyz").json()["journal"] == "reachable")
    assert running.service.spool.flush(20)
    assert running.service.journal.find(answer["prediction_id"]) is not None


def test_the_model_is_described(server: Running) -> None:
    info = bundle.load(train_once())
    model = server.get("/v1/model").json()
    assert model["version"] == bundle.version(info)
    assert (model["name"], model["task"]) == (info.name, info.task)
    assert tuple(model["labels"]) == info.labels
    assert model["modalities"] == ["text", "image", "audio"]
    assert model["limits"]["characters"] == 10_000
    assert model["threshold"] == info.threshold
    assert model["scores"].keys() == info.scores.keys()


def test_every_metric_that_was_designed_is_exported(server: Running) -> None:
    server.post("/v1/predict", {"text": "good"})
    families = {
        f.name: f for f in text_string_to_metric_families(server.get("/metrics").body.decode())
    }
    assert set(DESIGNED) <= set(families)
    for name, labels in DESIGNED.items():
        for sample in families[name].samples:
            assert set(sample.labels) <= labels


def test_what_happens_is_counted(start: Callable[..., Running]) -> None:
    running = start()
    records = [{"text": "good"}, {"text": " "}, {"image": "!"}]
    answers = running.post("/v1/predict/batch", {"records": records}).json()["answers"]
    running.get("/nothing")
    found = values(running)
    route = ("route", "/v1/predict/batch")
    assert found["moodal_requests_total", (route, ("status", "200"))] == 1
    assert found["moodal_request_seconds_count", (route,)] == 1
    assert found["moodal_requests_total", (("route", "other"), ("status", "404"))] == 1
    assert found["moodal_errors_total", (("code", "record"),)] == 1
    assert found["moodal_errors_total", (("code", "not_found"),)] == 1
    assert found["moodal_modalities_total", (("modalities", "text"),)] == 1
    assert found["moodal_modalities_total", (("modalities", "none"),)] == 1
    assert sum(v for (n, _), v in found.items() if n == "moodal_answers_total") == 2
    assert found["moodal_confidence_count", ()] == 2
    told = sum(answer["confidence"] for answer in answers[:2])
    assert abs(found["moodal_confidence_sum", ()] - told) < 1e-9
    assert found["moodal_abstained_total", (("reason", "empty"),)] == 1
    assert found["moodal_batch_records_sum", ()] == 2
    model = (("name", "model"), ("version", running.service.version))
    assert found["moodal_model_info", model] == 1


def test_the_monitor_looks_at_what_was_answered(start: Callable[..., Running]) -> None:
    running = start()
    running.post("/v1/predict", {"text": "good"})
    assert running.service.spool.flush(20)
    look = running.get("/v1/monitor?since=1h").json()
    assert look["requests"] == 1
    assert look["model"] == running.service.version
    assert {"buckets", "labels", "drift", "accuracy", "alerts", "events"} <= set(look)
    for since in ("", "x", "0h", "24", "999999h", "1h;", "１h"):
        reply = running.get(
            f"/v1/monitor?since={since.encode().hex() if not since.isascii() else since}"
        )
        assert reply.json()["error"]["field"] == "since"


def test_the_watch_looks_by_itself_and_its_numbers_are_exported(
    start: Callable[..., Running],
) -> None:
    running = start(monitor_seconds=0.01)
    running.post("/v1/predict", {"text": "good"})
    until(lambda: "moodal_estimated_accuracy 0.0" not in running.get("/metrics").body.decode())


def test_which_model_answers_is_written_down_once(tmp_path: Path) -> None:
    for _ in range(2):
        with serving(settings_of(tmp_path)) as running:
            until(lambda running=running: running.service.watching)
            events = until(lambda running=running: running.service.journal.events())
    assert [(e.change, e.model) for e in events] == [("served", running.service.version)]
