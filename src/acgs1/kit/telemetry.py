"""Logs and metrics. One line per event; ids bound to it; never a secret, a token or a personal payload."""

import logging
import os
import re
import sys
from contextvars import ContextVar
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from acgs1.kit.tracing import trace_var

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)

_SECRET_NAMES = re.compile(r"password|secret|token|authorization|cookie|private_key", re.IGNORECASE)

OPERATIONS = ("/health", "/metrics", "/api/v1/monitoring/events", "/api/v1/monitoring/reports")
"""Routes (their beginnings) that are no work of a service: probes, reports, and streams that never end."""

REQUESTS = Counter("acgs_http_requests", "Requests answered", ["service", "method", "route", "status"])
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)
"""In seconds. The objectives' limits (0.05 for every request, 0.2 for enforcement) are among them, so that they are counted exactly."""
LATENCY = Histogram(
    "acgs_http_request_seconds",
    "Time to answer a request",
    ["service", "method", "route"],
    buckets=LATENCY_BUCKETS,
)
OUTBOUND = Counter("acgs_outbound_requests", "Calls to other parts", ["service", "target", "outcome"])
BREAKER_STATE = Gauge(
    "acgs_breaker_state",
    "1 for the state that a circuit breaker is in, 0 for those it was in",
    ["breaker", "state"],
    multiprocess_mode="livemax",
)
BREAKER_CALLS = Counter("acgs_breaker_calls", "Calls through a circuit breaker, by outcome", ["breaker", "outcome"])
BREAKER_REJECTED = Counter("acgs_breaker_rejected", "Calls that an open circuit breaker turned away", ["breaker"])
OUTBOX_PENDING = Gauge(
    "acgs_outbox_pending", "Events not yet acknowledged by the log", ["service"], multiprocess_mode="livemax"
)


def registry() -> CollectorRegistry:
    """What `/metrics` shows: this process's own metrics, or those of all workers of the service together where there are several
    (prometheus_client's multiprocess mode, which the supervisor chooses; it has no exemplars)."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    from prometheus_client.multiprocess import MultiProcessCollector

    together = CollectorRegistry()
    MultiProcessCollector(together)
    return together


# Local variables stay out of tracebacks: they hold tokens and personal data.
_EXCEPTIONS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
)


def _bind_ids(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    if request_id := request_id_var.get():
        event["request_id"] = request_id
    if trace := trace_var.get():
        event["trace_id"] = trace.trace_id
    return event


def _redact(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    for name in event:
        if _SECRET_NAMES.search(name):
            event[name] = "[redacted]"
    return event


def configure_logging(service: str, level: str) -> None:
    """Send structlog and the standard library's loggers to standard output as JSON lines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _bind_ids,
        _redact,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, _EXCEPTIONS, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _EXCEPTIONS,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING if level != "debug" else logging.DEBUG)
