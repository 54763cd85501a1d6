"""What happens around every request, as plain ASGI: identity, ids, limits, headers, metrics."""

import time
from collections.abc import Awaitable, Callable

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


Fail = Callable[[Scope, Receive, Send, Exception], Awaitable[None]]


class Observe:
    """Request id, trace context, security headers, metrics, and a log line per request: for what went well and changed nothing, at level
    debug only. What nobody else has caught is answered by `fail`."""

    def __init__(self, app: ASGIApp, service: str, fail: Fail) -> None:
        self._app = app
        self._service = service
        self._fail = fail
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        given = headers.get(b"x-request-id")
        request_id = new_id("req") if given is None else _request_id(given)
        trace = recorder().begin(headers.get(b"traceparent"))
        if trace.sampled and scope["path"].startswith(OPERATIONS):
            # Probes would push the traces of real work out of the viewer.
            trace = trace._replace(sampled=False)
        scope["acgs_request_id"] = request_id
        tokens = request_id_var.set(request_id), trace_var.set(trace)
        status = 0
        started = time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = message["headers"]
                present = [name for name, _ in sent]
                sent += [header for header in _SECURITY_HEADERS if header[0] not in present]
                sent.append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as error:
            if status:  # an answer has begun: all that is left is to break the connection off
                raise
            await self._fail(scope, receive, observed, error)
        finally:
            status = status or 500
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


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The request's headers by name, in lower case; of repeated ones the last. Made once per request."""
    headers: dict[bytes, bytes] | None = scope.get("acgs_headers")
    if headers is None:
        headers = scope["acgs_headers"] = dict(scope["headers"])
    return headers


def _request_id(given: bytes) -> str:
    """The caller's id where it is a plain name, else one of ours."""
    name = given.decode("latin-1")
    plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) <= 80
    return name if plain else new_id("req")


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
        headers = headers_of(scope)
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._limit:
            await self._respond(scope, receive, send, self._too_large())
            return
        if b"content-length" in headers or (scope["http_version"] == "1.1" and b"transfer-encoding" not in headers):
            # The server reads as many bytes as were declared, and none where no length was (RFC 9112, section 6.3).
            await self._app(scope, receive, send)
        else:
            await self._counting(scope, receive, send)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body may hold at most {self._limit} bytes")

    async def _counting(self, scope: Scope, receive: Receive, send: Send) -> None:
        too_large = self._too_large()
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
            authorization = headers_of(scope).get(b"authorization")
            authenticator = scope["app"].state.platform.authenticator
            try:
                scope["acgs_identity"] = await authenticator.identify(
                    authorization.decode("latin-1") if authorization else None
                )
            except DomainError as error:
                await self._respond(scope, receive, send, error)
                return
        await self._app(scope, receive, send)
