"""Plain routes answered directly: to the byte what FastAPI would have answered."""

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Form, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from acgs1.contracts.auth import Identity, Role
from acgs1.core.clock import SystemClock
from acgs1.core.errors import DomainError
from acgs1.kit import direct
from acgs1.kit.access import Authenticator, caller, require
from acgs1.kit.platform import Platform
from acgs1.kit.web import api_router, create_service
from factories import TestKeys, settings


class Thing(BaseModel):
    name: Annotated[str, Field(max_length=8)]
    size: int = 0
    parts: tuple[str, ...] = ()
    at: datetime | None = None
    alias: Annotated[str, Field(serialization_alias="also", validation_alias="also")] = "x"


class Kept(BaseModel):
    """Answered again and again by the same object, as a cache does."""

    model_config = ConfigDict(frozen=True)

    name: str
    note: str | None = None


class Refused(DomainError):
    code = "refused"
    title = "Refused"


def _router() -> tuple[APIRouter, APIRouter]:
    router, standard = api_router(), APIRouter()

    async def part(request: Request) -> str:
        return request.app.title

    @router.post("/things", status_code=201)
    async def _make(
        body: Thing, which: Annotated[str, Depends(part)], who: Annotated[Identity, require(Role.AGENT)]
    ) -> Thing:
        if body.name == "refuse":
            raise Refused(f"`{who.id}` may not have this from {which}")
        return body.model_copy(update={"size": body.size + 1})

    @router.get("/things/latest")
    async def _latest(_: Annotated[Identity, Depends(caller)]) -> list[Thing]:
        return [Thing(name="ö\u2028", parts=("a", "b"))]

    @router.get("/things/{name}", dependencies=[require(Role.AUDITOR, Role.AGENT)])
    async def _thing(name: Annotated[str, Field(pattern="^[a-z]+$")]) -> Thing | None:
        return Thing(name=name) if name != "none" else None

    @router.get("/things")
    async def _page(
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        kind: Annotated[str | None, Query(alias="type", max_length=4)] = None,
        status: Literal["new", "old"] | None = None,
        exact: bool = False,
        since: datetime | None = None,
    ) -> dict[str, str | int | bool | None]:
        return {"limit": limit, "kind": kind, "status": status, "exact": exact, "since": since and since.isoformat()}

    @router.get("/needed")
    async def _needed(name: Annotated[str, Query(max_length=3)]) -> str:
        return name

    @standard.get("/text")
    async def _text(request: Request) -> Response:
        return Response(request.url.path, media_type="text/plain")

    @router.get("/many")
    async def _many(name: Annotated[list[str], Query()]) -> list[str]:
        return name

    @standard.post("/form", response_model_exclude_none=True)
    async def _form(
        request: Request,
        grant: Annotated[str, Form(max_length=8)],
        hint: Annotated[str | None, Form(alias="type_hint", description="not needed")] = None,
    ) -> Thing:
        return Thing(name=grant, parts=(request.headers.get("x-request-id", ""), hint or ""))

    kept = Kept(name="kept")

    @router.get("/kept")
    async def _kept() -> Kept:
        return kept

    @router.get("/kept/brief", response_model_exclude_none=True)
    async def _brief() -> Kept:
        return kept

    @router.get("/things/{name}/parts")
    async def _parts(name: str) -> str:
        return name

    return router, standard


PLAIN = [
    ("GET", "/api/v1/kept"),
    ("GET", "/api/v1/kept/brief"),
    ("GET", "/api/v1/needed"),
    ("GET", "/api/v1/things"),
    ("GET", "/api/v1/things/latest"),
    ("GET", "/api/v1/things/{name}"),
    ("GET", "/health/live"),
    ("GET", "/metrics"),
    ("GET", "/text"),
    ("POST", "/api/v1/things"),
    ("POST", "/form"),
]


def _app(home: Path) -> tuple[FastAPI, TestKeys]:
    def unused() -> Platform:
        raise AssertionError("the app is not started")

    app = create_service(
        "tester",
        settings(home),
        description="",
        routers=_router(),
        statuses={Refused: 409},
        wire=lambda _, __: None,
        platform=unused,
    )  # type: ignore[arg-type]
    keys = TestKeys(home)
    app.state.platform = SimpleNamespace(authenticator=Authenticator(keys, SystemClock()))
    return app, keys


def _direct(app: FastAPI) -> direct.Direct:
    layer = app.front  # type: ignore[attr-defined]
    while not isinstance(layer, direct.Direct):
        layer = getattr(layer, "app", None) or layer._app  # type: ignore[attr-defined]
    return layer


