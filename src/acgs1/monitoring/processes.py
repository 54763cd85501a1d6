"""What the processes of the system say of themselves: their counts become events of objectives, their breakers are shown and steered."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from acgs1.contracts.monitoring import BreakerInstruction, ProcessCounts, ProcessReport, ReportedBreaker, Traffic
from acgs1.core.clock import Clock
from acgs1.core.ids import new_id
from acgs1.kit.errors import Forbidden

FORGOTTEN_AFTER: Final = timedelta(seconds=90)
"""A process that has not reported for so long is taken for gone."""
_RESETS_STAND: Final = timedelta(minutes=5)
_NO_TRAFFIC: Final = Traffic()
_NO_COUNTS: Final = ProcessCounts(traffic=_NO_TRAFFIC, enforcement=_NO_TRAFFIC, cache_hits=0, cache_waits=0)


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker of one process, as it was when the process last reported."""

    service: str
    instance: str
    reported_at: datetime
    seen: ReportedBreaker


@dataclass(slots=True)
class _Process:
    service: str
    sequence: int
    heard_at: datetime
    counts: ProcessCounts
    breakers: list[ReportedBreaker] = field(default_factory=list[ReportedBreaker])


class Processes:
    """Who reported, what was last heard, and what they are told. In memory: a process reports everything again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, _Process] = {}
        self._resets: deque[tuple[datetime, BreakerInstruction]] = deque(maxlen=100)

    def hear(self, report: ProcessReport) -> ProcessCounts | None:
        """Take in a report: what the process counted since its previous one; None when this one was heard before.

        The counts of a process that has run for longer than it has been known tell nothing of when they were: they are
        where counting begins. Raises Forbidden for an instance that is another service's.
        """
        known = self._known.get(report.instance)
        if known is not None and known.service != report.service:
            raise Forbidden(f"process `{report.instance}` is one of `{known.service}`, not of `{report.service}`")
        if known is not None and report.sequence <= known.sequence:
            return None
        unknown = _NO_COUNTS if report.sequence == 1 else report.counts
        before = unknown if known is None else known.counts
        now = self._clock.now()
        self._known[report.instance] = _Process(
            report.service, report.sequence, now, report.counts, list(report.breakers)
        )
        for instance in [i for i, process in self._known.items() if now - process.heard_at > FORGOTTEN_AFTER]:
            del self._known[instance]
        return _difference(report.counts, before)

    def breakers(self) -> list[Breaker]:
        """Every breaker of every process that reported in the last 90 seconds, by name."""
        since = self._clock.now() - FORGOTTEN_AFTER
        found = [
            Breaker(process.service, instance, process.heard_at, seen)
            for instance, process in self._known.items()
            if process.heard_at >= since
            for seen in process.breakers
        ]
        return sorted(found, key=lambda breaker: (breaker.seen.name, breaker.instance))

    def reset(self, name: str, reason: str) -> None:
        """Tell every process that has a breaker of this name to close it, within the next five minutes."""
        instruction = BreakerInstruction(id=new_id("brk"), name=name, action="reset", reason=reason)
        self._resets.append((self._clock.now(), instruction))

    def resets(self) -> list[BreakerInstruction]:
        since = self._clock.now() - _RESETS_STAND
        return [instruction for at, instruction in self._resets if at >= since]


def _difference(now: ProcessCounts, before: ProcessCounts) -> ProcessCounts:
    return ProcessCounts(
        traffic=_traffic(now.traffic, before.traffic),
        enforcement=_traffic(now.enforcement, before.enforcement),
        cache_hits=max(0, now.cache_hits - before.cache_hits),
        cache_waits=max(0, now.cache_waits - before.cache_waits),
    )


def _traffic(now: Traffic, before: Traffic) -> Traffic:
    earlier = before.within or [0] * len(now.within)
    return Traffic(
        requests=max(0, now.requests - before.requests),
        errors=max(0, now.errors - before.errors),
        within=[max(0, a - b) for a, b in zip(now.within, earlier, strict=False)],
    )
