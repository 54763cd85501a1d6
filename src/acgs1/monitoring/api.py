"""The monitor over HTTP: a router for the console process. Reading needs a person or an operator; changing needs an operator."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, Field

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Message, Page
from acgs1.contracts.monitoring import ProcessReport, ReportAnswer, ReportedBreaker
from acgs1.core.errors import DomainError
from acgs1.kit.access import require
from acgs1.kit.breaker import UnknownBreaker
from acgs1.kit.errors import Forbidden
from acgs1.kit.platform import Platform
from acgs1.kit.web import api_router
from acgs1.monitoring.alerts import NoSuchAlert
from acgs1.monitoring.forecast import Forecast
from acgs1.monitoring.health import Status
from acgs1.monitoring.objectives import LATENCY_TARGET_SECONDS
from acgs1.monitoring.processes import Breaker
from acgs1.monitoring.service import (
    EnhancedMonitoringService,
    NoSuchMaintenance,
    NotMonitoring,
    UnknownTarget,
    get_monitoring_service,
)
from acgs1.monitoring.sinks import as_json
from acgs1.monitoring.traces import NoSuchTrace
from acgs1.monitoring.workflows import InvalidExecution, UnknownWorkflow

STATUSES: dict[type[DomainError], int] = {
    UnknownTarget: 404,
    UnknownBreaker: 404,
    NoSuchAlert: 404,
    NoSuchMaintenance: 404,
    NoSuchTrace: 404,
    UnknownWorkflow: 422,
    InvalidExecution: 422,
    NotMonitoring: 503,
}
"""HTTP status of each error that the monitor's endpoints raise."""

_READERS = (Role.OPERATOR, Role.ADMIN, Role.AUDITOR, Role.LEGISLATOR, Role.MEMBER, Role.SERVICE)
_HEARTBEAT_SECONDS = 15.0


class TargetStatus(Message):
    target: str
    status: Status
    since: datetime | None
    checked_at: datetime | None
    seconds: float | None
    detail: str
    failures: int
    in_maintenance: bool


class SystemStatus(Message):
    """`status` is the worst of the targets'."""

    status: Status
    targets: list[TargetStatus]


class HistoryPoint(Message):
    start: datetime
    width: int
    checks: int
    good: int
    mean_seconds: float
    slowest_seconds: float


class SloReport(Message):
    """`achieved` is None while nothing has been counted; `budget_remaining` is a fraction, negative when overspent; `met` is
    None with `achieved`. `indicator` says what the events are."""

    name: str
    service: str
    indicator: str
    target: float
    achieved: float | None
    met: bool | None
    events: int
    bad: int
    budget_remaining: float
    runbook: str


class AlertView(Message):
    id: str
    name: str
    target: str
    severity: str
    summary: str
    runbook: str
    evidence: dict[str, Any]
    started_at: datetime
    updated_at: datetime
    resolved_at: datetime | None
    occurrences: int
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class Alerts(Message):
    firing: list[AlertView]
    resolved: list[AlertView]


class NewSilence(Message):
    name: str | None = None
    target: str | None = None
    minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)]
    reason: Annotated[str, Field(min_length=1, max_length=400)]


class SilenceView(Message):
    id: str
    name: str | None
    target: str | None
    until: datetime
    reason: str
    by: str


class NewMaintenance(Message):
    """`starts_at` is now where it is left out; `minutes` count from it."""

    target: str | None = None
    starts_at: AwareDatetime | None = None
    minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)]
    reason: Annotated[str, Field(min_length=1, max_length=400)]


class MaintenanceView(Message):
    id: str
    target: str | None
    starts_at: datetime
    ends_at: datetime
    reason: str
    made_by: str


class WorkflowView(Message):
    workflow_type: str
    target_seconds: float
    executions: int
    success_rate: float | None
    within_target: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None
    compliance: float | None
    running: int
    stuck: tuple[str, ...]
    compliant: bool | None
    timely: bool | None


class NewExecution(Message):
    workflow_type: str
    execution_time: Annotated[float, Field(ge=0)]
    success: bool = True
    compliance_score: Annotated[float, Field(ge=0, le=1)] | None = None
    workflow_id: Annotated[str, Field(max_length=80)] | None = None


