"""What happens around every request, as plain ASGI: identity, ids, limits, headers, metrics."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from acgs1.core.errors import DomainError
from acgs1.core.ids import new_id
from acgs1.kit.errors import BodyTooLarge
from acgs1.kit.telemetry import LATENCY, OPERATIONS, REQUESTS, request_id_var
from acgs1.kit.tracing import recorder, trace_var

_log = structlog.get_logger()

Respond = Callable[[Scope, Receive, Send, DomainError], Awaitable[None]]

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Observe:
    """Request id, trace context, security headers, metrics, and a log line per request: for what went well and changed nothing, at level
    debug only."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._service = service
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = (
            given
            if given.isascii() and given.replace("-", "").replace("_", "").isalnum() and len(given) <= 80
            else new_id("req")
        )
        trace = recorder().begin(headers.get(b"traceparent"))
        if trace.sampled and scope["path"].startswith(OPERATIONS):
            # Probes would push the traces of real work out of the viewer.
            trace = trace._replace(sampled=False)
        scope["acgs_request_id"] = request_id
        tokens = request_id_var.set(request_id), trace_var.set(trace)
        status = 500
        started = time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message["headers"]}
                message["headers"].extend([h for h in _SECURITY_HEADERS if h[0] not in present])
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            method: str = scope["method"]
            counted, timed = self._metrics(method, route, status)
            counted.inc()
            timed.observe(seconds, {"trace_id": trace.trace_id} if trace.sampled else None)
            if trace.sampled or status >= 500:
                recorder().answered(trace, f"{method} {route}", status, seconds)
            # Reads and decisions that went well are counted above; a line for each would cost more than many of them.
            log = _log.debug if status < 400 and (method == "GET" or route.startswith("/access")) else _log.info
            log("request", method=method, route=route, status=status, ms=round(seconds * 1000, 2))
            request_id_var.reset(tokens[0])
            trace_var.reset(tokens[1])

    def _metrics(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        """Looked up once for each of the few routes, methods and statuses that there are."""
        known = self._known.get((method, route, status))
        if known is None:
            labels = self._service, method, route
            known = self._known[method, route, status] = REQUESTS.labels(*labels, str(status)), LATENCY.labels(*labels)
        return known


class BodyLimit:
    """Refuses bodies over the limit, by the declared length or while they arrive."""

    def __init__(self, app: ASGIApp, limit: int, respond: Respond) -> None:
        self._app = app
        self._limit = limit
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_large = BodyTooLarge(f"the body may hold at most {self._limit} bytes")
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._limit:
            await self._respond(scope, receive, send, too_large)
            return
        seen = 0
        exceeded = False
        started = False

        async def limited() -> Message:
            nonlocal seen, exceeded
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                exceeded = True
                raise too_large
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            # What the application makes of the broken body is not the answer; an answer that has begun goes on.
            if exceeded and not started:
                return
            started = True
            await send(message)

        try:
            await self._app(scope, limited, watched)
        except DomainError:
            if not exceeded or started:
                raise
        if exceeded and not started:
            await self._respond(scope, receive, send, too_large)


class Guard:
    """Every request needs a caller, unless its path is on the public list. Runs before routing, so that an endpoint cannot be
    left open by leaving something out."""

    def __init__(self, app: ASGIApp, public: frozenset[str], respond: Respond) -> None:
        self._app = app
        self._public = public
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            raise RuntimeError("websockets are not served behind the guard")
        if scope["type"] == "http" and scope["path"] not in self._public:
            authorization: Any = dict(scope["headers"]).get(b"authorization")
            authenticator = scope["app"].state.platform.authenticator
            try:
                scope["acgs_identity"] = await authenticator.identify(
                    authorization.decode("latin-1") if authorization else None
                )
            except DomainError as error:
                await self._respond(scope, receive, send, error)
                return
        await self._app(scope, receive, send)
