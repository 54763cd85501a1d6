"""What every endpoint of every app has in common: it is closed unless listed, and it says how it fails."""

import re
from pathlib import Path

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


@parts
def test_every_operation_is_documented_with_the_problem_that_it_answers(part: str, tmp_path: Path):
    app, _ = build(part, tmp_path)
    document = app.openapi()
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    shown = {(m, re.sub(r":path\}", "}", p)) for m, p in endpoints(app) if p != "/openapi.json"}
    assert documented == shown
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            problem = operation["responses"]["default"]["content"]
            assert problem == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, where
            assert "422" not in operation["responses"], f"{where} documents FastAPI's own error format"
            assert operation["summary"], where
    assert {"code", "title", "status", "detail"} <= set(document["components"]["schemas"]["Problem"]["required"])