class BreakerView(ReportedBreaker):
    """One breaker of one process (`instance` of `service`) as of `reported_at`."""

    service: str
    instance: str
    reported_at: datetime


class TraceView(Message):
    trace_id: str
    name: str
    started_at: datetime
    seconds: float
    spans: int
    services: tuple[str, ...]
    errors: int
    complete: bool


class SpanView(Message):
    """`offset` is in seconds since the first span of the trace began."""

    service: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    offset: float
    seconds: float
    error: str | None
    attributes: dict[str, str | int | float]


class TraceDetail(Message):
    trace_id: str
    spans: list[SpanView]


class ForecastView(Message):
    """`values` and `upper` (not passed with 90 % probability) per step; `at_risk_minutes`: how soon from now P95 is expected to pass its
    objective. The errors are mean absolute errors of the last back-test, of the seasonal model and of the season before."""

    service: str
    metric: str
    method: str
    made_at: datetime
    starts_at: datetime
    step_seconds: float
    values: tuple[float, ...]
    upper: tuple[float, ...]
    error: float
    naive_error: float
    at_risk_minutes: float | None


class Forecasts(Message):
    note: str
    forecasts: list[ForecastView]


class BreakerOrder(Message):
    """`open` refuses every call until `reset`, which closes the breaker with an empty window. Each process obeys with its next
    report (`ACGS_REPORT_SECONDS`)."""

    action: Literal["open", "reset"]
    reason: Annotated[str, Field(min_length=1, max_length=400)]


