"""The last traces, put together from the spans that the processes report. In memory: a viewer, no archive."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from acgs1.contracts.monitoring import ReportedSpan
from acgs1.core.errors import DomainError

_TRACES: Final = 300
_SPANS: Final = 200


class NoSuchTrace(DomainError):
    """It was not sampled, is too old, or its processes have not reported yet."""

    code = "no_such_trace"
    title = "No such trace is kept"


@dataclass(frozen=True, slots=True)
class PlacedSpan:
    """A span and the service that it happened in."""

    service: str
    span: ReportedSpan


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One trace at a glance: named for its root, or for the earliest span that is there."""

    trace_id: str
    name: str
    started_at: datetime
    seconds: float
    spans: int
    services: tuple[str, ...]
    errors: int
    complete: bool
    """Whether every span's parent is there, but for those that came from outside."""


class Traces:
    """The 300 traces that were heard of last, of each at most 200 spans."""

    def __init__(self) -> None:
        self._traces: OrderedDict[str, dict[str, PlacedSpan]] = OrderedDict()

    def add(self, service: str, spans: Iterable[ReportedSpan]) -> None:
        """Spans that happened in `service`; one that is known already changes nothing."""
        for span in spans:
            trace = self._traces.setdefault(span.trace_id, {})
            self._traces.move_to_end(span.trace_id)
            if len(trace) < _SPANS:
                trace.setdefault(span.span_id, PlacedSpan(service, span))
        while len(self._traces) > _TRACES:
            self._traces.popitem(last=False)

    def last(self, limit: int, *, service: str | None = None, errors_only: bool = False) -> list[TraceSummary]:
        """Newest first."""
        found = (_summary(trace_id, list(spans.values())) for trace_id, spans in reversed(self._traces.items()))
        wanted = (t for t in found if (service is None or service in t.services) and (t.errors or not errors_only))
        return [trace for trace, _ in zip(wanted, range(limit), strict=False)]

    def get(self, trace_id: str) -> list[PlacedSpan]:
        """The spans of one trace, in the order in which they began. Raises NoSuchTrace."""
        try:
            return sorted(self._traces[trace_id].values(), key=lambda placed: placed.span.start)
        except KeyError:
            raise NoSuchTrace(f"no trace `{trace_id}` among the last {len(self._traces)}") from None


def _summary(trace_id: str, spans: list[PlacedSpan]) -> TraceSummary:
    ids = {placed.span.span_id for placed in spans}
    first = min(spans, key=lambda placed: placed.span.start)
    root = next((placed for placed in spans if not placed.span.parent_id), first)
    orphans = {placed.span.parent_id for placed in spans if placed.span.parent_id} - ids
    return TraceSummary(
        trace_id=trace_id,
        name=f"{root.service}: {root.span.name}",
        started_at=datetime.fromtimestamp(first.span.start, UTC),
        seconds=max(placed.span.start + placed.span.seconds for placed in spans) - first.span.start,
        spans=len(spans),
        services=tuple(sorted({placed.service for placed in spans})),
        errors=sum(placed.span.error is not None for placed in spans),
        complete=not orphans or orphans == {root.span.parent_id},
    )
