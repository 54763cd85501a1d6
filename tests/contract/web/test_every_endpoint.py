"""What every endpoint of every app has in common: it is closed unless listed, and it says how it fails."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from acgs1.contracts.common import Problem
from apps import PARTS, build, endpoints

EVERYWHERE = {"/health", "/health/live", "/health/ready", "/openapi.json"}
PUBLIC = {
    "auth": {"/oauth2/token", "/api/v1/sessions", "/.well-known/jwks.json", "/.well-known/oauth-authorization-server"},
    "constitutional_ai": set[str](),
    "integrity": {"/checkpoint", "/log-key"},
    "formal_verification": {"/api/v1/verifier-key"},
    "governance_synthesis": set[str](),
    "policy_governance": {"/.well-known/authzen-configuration"},
    "evolutionary_computation": set[str](),
    "console": {"/"},
}
"""Written out here, so that opening an endpoint takes a change of this list."""
IGNORE_THE_KEY = {"/api/v1/events", "/api/v1/monitoring/reports"}
"""What they take carries ids of its own."""

parts = pytest.mark.parametrize("part", [part.name for part in PARTS])


def _filled(template: str) -> str:
    return re.sub(r"\{[^}]*\}", "0" * 64, template)


def _client(app: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://part")


@parts
def test_the_public_list_is_exactly_this(part: str, tmp_path: Path):
    app, _ = build(part, tmp_path)
    assert set(app.state.public) == EVERYWHERE | PUBLIC[part]
    paths = {path for _, path in endpoints(app)}
    assert set(app.state.public) <= paths, "a public path that does not exist hides a mistake"


@parts
async def test_without_a_token_only_the_public_list_answers(part: str, tmp_path: Path):
    app, _ = build(part, tmp_path)
    tried = 0
    async with _client(app) as client:
        for method, template in endpoints(app):
            if template in EVERYWHERE | PUBLIC[part]:
                continue
            tried += 1
            answer = await client.request(method, _filled(template))
            assert answer.status_code == 401, (method, template, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert Problem.model_validate_json(answer.content).code == "unauthenticated"
        assert tried, "the walk found nothing to try"
        # What is on the list needs no token: /health answers, here that the part is not ready.
        assert (await client.get("/health")).status_code == 503


@parts
@pytest.mark.parametrize(
    "path",
    ["/nothing/here", "//health", "/health/", "/Health", "/health/../metrics", "/health%2F..%2Fmetrics", "/docs"],
)
async def test_a_path_that_only_looks_public_is_closed(part: str, path: str, tmp_path: Path):
    app, _ = build(part, tmp_path)
    async with _client(app) as client:
        answer = await client.get(f"http://part{path}")
    assert answer.status_code == 401


@parts
async def test_a_token_of_a_stranger_opens_nothing(part: str, tmp_path: Path):
    app, _ = build(part, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    _, stranger = build(part, tmp_path / "elsewhere")
    async with _client(app) as client:
        answer = await client.get("/metrics", headers=stranger.headers())
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def _codes(response: dict[str, Any]) -> set[str]:
    """What `code` may be, `name_*` for all that begin so."""
    schema = response["content"]["application/problem+json"]["schema"]
    problem, narrowed = schema["allOf"]
    assert problem == {"$ref": "#/components/schemas/Problem"}
    code = narrowed["properties"]["code"]
    found: set[str] = set()
    for choice in code.get("anyOf", [code]):
        found |= set(choice.get("enum", ())) or {choice["pattern"].removeprefix("^") + "*"}
    return found


@parts
def test_every_operation_is_documented_with_each_status_and_code_that_it_may_answer(part: str, tmp_path: Path):
    app, _ = build(part, tmp_path)
    document = app.openapi()
    shown = {(m, re.sub(r":path\}", "}", p)) for m, p in endpoints(app) if p != "/openapi.json"}
    assert {(method, path) for method, path, _ in _operations(document)} == shown
    named: set[str] = set()
    for method, path, operation in _operations(document):
        where = f"{method} {path}"
        responses = operation["responses"]
        assert operation["summary"], where
        problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        assert responses["default"]["content"] == problem, where
        for status, response in responses.items():
            if status.isdigit() and int(status) >= 400 and "application/problem+json" in response["content"]:
                codes = _codes(response)
                assert all(f"`{code}`" in response["description"] for code in codes), where
                named |= codes
        assert "internal_error" in _codes(responses["500"]), where
        assert _codes(responses["413"]) >= {"body_too_large"}, where
        if path not in app.state.public:
            assert _codes(responses["401"]) >= {"unauthenticated", "token_expired"}, where
            assert _codes(responses["403"]) >= {"forbidden"}, where
        if "requestBody" in operation:
            assert _codes(responses["422"]) >= {"invalid_request"}, where
        assert "HTTPValidationError" not in str(responses), f"{where} documents FastAPI's own error format"
    assert {"code", "title", "status", "detail"} <= set(document["components"]["schemas"]["Problem"]["required"])
    own = {c for kind in app.state.statuses if kind.__module__.startswith("acgs1.services.") for c in kind.codes()}
    assert own <= named


@parts
def test_the_document_says_who_needs_a_token(part: str, tmp_path: Path):
    app, _ = build(part, tmp_path)
    document = app.openapi()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["security"] == [{"bearer": []}]
    open_ones = {path for _, path, operation in _operations(document) if operation.get("security") == []}
    assert open_ones == (EVERYWHERE | PUBLIC[part]) - {"/openapi.json"}


@parts
def test_the_document_names_the_key_where_a_post_honours_it(part: str, tmp_path: Path):
    app, _ = build(part, tmp_path)
    for method, path, operation in _operations(app.openapi()):
        headers = [p["name"] for p in operation.get("parameters", []) if p["in"] == "header"]
        honours = method == "POST" and path.startswith("/api/") and path not in app.state.public | IGNORE_THE_KEY
        assert headers == (["Idempotency-Key"] if honours else []), path
        codes = _codes(operation["responses"]["409"]) if "409" in operation["responses"] else set[str]()
        assert ("outcome_unknown" in codes) == honours, path


def test_the_document_is_made_when_it_is_asked_for_and_once(tmp_path: Path):
    app, _ = build("auth", tmp_path)
    assert app.openapi_schema is None
    assert app.openapi() is app.openapi()
