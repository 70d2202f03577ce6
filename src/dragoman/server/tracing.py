"""Traces for OpenTelemetry: a span a request, and within it how long it waited and how long it was worked on.

Neither texts nor keys are in them. A client's `traceparent` is continued; OpenTelemetry's own variables count
(OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, ...).
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from dragoman.errors import InvalidOption

if TYPE_CHECKING:
    from opentelemetry.trace import Span

T = TypeVar("T")


class Tracing:
    """Where a server's spans go."""

    def __init__(self, endpoint: str) -> None:
        """endpoint: an address that takes OTLP over HTTP. Raises InvalidOption without OpenTelemetry."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise InvalidOption(
                f"traces need {error.name}, which is not installed: pip install 'dragoman[otel]'"
            ) from None
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        import dragoman

        name = os.environ.get("OTEL_SERVICE_NAME", "dragoman")
        resource = Resource.create({"service.name": name, "service.version": dragoman.__version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("dragoman.server")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, headers: Mapping[str, str]) -> "Span":
        """The span of a request, which begins now."""
        from opentelemetry.trace import SpanKind

        context = self._propagator.extract({"traceparent": headers.get("traceparent", "")})
        return self._tracer.start_span("request", context, SpanKind.SERVER)

    def end(self, span: "Span", method: str, route: str, status: int, characters: int | None) -> None:
        """A request has been answered. route: its path as it is declared."""
        from opentelemetry.trace import StatusCode

        span.update_name(f"{method} {route}")
        facts: dict[str, Any] = {"http.request.method": method, "http.route": route}
        facts["http.response.status_code"] = status
        if characters is not None:
            facts["dragoman.characters"] = characters
        span.set_attributes(facts)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    def timed(self, span: "Span", work: Callable[..., T]) -> Callable[..., T]:
        """This work, which waits from now on, with spans of its waiting and of its doing."""
        entered = time.time_ns()

        def timed(*args: Any) -> T:
            begun = time.time_ns()
            self._part(span, "queue", entered, begun)
            try:
                return work(*args)
            finally:
                self._part(span, "engine", begun, time.time_ns())

        return timed

    def apart(self, name: str, work: Callable[..., T]) -> Callable[..., T]:
        """The same for work that outlives its request, in a trace of its own."""
        span = self._tracer.start_span(name)
        timed = self.timed(span, work)

        def whole(*args: Any) -> T:
            try:
                return timed(*args)
            finally:
                span.end()

        return whole

    def close(self) -> None:
        """Send what waits to be sent."""
        self._provider.shutdown()

    def _part(self, span: "Span", name: str, begun: int, ended: int) -> None:
        from opentelemetry.trace import set_span_in_context

        part = self._tracer.start_span(name, set_span_in_context(span), start_time=begun)
        part.end(ended)
