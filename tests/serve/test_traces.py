"""Spans, into an exporter that remembers them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from moodal.errors import CapacityError
from moodal.serve import traces
from moodal.serve.traces import Traces
from tests.serve.conftest import Running
from tests.serve.test_asking import GIVEN

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_request_has_a_span_with_its_reading_and_inference(start: Callable[..., Running]) -> None:
    exporter = InMemorySpanExporter()
    running = start()
    running.service.traces = Traces(exporter)
    running.send("/v1/predict", GIVEN, {"traceparent": PARENT})
    running.service.traces.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"POST /v1/predict", "read", "infer"}
    request = spans["POST /v1/predict"]
    assert f"{request.context.trace_id:032x}" == PARENT[3:35]
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT[36:52]
    for name in ("read", "infer"):
        span = spans[name]
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
        assert request.start_time <= span.start_time <= span.end_time <= request.end_time  # type: ignore[operator]
    assert spans["infer"].attributes == {"records": 1}


def test_without_an_endpoint_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(traces.ENDPOINT, raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert not Traces().on


def test_an_endpoint_without_the_packages_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(traces.ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(CapacityError, match=r"moodal\[traces\]"):
        Traces()