@asynccontextmanager
async def monitoring(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """Lifespan: watch for as long as `app` lives. To be entered by the app that includes `monitoring_router`."""
    service = get_monitoring_service(platform.settings)
    await service.start_monitoring()
    app.state.monitoring = service
    try:
        yield
    finally:
        await service.stop_monitoring()


def monitoring_router() -> APIRouter:
    """`/api/v1/monitoring/...` and `/api/v1/traces`; needs `app.state.monitoring` (see `monitoring`) and STATUSES among the app's."""
    everything = APIRouter()
    router = api_router()
    router.prefix += "/monitoring"
    router.tags = ["monitoring"]
    read, operate = require(*_READERS), require(Role.OPERATOR, Role.ADMIN)
    record = require(Role.SERVICE, Role.OPERATOR, Role.ADMIN)

    @router.get("/status", dependencies=[read], summary="The status of every part")
    async def _status(request: Request) -> SystemStatus:
        service = _of(request)
        now = service.clock.now()
        targets = [
            TargetStatus(
                target=health.target,
                status=health.status,
                since=health.since,
                checked_at=health.last.at if health.last else None,
                seconds=health.last.seconds if health.last else None,
                detail=health.last.detail if health.last else "",
                failures=health.failures,
                in_maintenance=any(window.covers(health.target, now) for window in service.maintenance),
            )
            for health in service.targets.values()
        ]
        order = [Status.HEALTHY, Status.UNKNOWN, Status.DEGRADED, Status.UNHEALTHY, Status.DOWN]
        return SystemStatus(status=max((t.status for t in targets), key=order.index), targets=targets)

    @router.get("/history/{target}", dependencies=[read], summary="Checks of one part over time, newest first")
    async def _history(
        request: Request,
        target: str,
        hours: Annotated[float, Query(gt=0, le=400 * 24)] = 24.0,
        width: Annotated[Literal["0", "300", "3600"], Query(description="seconds per point; 0: each check")] = "300",
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Page[HistoryPoint]:
        service = _of(request)
        if target not in service.targets:
            raise UnknownTarget(f"`{target}` is none of {', '.join(service.targets)}")
        since = service.clock.now() - timedelta(hours=hours)
        points, following = await service.history.points(target, since, int(width), cursor, limit)
        items = [
            HistoryPoint(
                start=p.start,
                width=p.width,
                checks=p.checks,
                good=p.good,
                mean_seconds=p.mean_seconds,
                slowest_seconds=p.slowest_seconds,
            )
            for p in points
        ]
        return Page[HistoryPoint](items=items, next_cursor=following)

    @router.post("/checks/{target}", dependencies=[operate], summary="Check one part now")
    async def _check(request: Request, target: str) -> dict[str, Any]:
        check = await _of(request).check_now(target)
        return {"target": check.target, "status": check.status, "seconds": check.seconds, "detail": check.detail}

    @router.get("/slo", dependencies=[read], summary="Objectives and what is left of their error budgets")
    async def _slo(request: Request) -> list[SloReport]:
        return [
            SloReport(
                name=b.objective.name,
                service=b.objective.service,
                indicator=b.objective.indicator,
                target=b.objective.target,
                achieved=b.achieved,
                met=None if b.achieved is None else b.achieved >= b.objective.target,
                events=b.total,
                bad=b.bad,
                budget_remaining=b.remaining,
                runbook=b.objective.runbook,
            )
            for b in await _of(request).budgets()
        ]

    @router.get("/alerts", dependencies=[read], summary="Alerts that fire, and those that did")
    async def _alerts(request: Request) -> Alerts:
        book = _of(request).alerts
        return Alerts(
            firing=[AlertView.model_validate(as_json(alert)) for alert in book.firing],
            resolved=[AlertView.model_validate(as_json(alert)) for alert in book.resolved],
        )

    @router.post("/alerts/{alert_id}/acknowledgement", summary="Say that somebody looks after an alert")
    async def _acknowledge(request: Request, alert_id: str, who: Identity = operate) -> AlertView:
        return AlertView.model_validate(as_json(await _of(request).acknowledge(alert_id, who.id)))

    @router.get("/silences", dependencies=[read], summary="Silences in force")
    async def _silences(request: Request) -> list[SilenceView]:
        return [SilenceView(**_fields(silence)) for silence in _of(request).alerts.silences]

    @router.post("/silences", status_code=201, summary="Tell nobody about some alerts for a while")
    async def _silence(request: Request, body: NewSilence, who: Identity = operate) -> SilenceView:
        silence = await _of(request).silence(
            name=body.name, target=body.target, length=timedelta(minutes=body.minutes), reason=body.reason, by=who.id
        )
        return SilenceView(**_fields(silence))

    @router.delete("/silences/{silence_id}", status_code=204, dependencies=[operate], summary="End a silence")
    async def _end_silence(request: Request, silence_id: str) -> None:
        await _of(request).end_silence(silence_id)

    @router.get("/maintenance", dependencies=[read], summary="Maintenance under way or to come")
    async def _maintenance(request: Request) -> list[MaintenanceView]:
        return [MaintenanceView(**_fields(window)) for window in _of(request).maintenance]

    @router.post("/maintenance", status_code=201, summary="Announce maintenance, from now on or from a time to come")
    async def _announce(request: Request, body: NewMaintenance, who: Identity = operate) -> MaintenanceView:
        window = await _of(request).announce_maintenance(
            body.target, timedelta(minutes=body.minutes), body.reason, who.id, starts_at=body.starts_at
        )
        return MaintenanceView(**_fields(window))

    @router.delete(
        "/maintenance/{window_id}",
        status_code=204,
        dependencies=[operate],
        summary="End maintenance early, or call it off",
    )
    async def _end_maintenance(request: Request, window_id: str) -> None:
        await _of(request).end_maintenance(window_id)

    @router.get("/workflows", dependencies=[read], summary="The five governance workflows")
    async def _workflows(request: Request) -> list[WorkflowView]:
        return [WorkflowView(**_fields(report)) for report in _of(request).workflows.reports()]

    @router.post(
        "/workflows/executions",
        status_code=201,
        summary="Record a finished workflow run",
    )
    async def _executed(request: Request, body: NewExecution, who: Identity = record) -> WorkflowView:
        service = _of(request)
        await service.record_workflow(
            body.workflow_type,
            body.execution_time,
            success=body.success,
            compliance_score=body.compliance_score,
            workflow_id=body.workflow_id,
            service=who.name if Role.SERVICE in who.roles else None,
        )
        return WorkflowView(**_fields(service.workflows.report(body.workflow_type)))

    @router.get("/breakers", dependencies=[read], summary="The circuit breakers of every process")
    async def _breakers(request: Request) -> list[BreakerView]:
        return [_breaker(breaker) for breaker in _of(request).processes.breakers()]

    @router.post("/breakers/{name}", summary="Force a circuit breaker open in every process, or reset it")
    async def _order(request: Request, name: str, body: BreakerOrder, who: Identity = operate) -> list[BreakerView]:
        service = _of(request)
        await service.order_breaker(name, body.action, body.reason, who.id)
        return [_breaker(breaker) for breaker in service.processes.breakers() if breaker.seen.name == name]

    @router.get("/forecasts", dependencies=[read], summary="Expected load and P95 of each service")
    async def _forecasts(request: Request) -> Forecasts:
        service = _of(request)
        return Forecasts(
            note=service.forecast_note,
            forecasts=[_forecast(forecast, service.clock.now()) for forecast in service.forecasts.values()],
        )

    @router.get("/events", dependencies=[read], summary="What changes, as server-sent events")
    async def _events(request: Request) -> StreamingResponse:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_stream(_of(request)), media_type="text/event-stream", headers=headers)

    everything.include_router(router)
    everything.include_router(_traces_router())
    everything.include_router(_reports_router())
    return everything


def _traces_router() -> APIRouter:
    router = APIRouter(prefix="/api/v1/traces", tags=["traces"])
    read = require(*_READERS)

    @router.get("", dependencies=[read], summary="The last traces")
    async def _traces(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=300)] = 50,
        service: Annotated[str | None, Query(description="only traces that this service took part in")] = None,
        errors: Annotated[bool, Query(description="only traces in which something failed")] = False,
    ) -> list[TraceView]:
        found = _of(request).traces.last(limit, service=service, errors_only=errors)
        return [TraceView(**_fields(trace)) for trace in found]

    @router.get("/{trace_id}", dependencies=[read], summary="The spans of one trace")
    async def _trace(request: Request, trace_id: str) -> TraceDetail:
        spans = _of(request).traces.get(trace_id)
        began = spans[0].span.start
        return TraceDetail(
            trace_id=trace_id,
            spans=[
                SpanView(
                    service=placed.service,
                    offset=placed.span.start - began,
                    **placed.span.model_dump(exclude={"trace_id", "start"}),
                )
                for placed in spans
            ],
        )

    return router


