"""Alerts: what fires, since when, who was told. Deduplicated, grouped, silenced, escalated, resolved. Pure but for the clock."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.ids import new_id
from acgs1.monitoring.slo import RANK, Severity

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
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None


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
    """All alerts that fire, and the last 200 that did. `due` says what to tell the sinks, `changed` what to store."""

    def __init__(self, clock: Clock, *, escalate_after: timedelta) -> None:
        self._clock = clock
        self._escalate_after = escalate_after
        self._firing: dict[tuple[str, str], Alert] = {}
        self._resolved: list[Alert] = []
        self._silences: list[Silence] = []
        self._untold: list[Alert] = []
        self._changed: dict[str, Alert] = {}

    def restore(self, alerts: Iterable[Alert], silences: Iterable[Silence]) -> None:
        """Go on from what was stored, oldest first."""
        for alert in alerts:
            if alert.resolved_at is None:
                self._firing[alert.name, alert.target] = alert
            else:
                self._resolved = [*self._resolved, alert][-_KEPT:]
        self._silences = list(silences)

    def changed(self) -> list[Alert]:
        """The alerts that are not stored as they are now."""
        return list(self._changed.values())

    def stored(self, alerts: Iterable[Alert]) -> None:
        """These have been stored; one that has changed meanwhile still differs."""
        for alert in alerts:
            if self._changed.get(alert.id) is alert:
                del self._changed[alert.id]

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
            worse = RANK[severity] > RANK[known.severity]
            alert = replace(
                known,
                severity=severity if worse or not known.escalated else known.severity,
                # Somebody has seen what it was, not what it has become.
                acknowledged_at=None if worse else known.acknowledged_at,
                acknowledged_by=None if worse else known.acknowledged_by,
                summary=summary,
                evidence=evidence,
                updated_at=now,
                notified_at=None if worse else known.notified_at,
                occurrences=known.occurrences + 1,
            )
        self._keep(alert)
        return alert

    def resolve(self, name: str, target: str) -> Alert | None:
        """The condition no longer holds. Whoever is told of alerts hears of it, also of one that nobody had heard of yet: it was no
        less there for having been short. One that is silenced and has not been told stays untold."""
        alert = self._firing.pop((name, target), None)
        if alert is None:
            return None
        now = self._clock.now()
        alert = replace(alert, resolved_at=now, updated_at=now)
        self._resolved = [*self._resolved, alert][-_KEPT:]
        self._changed[alert.id] = alert
        if alert.notified_at is not None or not any(silence.covers(alert, now) for silence in self._silences):
            self._untold.append(alert)
        return alert

    def acknowledge(self, alert_id: str, by: str) -> Alert:
        """Somebody looks after it: no reminder and no escalation from now on, unless it gets worse. Raises NoSuchAlert."""
        alert = next((alert for alert in self._firing.values() if alert.id == alert_id), None)
        if alert is None:
            raise NoSuchAlert(f"no alert `{alert_id}` fires")
        alert = replace(alert, acknowledged_at=self._clock.now(), acknowledged_by=by)
        self._keep(alert)
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
        for key, alert in list(self._firing.items()):
            if any(silence.covers(alert, now) for silence in self._silences):
                continue
            late = now - alert.started_at >= self._escalate_after and alert.acknowledged_at is None
            if alert.severity is Severity.CRITICAL and late and not alert.escalated:
                alert = replace(alert, severity=Severity.EMERGENCY, escalated=True, notified_at=None)  # noqa: PLW2901
            again = (
                alert.acknowledged_at is None and alert.notified_at is not None and now - alert.notified_at >= _REPEAT
            )
            if alert.notified_at is None or again:
                alert = replace(alert, notified_at=now)  # noqa: PLW2901
                told.setdefault(alert.name, []).append(alert)
            if alert is not self._firing[key]:
                self._keep(alert)
        return list(told.values())

    def _keep(self, alert: Alert) -> None:
        self._firing[alert.name, alert.target] = alert
        self._changed[alert.id] = alert
