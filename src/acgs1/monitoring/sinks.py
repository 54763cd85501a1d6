"""Where alerts are sent: the log, a signed webhook, a Slack-compatible webhook, Alertmanager (API v2), mail."""

import asyncio
import hashlib
import hmac
import json
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import structlog

from acgs1.core.clock import format_instant
from acgs1.monitoring.alerts import Alert
from acgs1.monitoring.settings import MonitoringSettings

_log = structlog.get_logger()
_DEADLINE = 10.0


class Sink(Protocol):
    """Takes one group of alerts. Raises when it could not hand them on."""

    async def send(self, alerts: Sequence[Alert]) -> None: ...


class LogSink:
    """One line per alert."""

    async def send(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            state = "resolved" if alert.resolved_at else "firing"
            _log.warning("alert", state=state, **{k: v for k, v in as_json(alert).items() if k != "evidence"})


class WebhookSink:
    """POSTs `{"alerts": [...]}` with `X-ACGS-Signature: sha256=<HMAC-SHA256 of the body, hex>`."""

    def __init__(self, http: httpx.AsyncClient, url: str, secret: str) -> None:
        self._http = http
        self._url = url
        self._secret = secret.encode()

    async def send(self, alerts: Sequence[Alert]) -> None:
        body = json.dumps({"alerts": [as_json(alert) for alert in alerts]}).encode()
        signature = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-ACGS-Signature": f"sha256={signature}"}
        (await self._http.post(self._url, content=body, headers=headers, timeout=_DEADLINE)).raise_for_status()


class SlackSink:
    """POSTs `{"text": ...}` as Slack's incoming webhooks and their imitators take it."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url

    async def send(self, alerts: Sequence[Alert]) -> None:
        body = {"text": "\n".join(_line(alert) for alert in alerts)}
        (await self._http.post(self._url, json=body, timeout=_DEADLINE)).raise_for_status()


class AlertmanagerSink:
    """POSTs to `/api/v2/alerts` of Prometheus Alertmanager."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url.rstrip("/") + "/api/v2/alerts"

    async def send(self, alerts: Sequence[Alert]) -> None:
        body: list[dict[str, Any]] = []
        for alert in alerts:
            entry: dict[str, Any] = {
                "labels": {"alertname": alert.name, "target": alert.target, "severity": alert.severity},
                "annotations": {"summary": alert.summary, "runbook_url": alert.runbook},
                "startsAt": format_instant(alert.started_at),
            }
            if alert.resolved_at is not None:
                entry["endsAt"] = format_instant(alert.resolved_at)
            body.append(entry)
        (await self._http.post(self._url, json=body, timeout=_DEADLINE)).raise_for_status()


class SmtpSink:
    """One mail per group, by the standard library in a thread. A password is never sent without TLS."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        if parts.scheme != "smtp" or not parts.hostname or "from" not in query or "to" not in query:
            raise ValueError("smtp_url is `smtp://user:password@host:port?from=...&to=...`")
        self._host, self._port = parts.hostname, parts.port or 25
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._sender, self._receivers = query["from"][0], query["to"]

    async def send(self, alerts: Sequence[Alert]) -> None:
        message = EmailMessage()
        message["Subject"] = f"[{alerts[0].severity}] {alerts[0].name}: {', '.join(a.target for a in alerts)}"
        message["From"] = self._sender
        message["To"] = ", ".join(self._receivers)
        message.set_content("\n".join(_line(alert) for alert in alerts))
        await asyncio.to_thread(self._deliver, message)

    def _deliver(self, message: EmailMessage) -> None:
        with smtplib.SMTP(self._host, self._port, timeout=_DEADLINE) as connection:
            if self._password:
                # Without a context smtplib would take any certificate.
                connection.starttls(context=ssl.create_default_context())
                connection.login(self._user, self._password)
            connection.send_message(message)


def sinks_of(settings: MonitoringSettings, http: httpx.AsyncClient) -> list[Sink]:
    """The log always, and whatever the settings name. Raises ValueError for a webhook without its secret."""
    sinks: list[Sink] = [LogSink()]
    if settings.webhook_url:
        if settings.webhook_secret is None:
            raise ValueError("ACGS_MONITORING_WEBHOOK_URL needs ACGS_MONITORING_WEBHOOK_SECRET")
        sinks.append(WebhookSink(http, settings.webhook_url, settings.webhook_secret.get_secret_value()))
    if settings.slack_url:
        sinks.append(SlackSink(http, settings.slack_url.get_secret_value()))
    if settings.alertmanager_url:
        sinks.append(AlertmanagerSink(http, settings.alertmanager_url))
    if settings.smtp_url:
        sinks.append(SmtpSink(settings.smtp_url.get_secret_value()))
    return sinks


def as_json(alert: Alert) -> dict[str, Any]:
    """The alert as it goes over the wire."""
    return {
        "id": alert.id,
        "name": alert.name,
        "target": alert.target,
        "severity": str(alert.severity),
        "summary": alert.summary,
        "runbook": alert.runbook,
        "evidence": alert.evidence,
        "started_at": format_instant(alert.started_at),
        "updated_at": format_instant(alert.updated_at),
        "resolved_at": format_instant(alert.resolved_at) if alert.resolved_at else None,
        "occurrences": alert.occurrences,
        "acknowledged_at": format_instant(alert.acknowledged_at) if alert.acknowledged_at else None,
        "acknowledged_by": alert.acknowledged_by,
    }


def _line(alert: Alert) -> str:
    head = "RESOLVED" if alert.resolved_at else alert.severity.upper()
    return f"[{head}] {alert.target}: {alert.summary} (since {format_instant(alert.started_at)}; {alert.runbook})"
