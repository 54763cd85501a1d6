"""The app factory: every service answers alike, whatever it is for."""

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from acgs1 import __version__
from acgs1.contracts.auth import Role
from acgs1.contracts.common import Health, Problem, ProblemItem
from acgs1.core.errors import DomainError, ErrorItem
from acgs1.kit.access import require
from acgs1.kit.direct import Direct
from acgs1.kit.errors import STATUS, MethodNotAllowed, UpstreamRejected
from acgs1.kit.idempotency import IdempotentRoute
from acgs1.kit.inbound import not_answered, refused, well_formed
from acgs1.kit.middleware import BodyLimit, Guard, Observe, headers_of
from acgs1.kit.openapi import PROBLEM_JSON, complete
from acgs1.kit.performance import performance_router
from acgs1.kit.platform import Platform
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.telemetry import registry

SERVICE_VERSION = __version__

_log = structlog.get_logger()

PUBLIC = frozenset({"/health", "/health/live", "/health/ready", "/openapi.json"})
"""Paths of every service that answer without a token."""

Lifespan = Callable[[FastAPI, Platform], AbstractAsyncContextManager[None]]


def create_service(
    service: str,
    settings: PlatformSettings,
    *,
    description: str,
    routers: Sequence[APIRouter],
    statuses: Mapping[type[DomainError], int],
    wire: Lifespan,
    platform: Callable[[], Platform],
    public: frozenset[str] = frozenset(),
) -> FastAPI:
    """The ASGI application of one service.

    `wire(app, platform)` puts the service's objects on `app.state` for as long as the app lives; `statuses` maps the service's own
    errors to HTTP; `public` lists further paths that answer without a token. Everything else needs one.
    """
    all_statuses = {**STATUS, **statuses}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with platform() as running:
            app.state.platform = running
            async with wire(app, running):
                app.state.ready = True
                try:
                    yield
                finally:
                    app.state.ready = False

    app = _Service(
        title=f"ACGS-1 {service.replace('_', ' ')}",
        version=SERVICE_VERSION,
        description=description,
        lifespan=lifespan,
        dependencies=[Depends(well_formed)],
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": Problem, "description": "Problem (RFC 9457)"}},
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.ready = False
    app.state.service_name = service
    app.state.public = PUBLIC | public
    # For the test that provokes every declared error.
    app.state.statuses = all_statuses
    app.state.status_of = partial(_status, statuses=all_statuses)

    def problem(request_scope: Scope, error: DomainError) -> JSONResponse:
        return _problem_response(request_scope, error, _status(error, all_statuses))

    async def respond(scope: Scope, receive: Receive, send: Send, error: DomainError) -> None:
        await problem(scope, error)(scope, receive, send)

    @app.exception_handler(DomainError)
    async def _domain(request: Request, error: DomainError) -> Response:
        return problem(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        return problem(request.scope, refused(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return problem(request.scope, not_answered(error, request.method, request.url.path))

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        # The cause goes to the log, never to the caller.
        _log.error("unexpected_error", exc_info=error)
        detail = "the error has been logged under this request id"
        return _problem(request.scope, 500, "internal_error", "The service failed", detail, ())

    health = _health_router(service)
    app.include_router(health)
    app.include_router(performance_router())
    for router in routers:
        app.include_router(router)
    _document(app, routers)
    plain = [route for router in (health, *routers) for route in router.routes if isinstance(route, APIRoute)]

    async def fail(scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
        await (await _unexpected(Request(scope), error))(scope, receive, send)

    direct = Direct(app.framework, routes=plain, respond=respond)
    guarded = Guard(direct, public=app.state.public, respond=respond)
    limited = BodyLimit(guarded, limit=settings.max_body_bytes, respond=respond)
    shared = _CrossOrigin(
        limited,
        allow_origins=list(settings.allowed_origins),
        allow_credentials=True,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id", "Traceparent"],
        expose_headers=["X-Request-Id"],
        max_age=600,
    )
    app.front = Observe(shared, service=service, fail=fail)
    return app


class _Service(FastAPI):
    """FastAPI behind what happens around every request, so that plain routes never reach the framework's own layers."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.framework(scope, receive, send)
            return
        scope["app"] = self
        await self.front(scope, receive, send)

    async def framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application without its front."""
        await super().__call__(scope, receive, send)


class _CrossOrigin(CORSMiddleware):
    """Answers cross-origin requests; others, which are nearly all, pass untouched."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"origin" in headers_of(scope):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _document(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Complete FastAPI's document when somebody asks for it first."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            routes = {(method, path): route for path, route in _routes(app.routes) for method in route.methods or ()}
            own = {
                (m, path) for router in routers for path, route in _routes(router.routes) for m in route.methods or ()
            }
            app.openapi_schema = generate()
            complete(app.openapi_schema, routes, own=own, public=app.state.public, statuses=app.state.statuses)
        return app.openapi_schema

    app.openapi = openapi


def _routes(found: Sequence[Any], prefix: str = "") -> Iterator[tuple[str, APIRoute]]:
    """The API routes with their full paths as the document has them, also of routers that the framework keeps nested."""
    for route in found:
        if isinstance(route, APIRoute):
            yield prefix + route.path_format, route
        elif (router := getattr(route, "original_router", None)) is not None:
            yield from _routes(router.routes, prefix + route.include_context.prefix)


def api_router(route: type[IdempotentRoute] = IdempotentRoute) -> APIRouter:
    """A router for `/api/v1` whose POSTs honour `Idempotency-Key`, as `route` says."""
    return APIRouter(prefix="/api/v1", route_class=route)


def _health_router(service: str) -> APIRouter:
    router = APIRouter(tags=["operations"])
    started = time.monotonic()

    async def check(request: Request, response: Response) -> Health:
        dependencies: dict[str, str] = {}
        status = "unhealthy"
        if request.app.state.ready:
            dependencies = await request.app.state.platform.check()
            status = "healthy" if all(v in {"ok", "idle"} for v in dependencies.values()) else "degraded"
            if dependencies.get("database", "ok") != "ok":
                status = "unhealthy"
        if status == "unhealthy":
            response.status_code = 503
        return Health(
            service=service,
            version=SERVICE_VERSION,
            status=status,
            uptime_seconds=round(time.monotonic() - started, 3),
            dependencies=dependencies,
        )

    router.add_api_route("/health", check, methods=["GET"], summary="Live, ready, and on what it depends")
    router.add_api_route("/health/ready", check, methods=["GET"], summary="Whether it can serve")

    @router.get("/health/live", summary="Whether the process answers")
    async def _live() -> dict[str, str]:
        return {"status": "alive"}

    @router.get(
        "/metrics", summary="Prometheus metrics", dependencies=[require(Role.OPERATOR, Role.ADMIN, Role.SERVICE)]
    )
    async def _metrics(request: Request) -> Response:
        # OpenMetrics, which alone carries exemplars, for those who accept it.
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry()), headers={"Content-Type": content_type})

    return router


def _status(error: DomainError, statuses: Mapping[type[DomainError], int]) -> int:
    if isinstance(error, UpstreamRejected):
        return error.status
    return next((statuses[kind] for kind in type(error).__mro__ if kind in statuses), 400)


def _problem_response(scope: Scope, error: DomainError, status: int) -> JSONResponse:
    code = error.upstream_code if isinstance(error, UpstreamRejected) else error.code
    headers = {"WWW-Authenticate": 'Bearer realm="acgs1"'} if status == 401 else None
    if status == 503:
        headers = {"Retry-After": "1"}
    if isinstance(error, MethodNotAllowed):
        headers = {"Allow": error.allowed}
    return _problem(scope, status, code, error.title, error.detail, error.items, headers)


def _problem(
    scope: Scope,
    status: int,
    code: str,
    title: str,
    detail: str,
    items: Sequence[ErrorItem],
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    body = Problem(
        type=f"urn:acgs1:problem:{code}",
        title=title,
        status=status,
        code=code,
        detail=detail,
        instance=scope.get("path"),
        request_id=scope.get("acgs_request_id"),
        errors=[ProblemItem(**asdict(item)) for item in items],
    )
    return JSONResponse(
        body.model_dump(mode="json", exclude_none=True), status, headers=headers, media_type=PROBLEM_JSON
    )
