"""What no endpoint takes, and the code and place that each mistake is answered with."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import httpx
import pytest
from fastapi import APIRouter, Body, Depends, Form, Query
from fastapi import Path as PathParameter
from pydantic import Field, JsonValue

from acgs1.contracts.auth import Role
from acgs1.contracts.common import Message
from acgs1.core.clock import SystemClock
from acgs1.kit.access import Authenticator
from acgs1.kit.inbound import MOST_NESTED
from acgs1.kit.platform import Platform
from acgs1.kit.web import api_router, create_service
from factories import TestKeys, settings


class Round(Message):
    kind: Literal["round"]
    radius: int


class Square(Message):
    kind: Literal["square"]
    side: int


class Thing(Message):
    name: str = "x"
    shapes: tuple[Annotated[Round | Square, Field(discriminator="kind")], ...] = ()
    either: Round | Square | None = None
    more: dict[str, JsonValue] = Field(default_factory=dict)


def _routers() -> tuple[APIRouter, APIRouter]:
    router, standard = api_router(), APIRouter()

    async def acting(on_behalf_of: Annotated[str | None, Query()] = None) -> str | None:
        return on_behalf_of

    @router.post("/things")
    async def _make(body: Thing) -> Thing:
        return body

    @router.post("/slow/{name}/things")
    async def _slow(
        name: Annotated[str, PathParameter(max_length=3)], body: Thing, who: Annotated[str | None, Depends(acting)]
    ) -> Thing:
        return body

    @router.get("/things")
    async def _page(limit: Annotated[int, Query(le=9)] = 5, kind: Annotated[str, Query(alias="type")] = "") -> int:
        return limit

    @router.get("/things/{name}")
    async def _thing(name: str) -> str:
        return name

    @standard.post("/oauth2/token")
    async def _token(grant_type: Annotated[str, Form()]) -> str:
        return grant_type

    @standard.get("/.well-known/thing")
    async def _known() -> str:
        return "known"

    @standard.post("/access/v1/evaluation")
    async def _evaluate(body: Annotated[dict[str, JsonValue], Body()]) -> str:
        return "yes"

    return router, standard


@pytest.fixture
async def client(tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    def unused() -> Platform:
        raise AssertionError("the app is not started")

    app = create_service(
        "tester",
        settings(tmp_path),
        description="",
        routers=_routers(),
        statuses={},
        wire=lambda _, __: None,
        platform=unused,
    )  # type: ignore[arg-type]
    keys = TestKeys(tmp_path)
    app.state.platform = SimpleNamespace(authenticator=Authenticator(keys, SystemClock()))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {**keys.headers(Role.AGENT), "Content-Type": "application/json"}
    async with httpx.AsyncClient(transport=transport, base_url="http://tester", headers=headers) as one:
        yield one


def problem(answer: httpx.Response) -> tuple[int, str, list[dict[str, Any]]]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    return answer.status_code, body["code"], [{k: v for k, v in e.items() if k != "detail"} for e in body["errors"]]


# Answered directly, and by FastAPI.
both = pytest.mark.parametrize("path", ["/api/v1/things", "/api/v1/slow/a/things"])


@both
@pytest.mark.parametrize(
    ("body", "code", "places"),
    [
        ('{"nam": "a"}', "unknown_field", ["/nam"]),
        ('{"a/b~c": 1}', "unknown_field", ["/a~1b~0c"]),
        ('{"shapes": [{"kind": "round", "radius": 1}, {"kind": "square", "side": 1, "x": 0}]}', "unknown_field", ["/shapes/1/x"]),
        ('{"nam": "a", "name": 1}', "invalid_request", ["/name", "/nam"]),
        ('{"shapes": [{"kind": "round"}]}', "invalid_request", ["/shapes/0/radius"]),
        ('{"shapes": [{"kind": "oval"}]}', "invalid_request", ["/shapes/0"]),
        ('{"either": {"kind": "round"}}', "invalid_request", ["/either/radius", "/either/kind", "/either/side"]),
        ("[]", "invalid_request", [""]),
        ("", "invalid_request", [""]),
        ('{"name": "a\\u0000b"}', "invalid_request", ["/name"]),
        ('{"more": {"a": ["x", {"b": "\\u0000"}]}}', "invalid_request", ["/more/a/1/b"]),
        ('{"more": {"a\\u0000": 1}}', "invalid_request", ["/more"]),
    ],
)  # fmt: skip
async def test_a_mistake_in_the_body_has_a_code_and_a_pointer_into_it(
    client: httpx.AsyncClient, path: str, body: str, code: str, places: list[str]
):
    answer = await client.post(path, content=body)
    assert problem(answer) == (422, code, [{"pointer": place} for place in places])


@both
async def test_what_only_looks_like_u_0000_is_taken(client: httpx.AsyncClient, path: str):
    answer = await client.post(path, content='{"name": "\\\\u0000 and \\u0001"}')
    assert (answer.status_code, answer.json()["name"]) == (200, "\\u0000 and \u0001")


@both
@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("{", {"line": 1, "column": 2}),
        ('{"name":\n  "a",\n  oops}', {"line": 3, "column": 3}),
        ('{"name": "a\nb"}', {"line": 1, "column": 12}),
        (b"\xff", {"pointer": ""}),
    ],
)
async def test_what_is_not_json_is_called_that_with_its_place(
    client: httpx.AsyncClient, path: str, body: str | bytes, place: dict[str, Any]
):
    assert problem(await client.post(path, content=body)) == (422, "malformed_json", [place])


@both
@pytest.mark.parametrize("depth", [MOST_NESTED + 1, 5_000, 100_000])
async def test_a_body_that_nests_too_deeply_is_called_that(client: httpx.AsyncClient, path: str, depth: int):
    body = '{"more": {"a": ' + "[" * (depth - 2) + "]" * (depth - 2) + "}}"
    status, code, _ = problem(await client.post(path, content=body))
    assert (status, code) == (422, "nested_too_deeply")


@both
async def test_many_brackets_beside_each_other_are_not_deep(client: httpx.AsyncClient, path: str):
    body = json.dumps({"more": {"a": [[[[]] * 500]] * 3}})
    assert (await client.post(path, content=body)).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/api/v1/things?limt=3", "/api/v1/things/a?limit=3", "/api/v1/things?type=a&limit=3&also=", "/health/live?x=1"],
)
async def test_an_unknown_parameter_is_refused_below_api(client: httpx.AsyncClient, path: str):
    answer = await client.get(path)
    if path.startswith("/health"):
        assert answer.status_code == 200, "whoever probes may add what they like"
        return
    (place,) = problem(answer)[2]
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_parameter")
    assert place["parameter"] in {"limt", "limit", "also"}


async def test_parameters_of_dependencies_and_by_alias_are_known(client: httpx.AsyncClient):
    assert (await client.get("/api/v1/things?type=a&limit=3")).status_code == 200
    answer = await client.post("/api/v1/slow/a/things?on_behalf_of=b", content="{}")
    assert answer.status_code == 200
    refused = await client.post("/api/v1/slow/a/things?on_behalf=b", content="{}")
    assert problem(refused) == (422, "unknown_parameter", [{"parameter": "on_behalf"}])
    assert "`on_behalf_of`" in refused.json()["detail"], "it names what there is"


async def test_the_standards_own_paths_ignore_what_they_do_not_know(client: httpx.AsyncClient):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post("/oauth2/token?audience=x", content="grant_type=a&resource=b", headers=form)
    assert (answer.status_code, answer.json()) == (200, "a")
    assert (await client.get("/.well-known/thing?x=1")).status_code == 200
    assert (await client.post("/access/v1/evaluation?x=1", content="{}")).status_code == 200


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/api/v1/things?limit=10", "limit"),
        ("/api/v1/things?type=%00", "type"),
        ("/api/v1/things/a%00b", "name"),
    ],
)
async def test_a_parameter_that_is_wrong_is_named(client: httpx.AsyncClient, path: str, parameter: str):
    assert problem(await client.get(path)) == (422, "invalid_request", [{"parameter": parameter}])


async def test_u_0000_is_refused_in_paths_and_forms_too(client: httpx.AsyncClient):
    answer = await client.post("/api/v1/slow/%00/things", content="{}")
    assert problem(answer) == (422, "invalid_request", [{"parameter": "name"}])
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post("/oauth2/token", content="grant_type=a%00", headers=form)
    assert problem(answer) == (422, "invalid_request", [{"parameter": "grant_type"}])
    answer = await client.post("/access/v1/evaluation", content='{"a": "\\u0000"}')
    assert problem(answer) == (422, "invalid_request", [{"pointer": "/a"}])


async def test_another_method_is_refused_with_those_that_the_path_takes(client: httpx.AsyncClient):
    answer = await client.put("/api/v1/things", content="{}")
    assert problem(answer) == (405, "method_not_allowed", [])
    assert set(answer.headers["allow"].replace(",", " ").split()) & {"GET", "POST"}


async def test_a_path_that_is_not_there_is_not_found(client: httpx.AsyncClient):
    assert problem(await client.get("/api/v1/nothing"))[:2] == (404, "not_found")
