"""U+0000, which PostgreSQL cannot keep: refused wherever it comes in, alike on both databases, and nothing breaks."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from acgs1.contracts.auth import Role
from acgs1.services.auth.app import create_app
from factories import Running, running, settings

PASSWORD = "a long enough password"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def auth(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Running]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    async with running(create_app, settings(tmp_path, database_url=url)) as service:
        yield service


async def test_u_0000_is_refused_and_the_service_goes_on(auth: Running):
    admin = auth.headers(Role.ADMIN)
    keyed = {**admin, "Idempotency-Key": "k"}
    body = {"username": "a", "password": PASSWORD, "roles": ["member"]}
    asked = [
        ("POST", "/api/v1/users", {"json": {**body, "password": PASSWORD + "\0"}, "headers": admin}, {"pointer": "/password"}),
        ("POST", "/api/v1/users", {"json": {**body, "password": PASSWORD + "\0"}, "headers": keyed}, {"pointer": "/password"}),
        ("POST", "/api/v1/agents", {"json": {"name": "a", "description": "b\0"}, "headers": admin}, {"pointer": "/description"}),
        ("GET", "/api/v1/users/usr_%00", {"headers": admin}, {"parameter": "user_id"}),
        ("GET", "/api/v1/users?cursor=%00", {"headers": admin}, {"parameter": "cursor"}),
        (
            "POST",
            "/oauth2/token",
            {"data": {"grant_type": "client_credentials", "client_id": "agt_\0", "client_secret": "s"}},
            {"parameter": "client_id"},
        ),
    ]  # fmt: skip
    for method, path, request, place in asked:
        answer = await auth.client.request(method, path, **request)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), (path, answer.text)
        (item,) = answer.json()["errors"]
        assert {k: v for k, v in item.items() if k != "detail"} == place
    basic = await auth.client.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=("agt_\0", "s"))
    assert (basic.status_code, basic.json()["code"]) == (401, "invalid_credentials")
    assert (await auth.client.get("/api/v1/users", headers=admin)).status_code == 200
