"""What every request must be before its route looks at it, and what is said of one that is not."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from acgs1.core.errors import DomainError, ErrorItem
from acgs1.kit.errors import (
    InvalidRequest,
    MalformedJson,
    MethodNotAllowed,
    NestedTooDeeply,
    NotFound,
    UnknownField,
    UnknownParameter,
)

MOST_NESTED: Final = 201
"""Levels of arrays and objects in a body: as many as the JSON reader takes that `kit.direct` rests on, so that both ways agree."""
NUL_IN_JSON: Final = b"\\u0000"
OURS: Final = "/api/"
"""Paths below this refuse query parameters that they do not know. The others are the standards' own, which say that unknown ones are
ignored (RFC 6749, section 3.2, for the token endpoint), and the probes of whoever watches, which may add what they like."""


async def well_formed(request: Request) -> None:
    """Refuses what no route takes: parameters that it does not know, U+0000, which PostgreSQL cannot keep, and nesting without end.

    Raises UnknownParameter, InvalidRequest, NestedTooDeeply. Stands in front of every route that FastAPI answers; `kit.direct` hands on
    whatever this might refuse.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)  # noqa: S101 - INVARIANT: a dependency runs for a route only
    given = [*request.path_params.items(), *request.query_params.multi_items()]
    if nul := [name for name, value in given if "\0" in name or "\0" in str(value)]:
        raise _holds_nul([ErrorItem(_NUL, parameter=name) for name in nul])
    known = query_parameters(route)
    if route.path.startswith(OURS) and (unknown := [n for n in request.query_params if n not in known]):
        hint = f"; there are {', '.join(f'`{name}`' for name in sorted(known))}" if known else "; it takes none"
        raise UnknownParameter(
            f"`{unknown[0]}` is not a parameter of `{request.method} {route.path}`{hint}",
            items=tuple(ErrorItem(f"`{name}` is not a parameter here", parameter=name) for name in unknown),
        )
    if route.body_field is None:
        return
    if isinstance(route.body_field.field_info, Form):
        form = [name for name, value in (await request.form()).multi_items() if "\0" in name or "\0" in str(value)]
        if form:
            raise _holds_nul([ErrorItem(_NUL, parameter=name) for name in form])
        return
    body = await request.body()
    if NUL_IN_JSON in body or body.count(b"[") + body.count(b"{") > MOST_NESTED:
        _check(body)


def query_parameters(route: APIRoute) -> frozenset[str]:
    """The names of what `route` takes from the query, its dependencies included."""

    def of(dependant: Dependant) -> Iterator[str]:
        yield from (field.alias for field in dependant.query_params)
        for inner in dependant.dependencies:
            yield from of(inner)

    return frozenset(of(route.dependant))


_NUL = "U+0000 is not taken; leave it out"


def _holds_nul(items: Sequence[ErrorItem]) -> InvalidRequest:
    return InvalidRequest(f"{_place(items[0])}: {items[0].detail}", items=tuple(items))


def _check(body: bytes) -> None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return  # refused where it is read, in words about that
    found: list[ErrorItem] = []
    for pointer, depth, nul in _walk(document):
        if depth > MOST_NESTED:
            raise _too_deep(pointer)
        if nul:
            found.append(ErrorItem(_NUL, pointer=pointer))
    if found:
        raise _holds_nul(found)


def _walk(document: Any) -> Iterator[tuple[str, int, bool]]:
    """(pointer, depth, whether it holds U+0000) of each string and container in it; an object's names count for the object."""
    waiting: list[tuple[str, int, Any]] = [("", 1, document)]
    while waiting:
        pointer, depth, value = waiting.pop()
        match value:
            case str():
                yield pointer, 0, "\0" in value
            case dict():
                fields = cast("dict[str, Any]", value)
                yield pointer, depth, any("\0" in name for name in fields)
                waiting += [(f"{pointer}/{_escaped(name)}", depth + 1, field) for name, field in fields.items()]
            case list():
                yield pointer, depth, False
                items = cast("list[Any]", value)
                waiting += [(f"{pointer}/{index}", depth + 1, item) for index, item in enumerate(items)]
            case _:
                pass


def _too_deep(pointer: str = "") -> NestedTooDeeply:
    item = ErrorItem(f"more than {MOST_NESTED} arrays and objects within each other", pointer=pointer[:200])
    return NestedTooDeeply(f"the body may nest {MOST_NESTED} levels", items=(item,))


# --- what FastAPI refuses, as errors of ours ---


def refused(error: RequestValidationError) -> DomainError:
    """The error that says what FastAPI found wrong."""
    found: Sequence[Mapping[str, Any]] = error.errors()
    if found[0]["type"] == "json_invalid":
        return _malformed(str(error.body), int(found[0]["loc"][1]), str(found[0]["ctx"]["error"]))
    if any(one["type"] == "recursion_loop" for one in found):
        return _too_deep()
    items = tuple(_item(one, error.body) for one in found)
    unknown = all(one["type"] == "extra_forbidden" for one in found)
    kind = UnknownField if unknown else InvalidRequest
    return kind(f"{_place(items[0])}: {items[0].detail}", items=items)


def not_answered(error: HTTPException, method: str, path: str) -> DomainError:
    """What the router and the readers of bodies say with a bare status."""
    if error.status_code == 404:
        return NotFound(f"`{method} {path}` is not an endpoint here")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"`{path}` does not take {method}; it takes {allowed}", allowed)
    match error.__cause__:
        case RecursionError():
            return _too_deep()
        case ValueError() as cause:  # not UTF-8, or a number of thousands of digits
            return MalformedJson(f"the body cannot be read: {cause}", items=(ErrorItem(str(cause), pointer=""),))
        case _:
            return InvalidRequest(str(error.detail))


def _malformed(text: str, position: int, reason: str) -> MalformedJson:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    item = ErrorItem(reason, line=line, column=column)
    return MalformedJson(f"line {line}, column {column}: {reason}", items=(item,))


def _item(error: Mapping[str, Any], body: Any) -> ErrorItem:
    where, *path = error["loc"]
    if where == "body" and isinstance(body, dict | list):
        return ErrorItem(str(error["msg"]), pointer=_pointer(path, body))
    if where == "body" and not path:
        return ErrorItem(str(error["msg"]), pointer="")
    return ErrorItem(str(error["msg"]), parameter=str(path[0]) if path else where)


def _pointer(path: Sequence[str | int], body: Any) -> str:
    """RFC 6901, into the body as it was sent. What pydantic puts in beside that, such as the branch of a union, is left out."""
    parts: list[str] = []
    here: Any = body
    for number, part in enumerate(path):
        fields: dict[object, Any] = cast("dict[object, Any]", here) if isinstance(here, dict) else {}
        if isinstance(here, list):
            fields |= enumerate(cast("list[Any]", here))
        if part in fields:
            here = fields[part]
        elif not isinstance(here, dict) or number < len(path) - 1 or part == "[key]":
            continue  # and not a field that is missing
        parts.append(_escaped(str(part)))
    return "".join(f"/{part}" for part in parts)


def _place(item: ErrorItem) -> str:
    if item.parameter is not None:
        return f"`{item.parameter}`"
    return f"`{item.pointer}`" if item.pointer else "the body"


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
