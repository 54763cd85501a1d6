"""What FastAPI's OpenAPI document leaves out: who may call, the key that makes a POST safe to repeat, and how each operation fails."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fastapi.routing import APIRoute

from acgs1.core.errors import DomainError
from acgs1.kit import errors
from acgs1.kit.idempotency import IdempotentRoute, SecretRoute
from acgs1.kit.inbound import OURS

PROBLEM_JSON = "application/problem+json"

_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "An access token of auth: `POST /api/v1/sessions` for people, `POST /oauth2/token` for agents and services.",
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    "description": "A repeat with the same key within 24 hours gets the first answer, and nothing is done twice.",
}
_PASSED_ON = "A refusal of another service, passed on with its own status and code (RFC 9457)"

Kinds = set[type[DomainError]]


def complete(
    document: dict[str, Any],
    routes: Mapping[tuple[str, str], APIRoute],
    *,
    own: Collection[tuple[str, str]],
    public: Collection[str],
    statuses: Mapping[type[DomainError], int],
) -> None:
    """Add to `document` what `routes` (by method and path) promise.

    Statuses and codes are those that may occur: the platform's by what the operation takes, the service's own (for the routes in `own`)
    all of them, because a table for each operation would be a second truth that nothing checks.
    """
    document["components"].setdefault("securitySchemes", {})["bearer"] = _BEARER
    document["security"] = [{"bearer": []}]
    for (method, path), route in routes.items():
        operation = document["paths"][path][method.lower()]
        closed = path not in public
        if not closed:
            operation["security"] = []
        keyed = closed and method == "POST" and isinstance(route, IdempotentRoute)
        if keyed:
            given = [p for p in operation.get("parameters", []) if p["name"] != _KEY["name"]]
            operation["parameters"] = [*given, _KEY]
        kinds = _of_the_platform(operation, route, path, closed=closed, keyed=keyed)
        if (method, path) in own:
            kinds |= {kind for kind in statuses if kind not in errors.STATUS}
        described = _responses(kinds, statuses)
        described["500"] = _response(["internal_error"], {"internal_error": "The service failed"})
        described["default"] = {"description": _PASSED_ON, "content": _content({})}
        # A status with an answer of its own, such as that of /health, keeps it.
        operation["responses"] = {**described, **{s: r for s, r in operation["responses"].items() if s != "default"}}


def _of_the_platform(operation: Mapping[str, Any], route: APIRoute, path: str, *, closed: bool, keyed: bool) -> Kinds:
    kinds: Kinds = {errors.DependencyUnavailable, errors.BodyTooLarge}
    parameters = {p["name"] for p in operation.get("parameters", [])}
    if closed:
        kinds |= {errors.Unauthenticated, errors.TokenExpired, errors.Forbidden}
    if path.startswith(OURS):
        kinds.add(errors.UnknownParameter)
    if parameters or "requestBody" in operation:
        kinds.add(errors.InvalidRequest)
    if "cursor" in parameters:
        kinds.add(errors.InvalidCursor)
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        kinds |= {errors.UnknownField, errors.MalformedJson, errors.NestedTooDeeply}
    if keyed:
        kinds |= {errors.IdempotencyMismatch, errors.IdempotencyInProgress, errors.OutcomeUnknown}
    if keyed and isinstance(route, SecretRoute):
        kinds.add(errors.SecretGivenOnce)
    return kinds


def _responses(kinds: Kinds, statuses: Mapping[type[DomainError], int]) -> dict[str, Any]:
    by_status: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for kind in kinds:
        for found in {kind, *_below(kind)} if kind not in errors.STATUS else {kind}:
            nearest = next(base for base in found.__mro__ if base in statuses)
            for code in found.codes():
                by_status[statuses[nearest]][code] = found.title
    return {str(status): _response(sorted(titles), titles) for status, titles in sorted(by_status.items())}


def _below(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    """Subclasses, which are answered like it."""
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def _response(codes: list[str], titles: Mapping[str, str]) -> dict[str, Any]:
    listed = "\n".join(f"- `{code}`: {titles[code]}" for code in codes)
    fixed = [code for code in codes if not code.endswith("*")]
    families = [{"type": "string", "pattern": f"^{code[:-1]}"} for code in codes if code.endswith("*")]
    choices = [*([{"type": "string", "enum": fixed}] if fixed else []), *families]
    return {"description": listed, "content": _content(choices[0] if len(choices) == 1 else {"anyOf": choices})}


def _content(code: Mapping[str, Any]) -> dict[str, Any]:
    problem: dict[str, Any] = {"$ref": "#/components/schemas/Problem"}
    if code:
        problem = {"allOf": [problem, {"properties": {"code": code}}]}
    return {PROBLEM_JSON: {"schema": problem}}
