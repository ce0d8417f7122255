"""OpenTelemetry traces, where an endpoint is set: one span a request, under it its reading and its
inference."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from moodal.errors import CapacityError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Traces:
    """Where spans go. Nothing is done, and nothing imported, without an exporter.

    exporter: None = by OTLP over HTTP, where the environment names an endpoint.
    Raises: CapacityError when one is named and the packages are missing.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        self._provider: Any = None
        self._tracer: Any = None
        if exporter is None and not os.environ.get(ENDPOINT):
            return
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise CapacityError(
                f"{ENDPOINT} is set, and traces need the package {error.name}: "
                "pip install 'moodal[traces]'"
            ) from error
        name = os.environ.get("OTEL_SERVICE_NAME", "moodal")
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("moodal")

    @property
    def on(self) -> bool:
        return self._tracer is not None

    @contextmanager
    def request(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> Iterator[Any]:
        """The span of a request, a child of the caller's where a traceparent was sent."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        carrier = {k.decode("latin-1"): v.decode("latin-1") for k, v in headers.items()}
        with self._tracer.start_as_current_span(
            f"{method} {path}",
            context=extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.path": path},
        ) as span:
            yield span

    def here(self) -> Any:
        """What a span made elsewhere names as its parent."""
        from opentelemetry.context import get_current

        return get_current()

    def done(self, name: str, context: Any, span: tuple[float, float], **attributes: Any) -> None:
        """A span that is over. context: of `here`. span: its begin and end by time.monotonic."""
        shift = time.time() - time.monotonic()
        began, ended = (round((shift + at) * 1e9) for at in span)
        made = self._tracer.start_span(name, context, start_time=began, attributes=attributes)
        made.end(ended)

    def close(self) -> None:
        """Send what waits."""
        if self._provider is not None:
            self._provider.shutdown()
