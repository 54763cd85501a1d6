"""Token introspection (RFC 7662): what is said of a token, to whom, and how soon a revocation shows."""

import asyncio
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from pathlib import Path

import httpx
import jwt
import pytest

from acgs1.contracts.auth import Role
from acgs1.kit.signing import SigningKey
from acgs1.services.auth.app import create_app
from factories import Running, running, settings

PASSWORD = "a long enough password"
PATH = "/oauth2/introspect"


@pytest.fixture
async def auth(tmp_path: Path):
    async with running(create_app, settings(tmp_path)) as service:
        yield service


async def _ask(auth: Running, token: str, *roles: Role) -> httpx.Response:
    return await auth.client.post(PATH, data={"token": token}, headers=auth.headers(*(roles or (Role.SERVICE,))))


async def _is_inactive(auth: Running, token: str) -> bool:
    answer = await _ask(auth, token)
    assert answer.status_code == 200, answer.text
    return answer.json() == {"active": False}


async def _person(auth: Running) -> tuple[str, str]:
    """Id and token."""
    body = {"username": "ada", "password": PASSWORD, "roles": ["member", "auditor"]}
    made = await auth.client.post("/api/v1/users", json=body, headers=auth.headers(Role.ADMIN))
    session = await auth.client.post("/api/v1/sessions", json={"username": "ada", "password": PASSWORD})
    return made.json()["id"], session.json()["access_token"]


async def _agent(auth: Running) -> tuple[str, str]:
    owner, _ = await _person(auth)
    headers = auth.headers(Role.OPERATOR, subject=owner)
    made = (await auth.client.post("/api/v1/agents", json={"name": "clerk"}, headers=headers)).json()
    return made["client_id"], await _credentials(auth, made["client_id"], made["client_secret"])


async def _credentials(auth: Running, name: str, secret: str) -> str:
    answer = await auth.client.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=(name, secret))
    return answer.json()["access_token"]


async def _switch(auth: Running, path: str, active: bool) -> None:
    answer = await auth.client.patch(f"/api/v1/{path}", json={"active": active}, headers=auth.headers(Role.ADMIN))
    assert answer.status_code == 200, answer.text


def _own_key(auth: Running) -> SigningKey:
    (file,) = auth.app.state.platform.home.keys("auth").glob("*.pem")
    return SigningKey.load(file)


def _forged(key: SigningKey, token: str, **changes: object) -> str:
    """The token's claims, changed, signed by `key`."""
    claims = {**jwt.decode(token, options={"verify_signature": False}), **changes}
    return jwt.encode(claims, key.key, algorithm="EdDSA", headers={"kid": key.key_id})


async def test_of_a_persons_token_all_is_said_that_it_says(auth: Running):
    person, token = await _person(auth)
    answer = await _ask(auth, token)
    said = jwt.decode(token, options={"verify_signature": False})
    assert answer.json() == {
        "active": True,
        "scope": "member auditor",
        "username": "ada",
        "token_type": "Bearer",
        "sub": person,
        **{name: said[name] for name in ("exp", "iat", "aud", "iss", "jti")},
    }
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"


async def test_agents_and_services_are_named_as_clients(auth: Running):
    agent, token = await _agent(auth)
    answer = (await _ask(auth, token, Role.ADMIN)).json()
    assert (answer["client_id"], answer["sub"], answer["scope"]) == (agent, agent, "agent")
    assert "username" not in answer
    secret = auth.app.state.platform.home.service_secret("integrity")
    answer = (await _ask(auth, await _credentials(auth, "integrity", secret))).json()
    assert (answer["active"], answer["client_id"], answer["scope"]) == (True, "integrity", "service")


async def test_a_hint_at_the_kind_of_token_changes_nothing(auth: Running):
    _, token = await _person(auth)
    form = {"token": token, "token_type_hint": "refresh_token"}
    answer = await auth.client.post(PATH, data=form, headers=auth.headers(Role.SERVICE))
    assert answer.json()["active"] is True


@pytest.mark.parametrize("role", [r for r in Role if r not in {Role.ADMIN, Role.SERVICE}])
async def test_only_services_and_administrators_may_ask(auth: Running, role: Role):
    answer = await _ask(auth, "whatever", role)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_request_without_a_token_to_judge_is_refused(auth: Running):
    answer = await auth.client.post(PATH, data={}, headers=auth.headers(Role.SERVICE))
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "token")


