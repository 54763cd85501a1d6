"""What auth promises its callers."""

from pathlib import Path

import jwt
import pytest

from acgs1.contracts.auth import Role
from acgs1.services.auth.app import create_app
from factories import Running, running, settings

PASSWORD = "a long enough password"


@pytest.fixture
async def auth(tmp_path: Path):
    async with running(create_app, settings(tmp_path)) as service:
        yield service


async def _create_user(auth: Running, name: str, role: str = "member") -> dict:
    body = {"username": name, "password": PASSWORD, "roles": [role]}
    answer = await auth.client.post("/api/v1/users", json=body, headers=auth.headers(Role.ADMIN))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_the_first_start_writes_a_private_password_that_signs_the_administrator_in(auth: Running):
    file = auth.app.state.platform.home.admin_password
    assert file.stat().st_mode & 0o777 == 0o600
    body = {"username": "admin", "password": file.read_text().strip()}
    answer = await auth.client.post("/api/v1/sessions", json=body)
    assert answer.status_code == 200
    # A token that auth issued is accepted by auth when it verifies with its own keys again.
    auth.app.state.platform.trust(auth.app.state.service)
    me = await auth.client.get("/api/v1/me", headers={"Authorization": f"Bearer {answer.json()['access_token']}"})
    assert me.json()["roles"] == ["admin"]


