"""Spans to an OpenTelemetry collector: OTLP over HTTP (protobuf), from a thread of its own with a bounded queue.

Imported only where `ACGS_OTLP_ENDPOINT` is set: the SDK costs 0.2 s at start.
"""

from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from acgs1 import __version__
from acgs1.kit.breaker import CircuitBreaker, CircuitOpenError
from acgs1.kit.tracing import CLIENT, INTERNAL, SERVER, Span

_KINDS: Final = {SERVER: SpanKind.SERVER, CLIENT: SpanKind.CLIENT, INTERNAL: SpanKind.INTERNAL}
_TIMEOUT_SECONDS: Final = 5.0
_NANOSECONDS: Final = 1_000_000_000


class OtlpExport:
    """Give `export` to `Recorder.listener`; it only queues (at most 2048, then the newest are dropped). `close` sends what is left.

    `endpoint` is the full URL of the collector's traces endpoint.
    """

    def __init__(self, endpoint: str, service: str, breaker: CircuitBreaker) -> None:
        self._resource = Resource.create({"service.name": f"acgs1-{service}", "service.version": __version__})
        self._scope = InstrumentationScope("acgs1", __version__)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_SECONDS)
        self._processor = BatchSpanProcessor(_Guarded(exporter, breaker))

    def export(self, span: Span) -> None:
        self._processor.on_end(_readable(span, self._resource, self._scope))

    def close(self) -> None:
        """Blocks until the queue has been sent or given up."""
        self._processor.shutdown()


class _Guarded(SpanExporter):
    """An exporter behind its edge's breaker: a collector that is away is asked once in a while."""

    def __init__(self, exporter: SpanExporter, breaker: CircuitBreaker) -> None:
        self._exporter = exporter
        self._breaker = breaker

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            with self._breaker:
                self._deliver(spans)
        except (CircuitOpenError, ConnectionError):
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _deliver(self, spans: Sequence[ReadableSpan]) -> None:
        if self._exporter.export(spans) is SpanExportResult.FAILURE:
            raise ConnectionError("the collector did not take the spans")

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    start = int(span.start * _NANOSECONDS)
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id),
        parent=_context(span.trace_id, span.parent_id, remote=span.kind == SERVER) if span.parent_id else None,
        resource=resource,
        attributes={**span.attributes, **({"error.type": span.error} if span.error else {})},
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR if span.error else StatusCode.UNSET),
        start_time=start,
        end_time=start + int(span.seconds * _NANOSECONDS),
        instrumentation_scope=scope,
    )


def _context(trace_id: str, span_id: str, *, remote: bool = False) -> SpanContext:
    # What gets here is to be sent, also the failures of a trace that was not sampled.
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED))
