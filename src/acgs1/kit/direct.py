"""Plain routes answered directly: the same functions, arguments and answers, without the framework's general machinery.

FastAPI finds a route by trying all of them in turn and solves its dependencies anew for every request; that costs several times
what the work behind most routes does. A route is plain when all that its function takes is the JSON body, segments of the path,
single query values, single fields of a form, and asynchronous functions of the request. What these mean is worked out once, when
the application is made. A request that is not what its route expects is handed on to FastAPI untouched, which refuses it in its own
words; so are requests with an `Idempotency-Key`, and all routes that are not plain.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.params import Depends, Form, Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from acgs1.core.errors import DomainError
from acgs1.kit.idempotency import IdempotentRoute
from acgs1.kit.inbound import NUL_IN_JSON, OURS, query_parameters
from acgs1.kit.middleware import Respond, headers_of

_JSON: Final = b"application/json"
_WRITTEN: Final = 128
"""Answers whose JSON is kept: what comes out of a cache is the same object each time."""
_FORM: Final = b"application/x-www-form-urlencoded"


class _NotPlain(Exception):
    """The route needs FastAPI."""


class _Unexpected(Exception):
    """The request is not what the route expects; FastAPI says why."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request, as far as arguments are made of it."""

    request: Request
    segment: str
    query: Mapping[str, str]
    form: Mapping[str, str]
    body: bytes