def _reports_router() -> APIRouter:
    # Not idempotent by key: a report has its sequence, and a key for each would be a row for each.
    router = APIRouter(prefix="/api/v1/monitoring/reports", tags=["monitoring"])
    process = require(Role.SERVICE)

    @router.post("", summary="What a process says of itself")
    async def _report(request: Request, body: ProcessReport, who: Identity = process) -> ReportAnswer:
        if who.name != body.service:
            raise Forbidden(f"`{who.name}` cannot report for `{body.service}`")
        return await _of(request).hear(body)

    return router


async def _stream(service: EnhancedMonitoringService) -> AsyncIterator[str]:
    """Events as they happen, and a comment every 15 s so that proxies keep the connection and a dead one is noticed."""
    yield ": watching\n\n"
    events = service.events()
    following = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait([following], timeout=_HEARTBEAT_SECONDS)
            if not done:
                yield ": still here\n\n"
                continue
            event = following.result()
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            following = asyncio.ensure_future(anext(events))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await events.aclose()


def _of(request: Request) -> EnhancedMonitoringService:
    service = getattr(request.app.state, "monitoring", None)
    if not isinstance(service, EnhancedMonitoringService):
        raise NotMonitoring("the monitor of this process has not been started")
    return service


def _breaker(breaker: Breaker) -> BreakerView:
    return BreakerView(
        service=breaker.service,
        instance=breaker.instance,
        reported_at=breaker.reported_at,
        **dict(breaker.seen),
    )


def _forecast(forecast: Forecast, now: datetime) -> ForecastView:
    ahead = forecast.crosses(LATENCY_TARGET_SECONDS, now) if forecast.metric == "p95" else None
    return ForecastView(
        service=forecast.service,
        metric=forecast.metric,
        method=forecast.method,
        made_at=forecast.made_at,
        starts_at=forecast.starts_at,
        step_seconds=forecast.step.total_seconds(),
        values=forecast.values,
        upper=forecast.upper,
        error=forecast.error,
        naive_error=forecast.naive_error,
        at_risk_minutes=None if ahead is None else ahead.total_seconds() / 60,
    )


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}