async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(auth: Running):
    await _create_user(auth, "ada")
    wrong = await auth.client.post("/api/v1/sessions", json={"username": "ada", "password": "wrong password"})
    unknown = await auth.client.post("/api/v1/sessions", json={"username": "bob", "password": "wrong password"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json()["code"] == unknown.json()["code"] == "invalid_credentials"
    assert wrong.json()["detail"] == unknown.json()["detail"]


async def test_after_ten_failures_even_the_right_password_is_refused(auth: Running):
    await _create_user(auth, "ada")
    for _ in range(10):
        await auth.client.post("/api/v1/sessions", json={"username": "ada", "password": "wrong password"})
    answer = await auth.client.post("/api/v1/sessions", json={"username": "ada", "password": PASSWORD})
    assert answer.status_code == 429
    assert answer.json()["code"] == "too_many_attempts"


async def test_an_agent_needs_an_owner_with_an_account(auth: Running):
    made = await auth.client.post("/api/v1/agents", json={"name": "clerk"}, headers=auth.headers(Role.ADMIN))
    assert (made.status_code, made.json()["code"]) == (404, "account_not_found")


async def test_an_agent_gets_tokens_with_its_credentials_until_it_is_switched_off(auth: Running):
    owner = await _create_user(auth, "olga", "operator")
    headers = auth.headers(Role.OPERATOR, subject=owner["id"])
    made = (await auth.client.post("/api/v1/agents", json={"name": "clerk"}, headers=headers)).json()
    form = {"grant_type": "client_credentials"}
    basic = (made["client_id"], made["client_secret"])
    assert (await auth.client.post("/oauth2/token", data=form, auth=basic)).status_code == 200
    assert (await auth.client.post("/oauth2/token", data=form, auth=(basic[0], "wrong"))).status_code == 401
    await auth.client.patch(f"/api/v1/agents/{made['client_id']}", json={"active": False}, headers=headers)
    assert (await auth.client.post("/oauth2/token", data=form, auth=basic)).status_code == 401


async def test_another_grant_type_is_named_in_the_refusal(auth: Running):
    answer = await auth.client.post(
        "/oauth2/token", data={"grant_type": "password", "client_id": "x", "client_secret": "y"}
    )
    assert answer.json()["code"] == "unsupported_grant_type"
    assert "`password`" in answer.json()["detail"]


async def test_a_name_is_given_once(auth: Running):
    await _create_user(auth, "ada")
    body = {"username": "ada", "password": PASSWORD, "roles": ["member"]}
    answer = await auth.client.post("/api/v1/users", json=body, headers=auth.headers(Role.ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")


async def test_the_last_administrator_stays(auth: Running):
    page = (await auth.client.get("/api/v1/users", headers=auth.headers(Role.ADMIN))).json()
    admin = next(user for user in page["items"] if user["username"] == "admin")
    answer = await auth.client.patch(
        f"/api/v1/users/{admin['id']}", json={"active": False}, headers=auth.headers(Role.ADMIN)
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "last_administrator")


async def test_a_rotated_key_signs_and_the_old_one_stays_published(auth: Running):
    before = {key["kid"] for key in (await auth.client.get("/.well-known/jwks.json")).json()["keys"]}
    fresh = (await auth.client.post("/api/v1/keys/rotation", headers=auth.headers(Role.ADMIN))).json()["kid"]
    after = {key["kid"] for key in (await auth.client.get("/.well-known/jwks.json")).json()["keys"]}
    assert after == before | {fresh}


async def test_tokens_are_signed_with_the_new_key_as_soon_as_it_is_there(auth: Running):
    owner = await _create_user(auth, "olga", "operator")
    headers = auth.headers(Role.OPERATOR, subject=owner["id"])
    made = (await auth.client.post("/api/v1/agents", json={"name": "clerk"}, headers=headers)).json()
    basic = (made["client_id"], made["client_secret"])

    async def signed_with() -> str:
        answer = await auth.client.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=basic)
        return jwt.get_unverified_header(answer.json()["access_token"])["kid"]

    before = await signed_with()
    fresh = (await auth.client.post("/api/v1/keys/rotation", headers=auth.headers(Role.ADMIN))).json()["kid"]
    assert await signed_with() == fresh != before


async def test_a_role_that_is_missing_is_named(auth: Running):
    answer = await auth.client.get("/api/v1/users", headers=auth.headers(Role.MEMBER))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "`admin`" in answer.json()["detail"]


async def test_an_unknown_field_is_refused_with_its_pointer(auth: Running):
    body = {"username": "ada", "password": PASSWORD, "roles": ["member"], "rank": 3}
    answer = await auth.client.post("/api/v1/users", json=body, headers=auth.headers(Role.ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"] == "/rank"


async def test_a_repeated_post_with_the_same_key_gives_the_first_answer(auth: Running):
    body = {"username": "ada", "password": PASSWORD, "roles": ["member"]}
    headers = {**auth.headers(Role.ADMIN, subject="usr_1"), "Idempotency-Key": "k1"}
    first = await auth.client.post("/api/v1/users", json=body, headers=headers)
    again = await auth.client.post("/api/v1/users", json=body, headers=headers)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = await auth.client.post("/api/v1/users", json={**body, "username": "bob"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")


async def test_a_body_over_the_limit_is_refused_with_the_limit(tmp_path: Path):
    async with running(create_app, settings(tmp_path, max_body_bytes=2048)) as auth:
        body = {"username": "a", "password": "x" * 4000, "roles": ["member"]}
        answer = await auth.client.post("/api/v1/users", json=body, headers=auth.headers(Role.ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert "2048" in answer.json()["detail"]


async def test_an_expired_token_has_a_code_of_its_own(auth: Running):
    from datetime import timedelta

    token = auth.keys.token(Role.ADMIN, lifetime=timedelta(seconds=-1))
    answer = await auth.client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


async def test_an_unexpected_error_tells_the_caller_nothing_and_the_log_no_secret(
    auth: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async def broken(*_: object) -> None:
        raise RuntimeError("the cause")

    monkeypatch.setattr(auth.app.state.service, "users", broken)
    headers = auth.headers(Role.ADMIN)
    answer = await auth.client.get("/api/v1/users", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "the cause" not in answer.text
    logged = capsys.readouterr().out
    assert "the cause" in logged
    assert headers["Authorization"].removeprefix("Bearer ") not in logged