Read = Callable[[_Asked], Any]
Resolve = Callable[[Request], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one route is answered."""

    route: APIRoute
    call: Callable[..., Awaitable[Any]]
    reads: tuple[tuple[str, Read], ...]
    dependencies: tuple[tuple[str | None, Resolve], ...]
    body_type: bytes | None
    """The media type of the body that the function takes, if any."""
    query: frozenset[str] | None
    """The parameters that the route takes; None where others are nothing to it."""
    idempotent: bool
    status: int
    answer: TypeAdapter[Any] | None
    """None where the function returns a response of its own."""
    without_none: bool

    async def __call__(self, asked: _Asked) -> Any:
        try:
            values = {name: read(asked) for name, read in self.reads}
        except (ValidationError, ValueError, KeyError, RecursionError) as error:
            raise _Unexpected from error
        for name, resolve in self.dependencies:
            value = await resolve(asked.request)
            if name is not None:
                values[name] = value
        return await self.call(**values)


class Direct:
    """ASGI: answers the plain ones among `routes` and hands everything else to `app`. Stands behind the guard."""

    def __init__(self, app: ASGIApp, routes: Iterable[APIRoute], respond: Respond) -> None:
        self._app = app
        self._respond = respond
        self._exact: dict[tuple[str, str], _Plan] = {}
        self._last: dict[tuple[str, str], _Plan] = {}
        self._written: dict[tuple[int, int], tuple[BaseModel, bytes]] = {}
        for route in routes:
            try:
                self._add(route)
            except _NotPlain:
                continue

    @property
    def paths(self) -> list[tuple[str, str]]:
        """(method, path template) of the routes that are answered here."""
        plans = (*self._exact.items(), *self._last.items())
        return sorted((method, plan.route.path) for (method, _), plan in plans)

    def _add(self, route: APIRoute) -> None:
        folder, _, last = route.path.rpartition("/")
        parameter = last[1:-1] if last.startswith("{") and last.endswith("}") and ":" not in last else None
        if "{" in (folder if parameter else route.path):
            raise _NotPlain
        plan = _plan(route, parameter)
        for method in route.methods or ():
            (self._last if parameter else self._exact).setdefault((method, folder if parameter else route.path), plan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        segment = ""
        plan = self._exact.get((method, path))
        if plan is None:
            folder, _, segment = path.rpartition("/")
            plan = self._last.get((method, folder)) if segment else None
            if plan is None:
                await self._app(scope, receive, send)
                return
        body = b""
        try:
            query = _pairs(scope["query_string"], plan.query) if scope["query_string"] else _NOTHING
            form = _NOTHING
            if method != "GET":
                headers = headers_of(scope)
                if (plan.idempotent and b"idempotency-key" in headers) or (
                    plan.body_type is not None and headers.get(b"content-type") != plan.body_type
                ):
                    await self._app(scope, receive, send)
                    return
                body = await _body(receive)
                if plan.body_type is _FORM:
                    form = _form(body)
            scope["route"] = plan.route
            result = await plan(_Asked(Request(scope, receive), segment, query, form, body))
        except _Unexpected:
            await self._app(scope, _again(body, receive), send)
            return
        except DomainError as error:
            await self._respond(scope, receive, send, error)
            return
        if plan.answer is None or isinstance(result, Response):
            await result(scope, receive, send)
            return
        content = self._write(plan, plan.answer, result, keep=method == "GET")
        headers = [(b"content-type", _JSON), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": plan.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _write(self, plan: _Plan, answer: TypeAdapter[Any], result: Any, *, keep: bool) -> bytes:
        """The JSON of a result. A frozen model that is answered once more is not written once more."""
        keep = keep and isinstance(result, BaseModel) and bool(result.model_config.get("frozen"))
        # The model is kept along with its JSON, so that no other object can have its id.
        key = id(plan), id(result)
        if keep and (known := self._written.get(key)) is not None:
            return known[1]
        content = answer.dump_json(result, by_alias=True, exclude_none=plan.without_none)
        if keep:
            self._written[key] = result, content
            if len(self._written) > _WRITTEN:
                del self._written[next(iter(self._written))]
        return content


_NOTHING: Final[Mapping[str, str]] = {}


def _pairs(raw: bytes, known: frozenset[str] | None = None) -> dict[str, str]:
    """What a query string or a form says, as long as it says nothing twice, and nothing but what is `known`."""
    pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True)
    query = dict(pairs)
    if len(query) != len(pairs) or (known is not None and not known.issuperset(query)) or b"%00" in raw:
        raise _Unexpected
    return query


def _form(raw: bytes) -> dict[str, str]:
    # The first separates fields for some and not for others.
    if b";" in raw or b"\0" in raw:
        raise _Unexpected
    return _pairs(raw)


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    if message["type"] != "http.request":  # the caller has gone
        raise _Unexpected
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """`receive` as it was before `body` was taken from it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


# --- what a route's function takes, worked out once ---


def _plan(route: APIRoute, parameter: str | None) -> _Plan:
    kept_whole = not (
        route.response_model_exclude_unset
        or route.response_model_exclude_defaults
        or route.response_model_include
        or route.response_model_exclude
    )
    call = route.endpoint
    hints = _hints(call)
    returned = hints.get("return")
    own_answer = isinstance(returned, type) and issubclass(returned, Response)
    if not kept_whole or not inspect.iscoroutinefunction(call) or (not own_answer and route.response_model != returned):
        raise _NotPlain
    reads: list[tuple[str, Read]] = []
    dependencies: list[tuple[str | None, Resolve]] = [(None, _resolve(given)) for given in route.dependencies]
    body_type: bytes | None = None
    for name, given in inspect.signature(call).parameters.items():
        hint = hints[name]
        if (depends := _depends(hint, given)) is not None:
            dependencies.append((name, _resolve(depends)))
        elif hint is Request:
            reads.append((name, lambda asked: asked.request))
        elif name == parameter:
            reads.append((name, _segment(hint)))
        elif inspect.isclass(hint) and issubclass(hint, BaseModel):
            if body_type is not None:
                raise _NotPlain
            body_type = _JSON
            reads.append((name, _model(hint)))
        elif any(isinstance(extra, Form) for extra in get_args(hint)[1:]):
            if body_type is _JSON:
                raise _NotPlain
            body_type = _FORM
            reads.append((name, _single(name, hint, given.default, Form, lambda asked: asked.form)))
        else:
            reads.append((name, _single(name, hint, given.default, Query, lambda asked: asked.query)))
    status = route.status_code or 200
    if status in {204, 304}:
        raise _NotPlain
    answer: TypeAdapter[Any] | None = None if own_answer else TypeAdapter(cast("Any", returned))
    idempotent = isinstance(route, IdempotentRoute)
    return _Plan(
        route,
        call,
        tuple(reads),
        tuple(dependencies),
        body_type,
        query_parameters(route) if route.path.startswith(OURS) else None,
        idempotent,
        status,
        answer,
        bool(route.response_model_exclude_none),
    )


def _hints(call: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(call, include_extras=True)
    except (NameError, TypeError) as error:
        raise _NotPlain from error


def _depends(hint: Any, parameter: inspect.Parameter) -> Depends | None:
    if isinstance(parameter.default, Depends):
        return parameter.default
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((extra for extra in extras if isinstance(extra, Depends)), None)


def _resolve(depends: Depends) -> Resolve:
    """The dependency as a function of the request: it takes the request and dependencies like itself, or nothing."""
    call = depends.dependency
    if not inspect.iscoroutinefunction(call):
        raise _NotPlain
    hints = _hints(call)
    parameters = inspect.signature(call).parameters
    inner: dict[str, Resolve] = {}
    takes_request: list[str] = []
    for name, parameter in parameters.items():
        hint = hints.get(name)
        if (nested := _depends(hint, parameter)) is not None:
            inner[name] = _resolve(nested)
        elif hint is Request:
            takes_request.append(name)
        else:
            raise _NotPlain
    if not inner and takes_request == list(parameters) and len(takes_request) == 1:
        return call

    async def resolve(request: Request) -> Any:
        values: dict[str, Any] = {name: await one(request) for name, one in inner.items()}
        values.update((name, request) for name in takes_request)
        return await call(**values)

    return resolve


def _model(model: type[BaseModel]) -> Read:
    # What this takes, FastAPI takes and reads alike; what it does not take goes on to FastAPI.
    def read(asked: _Asked) -> Any:
        if NUL_IN_JSON in asked.body:
            raise _Unexpected
        return model.model_validate_json(asked.body)

    return read


def _segment(hint: Any) -> Read:
    adapter: TypeAdapter[Any] = TypeAdapter(hint)

    def read(asked: _Asked) -> Any:
        if "\0" in asked.segment:
            raise _Unexpected
        return adapter.validate_python(asked.segment)

    return read


def _single(
    name: str, hint: Any, default: Any, kind: type[Query] | type[Form], given_in: Callable[[_Asked], Mapping[str, str]]
) -> Read:
    """One value of the query or the form, or its default."""
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    known = next((extra for extra in extras if isinstance(extra, kind)), None)
    if default is inspect.Parameter.empty:
        default = ...
    if isinstance(default, kind) or hint is Response or _many(hint) or any(not isinstance(e, kind) for e in extras):
        raise _NotPlain
    alias = (known.alias or name) if known is not None else name
    adapter: TypeAdapter[Any] = TypeAdapter(hint)

    def read(asked: _Asked) -> Any:
        given = given_in(asked).get(alias)
        # An empty field of a form counts as one that was left out.
        if given is not None and (given or kind is Query):
            return adapter.validate_python(given)
        if default is ...:
            raise _Unexpected
        return default

    return read


def _many(hint: Any) -> bool:
    """Whether the value is a collection, which a query gives by repeating its name."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _many(get_args(hint)[0])
    if origin is not None and isinstance(origin, type) and issubclass(origin, (list, tuple, set, frozenset, dict)):
        return True
    return hint in (list, tuple, set, frozenset, dict)
