"""Alerts: what fires, since when, who was told. Deduplicated, grouped, silenced, escalated, resolved. Pure but for the clock."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.ids import new_id
from acgs1.monitoring.slo import Severity

_REPEAT: Final = timedelta(hours=4)
_KEPT: Final = 200


class NoSuchAlert(DomainError):
    code = "no_such_alert"
    title = "There is no such alert"


@dataclass(frozen=True, slots=True)
class Alert:
    """One condition that holds, from when it began until it ended. `name` and `target` together identify it."""

    id: str
    name: str
    target: str
    severity: Severity
    summary: str
    runbook: str
    evidence: dict[str, Any]
    started_at: datetime
    updated_at: datetime
    notified_at: datetime | None = None
    resolved_at: datetime | None = None
    escalated: bool = False
    occurrences: int = 1


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts of `name` and `target` (None: any) are kept but nobody is told, until `until`."""

    id: str
    name: str | None
    target: str | None
    until: datetime
    reason: str
    by: str

    def covers(self, alert: Alert, now: datetime) -> bool:
        return now < self.until and self.name in {None, alert.name} and self.target in {None, alert.target}


class AlertBook:
    """All alerts that fire, and the last 200 that did. `due` says what to tell the sinks."""

    def __init__(self, clock: Clock, *, escalate_after: timedelta) -> None:
        self._clock = clock
        self._escalate_after = escalate_after
        self._firing: dict[tuple[str, str], Alert] = {}
        self._resolved: list[Alert] = []
        self._silences: list[Silence] = []
        self._untold: list[Alert] = []

    @property
    def firing(self) -> list[Alert]:
        return sorted(self._firing.values(), key=lambda alert: alert.started_at, reverse=True)

    @property
    def resolved(self) -> list[Alert]:
        """Newest first."""
        return self._resolved[::-1]

    @property
    def silences(self) -> list[Silence]:
        now = self._clock.now()
        return [silence for silence in self._silences if now < silence.until]

    def fire(
        self, name: str, target: str, severity: Severity, summary: str, *, runbook: str, evidence: dict[str, Any]
    ) -> Alert:
        """The condition holds. Firing what already fires updates it and tells nobody again, unless it got worse."""
        now = self._clock.now()
        known = self._firing.get((name, target))
        if known is None:
            alert = Alert(new_id("alr"), name, target, severity, summary, runbook, evidence, now, now)
        else:
            worse = _RANK[severity] > _RANK[known.severity]
            alert = replace(
                known,
                severity=severity if worse or not known.escalated else known.severity,
                summary=summary,
                evidence=evidence,
                updated_at=now,
                notified_at=None if worse else known.notified_at,
                occurrences=known.occurrences + 1,
            )
        self._firing[name, target] = alert
        return alert

    def resolve(self, name: str, target: str) -> Alert | None:
        """The condition no longer holds; those who were told of it are told so."""
        alert = self._firing.pop((name, target), None)
        if alert is None:
            return None
        now = self._clock.now()
        alert = replace(alert, resolved_at=now, updated_at=now)
        self._resolved = [*self._resolved, alert][-_KEPT:]
        if alert.notified_at is not None:
            self._untold.append(alert)
        return alert

    def silence(self, *, name: str | None, target: str | None, until: datetime, reason: str, by: str) -> Silence:
        silence = Silence(new_id("sil"), name, target, until, reason, by)
        self._silences = [*self.silences, silence]
        return silence

    def end_silence(self, silence_id: str) -> None:
        """Raises NoSuchAlert."""
        left = [silence for silence in self._silences if silence.id != silence_id]
        if len(left) == len(self._silences):
            raise NoSuchAlert(f"no silence `{silence_id}`")
        self._silences = left

    def due(self) -> list[list[Alert]]:
        """What to tell now, grouped by alert name so that ten failing parts make one message. Calling it marks it told."""
        now = self._clock.now()
        told: dict[str, list[Alert]] = {}
        for alert in self._untold:
            told.setdefault(alert.name, []).append(alert)
        self._untold = []
        for key, alert in self._firing.items():
            if any(silence.covers(alert, now) for silence in self._silences):
                continue
            late = now - alert.started_at >= self._escalate_after
            if alert.severity is Severity.CRITICAL and late and not alert.escalated:
                alert = replace(alert, severity=Severity.EMERGENCY, escalated=True, notified_at=None)  # noqa: PLW2901
            if alert.notified_at is None or now - alert.notified_at >= _REPEAT:
                alert = replace(alert, notified_at=now)  # noqa: PLW2901
                told.setdefault(alert.name, []).append(alert)
            self._firing[key] = alert
        return list(told.values())


_RANK: Final = {severity: rank for rank, severity in enumerate(Severity)}