BODIES = [
    b'{"name":"a"}',
    b'{"name":"a","size":"7","parts":["x"],"at":"2026-01-01T00:00:00Z","also":"y"}',
    b'{"name":"refuse"}',
    b'{"name":"much too long"}',
    b'{"name":"a","size":1.5}',
    b'{"name":"a","size":123456789012345678901234567890}',
    b'{"name":"\\ud800"}',
    b'{"name":null}',
    b"[]",
    b"{",
    b"",
    b"\xff",
    '{"name":"ä"}'.encode("utf-16"),
]
FORMS = [
    b"grant=abc",
    b"grant=abc&type_hint=x+y%20%C3%A4",
    b"grant=abc&hint=x",
    b"grant=abc&grant=d",
    b"grant=abc;type_hint=x",
    b"grant=&type_hint=x",
    b"grant=abc&type_hint=",
    b"grant=much+too+long",
    b"grant",
    b"=abc",
    b"grant=%FF",
    b"grant=\xff",
    b"&&grant=a&",
    b"grant=a=b",
    b"",
]
PATHS = [
    "/api/v1/things/latest",
    "/api/v1/things/abc",
    "/api/v1/things/none",
    "/api/v1/things/ABC",
    "/api/v1/things/a%2Fb",
    "/api/v1/things/%C3%A4",
    "/api/v1/things/",
    "/api/v1/things/abc?unknown=1",
    "/api/v1/things/abc/parts",
    "/api/v1/things",
    "/api/v1/things?limit=7&type=abc&status=new&exact=true&since=2026-01-01T00:00:00Z",
    "/api/v1/things?limit=0",
    "/api/v1/things?limit=x&type=abcde",
    "/api/v1/things?limit=7&limit=8",
    "/api/v1/things?type=",
    "/api/v1/things?status=other",
    "/api/v1/things?type=%FF%2B+",
    "/api/v1/kept",
    "/api/v1/kept/brief",
    "/api/v1/kept",
    "/api/v1/kept/brief",
    "/api/v1/needed",
    "/api/v1/needed?name=abc",
    "/api/v1/needed?name=abcd",
    "/api/v1/many?name=a&name=b",
    "/text",
    "/text?x=1",
    "/health/live",
    "/nowhere",
]


async def _ask(app: FastAPI, method: str, path: str, **more: object) -> tuple[int, bytes, dict[str, str]]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tester") as client:
        answer = await client.request(method, path, **more)  # type: ignore[arg-type]
    return answer.status_code, answer.content, dict(answer.headers)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FastAPI, FastAPI, TestKeys]:
    """The same application twice: with plain routes answered directly, and by FastAPI alone."""
    app, keys = _app(tmp_path)
    assert _direct(app).paths == PLAIN
    app.middleware_stack = app.build_middleware_stack()
    monkeypatch.setattr(direct.Direct, "_add", lambda *_: None)
    other, _ = _app(tmp_path)
    assert _direct(other).paths == []
    other.middleware_stack = other.build_middleware_stack()
    other.state.platform = app.state.platform
    return app, other, keys


@pytest.mark.parametrize("role", [Role.AGENT, Role.AUDITOR, Role.MEMBER])
async def test_a_read_is_answered_as_fastapi_answers_it(pair: tuple[FastAPI, FastAPI, TestKeys], role: Role):
    app, other, keys = pair
    headers = {**keys.headers(role), "X-Request-Id": "same"}
    for path in PATHS:
        assert await _ask(app, "GET", path, headers=headers) == await _ask(other, "GET", path, headers=headers), path


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8", "text/plain", None])
@pytest.mark.parametrize("role", [Role.AGENT, Role.MEMBER])
async def test_a_body_is_taken_as_fastapi_takes_it(
    pair: tuple[FastAPI, FastAPI, TestKeys], role: Role, media_type: str | None
):
    app, other, keys = pair
    headers = {**keys.headers(role), "X-Request-Id": "same", **({"Content-Type": media_type} if media_type else {})}
    for body in BODIES:
        asked = {"headers": headers, "content": body}
        assert await _ask(app, "POST", "/api/v1/things", **asked) == await _ask(
            other, "POST", "/api/v1/things", **asked
        ), body


async def test_other_methods_and_callers_without_a_token_are_refused_alike(pair: tuple[FastAPI, FastAPI, TestKeys]):
    app, other, keys = pair
    headers = {**keys.headers(Role.AGENT), "X-Request-Id": "same"}
    for method in ("PUT", "DELETE", "HEAD", "OPTIONS"):
        assert await _ask(app, method, "/api/v1/things", headers=headers) == await _ask(
            other, method, "/api/v1/things", headers=headers
        )
    bare = {"X-Request-Id": "same"}
    assert (await _ask(app, "GET", "/api/v1/things", headers=bare))[0] == 401


@pytest.mark.parametrize(
    "media_type", ["application/x-www-form-urlencoded", "multipart/form-data", "application/json", None]
)
async def test_a_form_is_taken_as_fastapi_takes_it(pair: tuple[FastAPI, FastAPI, TestKeys], media_type: str | None):
    app, other, keys = pair
    headers = {**keys.headers(Role.AGENT), "X-Request-Id": "same"} | (
        {"Content-Type": media_type} if media_type else {}
    )
    for body in FORMS:
        asked = {"headers": headers, "content": body}
        assert await _ask(app, "POST", "/form", **asked) == await _ask(other, "POST", "/form", **asked), body