def _header(value: str) -> str:
    return urlsafe_b64encode(value.encode()).decode().rstrip("=") + ".e30.AA"


@pytest.mark.parametrize(
    "token",
    ["x", "a.b.c", "....", "é", _header("[" * 20_000), _header("[]"), _header('{"alg":"EdDSA","kid":["k"]}')],
    ids=["word", "dots", "only dots", "not ascii", "deep header", "no object", "kid is a list"],
)
async def test_what_is_no_token_is_inactive(auth: Running, token: str):
    assert await _is_inactive(auth, token)


async def test_a_token_with_another_audience_issuer_or_time_is_inactive_though_its_signature_is_good(auth: Running):
    _, token = await _person(auth)
    key = _own_key(auth)
    now = int(datetime.now(UTC).timestamp())
    assert (await _ask(auth, _forged(key, token, jti="again"))).json()["active"] is True
    for change in ({"aud": "another"}, {"iss": "another"}, {"exp": now - 1}, {"roles": ["emperor"]}, {"roles": None}):
        assert await _is_inactive(auth, _forged(key, token, **change)), change


async def test_a_token_that_somebody_else_signed_is_inactive(auth: Running):
    _, token = await _person(auth)
    stranger = SigningKey.generate()
    assert await _is_inactive(auth, _forged(stranger, token))
    # Not even under the name of the right key.
    claims = jwt.decode(token, options={"verify_signature": False})
    named = jwt.encode(claims, stranger.key, algorithm="EdDSA", headers={"kid": _own_key(auth).key_id})
    assert await _is_inactive(auth, named)


async def test_a_good_token_of_somebody_who_does_not_exist_is_inactive(auth: Running):
    _, token = await _person(auth)
    assert await _is_inactive(auth, _forged(_own_key(auth), token, sub="usr_nobody"))


async def test_an_identity_that_is_switched_off_is_inactive_at_once_and_active_again_when_switched_on(auth: Running):
    person, token = await _person(auth)
    assert not await _is_inactive(auth, token)
    await _switch(auth, f"users/{person}", False)
    assert await _is_inactive(auth, token)
    # Had the refusal been kept, this would still be one.
    await _switch(auth, f"users/{person}", True)
    assert not await _is_inactive(auth, token)


async def test_one_agent_that_is_switched_off_takes_no_other_with_it(auth: Running):
    agent, token = await _agent(auth)
    session = await auth.client.post("/api/v1/sessions", json={"username": "ada", "password": PASSWORD})
    assert not await _is_inactive(auth, token)
    await _switch(auth, f"agents/{agent}", False)
    assert await _is_inactive(auth, token)
    assert not await _is_inactive(auth, session.json()["access_token"])


async def test_the_holder_is_read_once_and_a_refusal_each_time(auth: Running, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    service = auth.app.state.service
    real = service.holder

    async def counted(subject: str):
        asked.append(subject)
        return await real(subject)

    person, token = await _person(auth)
    nobody = _forged(_own_key(auth), token, sub="usr_nobody")
    monkeypatch.setattr(service, "holder", counted)
    for each in (token, nobody) * 3:
        await _ask(auth, each)
    assert sorted(asked) == sorted([person, *["usr_nobody"] * 3])


async def test_a_revocation_in_one_process_shows_in_another(tmp_path: Path):
    async with running(create_app, settings(tmp_path)) as here, running(create_app, settings(tmp_path)) as there:
        person, token = await _person(here)
        assert (await _ask(there, token)).json()["active"] is True
        await _switch(here, f"users/{person}", False)
        async with asyncio.timeout(15):  # half of what it would take without the announcement
            while not await _is_inactive(there, token):  # noqa: ASYNC110 - the other process says nothing
                await asyncio.sleep(0.01)


async def test_the_metadata_names_the_endpoint(auth: Running):
    metadata = (await auth.client.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["introspection_endpoint"] == f"{metadata['issuer']}{PATH}"
    assert metadata["introspection_endpoint_auth_methods_supported"] == ["Bearer"]
