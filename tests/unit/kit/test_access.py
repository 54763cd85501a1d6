"""Whom the services believe: auth's keys, also while auth is away, and nobody's flood."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from acgs1.contracts.auth import Role
from acgs1.core.clock import ManualClock, SystemClock
from acgs1.kit.access import Authenticator, PublishedKeys
from acgs1.kit.errors import DependencyUnavailable, TokenExpired, Unauthenticated
from acgs1.kit.signing import SigningKey
from factories import TestKeys


class Auth:
    def __init__(self, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.away = False

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if self.away:
            raise DependencyUnavailable("auth is away")
        return {"keys": [key.public.jwk() for key in self.keys]}


async def test_a_flood_of_unknown_key_ids_asks_auth_at_most_once_in_five_seconds(tmp_path: Path):
    clock, auth = ManualClock(), Auth(SigningKey.generate())
    keys = PublishedKeys(auth, tmp_path / "jwks.json", clock)
    for number in range(1000):
        assert await keys.key(f"made-up-{number}") is None
    assert auth.asked == 1
    clock.advance(5.1)
    auth.keys.append(fresh := SigningKey.generate())
    assert await keys.key(fresh.public.key_id) is not None, "a key that auth has rotated to is found"
    assert auth.asked == 2


async def test_keys_are_fetched_again_after_five_minutes_and_a_withdrawn_one_is_gone(tmp_path: Path):
    clock, auth = ManualClock(), Auth(old := SigningKey.generate())
    keys = PublishedKeys(auth, tmp_path / "jwks.json", clock)
    assert await keys.key(old.public.key_id)
    auth.keys = [SigningKey.generate()]
    clock.advance(301)
    assert await keys.key(old.public.key_id) is None


async def test_while_auth_is_down_tokens_are_verified_with_the_keys_at_hand_also_after_a_restart(tmp_path: Path):
    clock, auth = ManualClock(), Auth(key := SigningKey.generate())
    file = tmp_path / "jwks.json"
    keys = PublishedKeys(auth, file, clock)
    await keys.key(key.public.key_id)
    auth.away = True
    clock.advance(3600)
    assert await keys.key(key.public.key_id) is not None
    assert await PublishedKeys(auth, file, clock).key(key.public.key_id) is not None


@pytest.mark.parametrize("kept", [None, b"", b"{", b"{}", b'{"keys":[{}]}', b"[]"])
async def test_without_any_key_a_token_is_not_called_false_but_auth_missing(tmp_path: Path, kept: bytes | None):
    auth, file = Auth(), tmp_path / "jwks.json"
    auth.away = True
    if kept is not None:
        file.write_bytes(kept)
    keys = PublishedKeys(auth, file, ManualClock())
    tokens = TestKeys(tmp_path)
    for _ in range(3):
        with pytest.raises(DependencyUnavailable):
            await Authenticator(keys, SystemClock()).identify(f"Bearer {tokens.token(Role.ADMIN)}")
    assert auth.asked == 1


@pytest.mark.parametrize(
    "document", [{}, {"keys": None}, {"keys": [{"kid": "x", "kty": "RSA"}]}, {"keys": [{"kty": "OKP"}]}]
)
async def test_a_key_set_that_cannot_be_used_does_not_replace_the_one_at_hand(tmp_path: Path, document: dict[str, Any]):
    clock, auth = ManualClock(), Auth(key := SigningKey.generate())
    file = tmp_path / "jwks.json"
    good = PublishedKeys(auth, file, clock)
    await good.key(key.public.key_id)
    before = file.read_text()

    async def broken() -> dict[str, Any]:
        return document

    keys = PublishedKeys(broken, file, clock)
    assert await keys.key(key.public.key_id) is not None
    assert file.read_text() == before
    assert json.loads(before)["keys"]


async def test_an_expired_token_has_its_own_error_also_when_it_was_seen_while_it_was_good(tmp_path: Path):
    from datetime import UTC, datetime

    clock = ManualClock(datetime.now(UTC))
    tokens = TestKeys(tmp_path)
    authenticator = Authenticator(tokens, clock)
    header = f"Bearer {tokens.token(Role.MEMBER, lifetime=timedelta(minutes=5))}"
    assert (await authenticator.identify(header)).roles == (Role.MEMBER,)
    clock.advance(301)
    for _ in range(2):
        with pytest.raises(TokenExpired):
            await authenticator.identify(header)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer a.b.c", "Bearer x", "bearer \x00"]
)
async def test_what_is_no_token_is_refused(tmp_path: Path, header: str | None):
    with pytest.raises(Unauthenticated):
        await Authenticator(TestKeys(tmp_path), SystemClock()).identify(header)


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "other"},
        {"iss": "other"},
        {"sub": None},
        {"exp": "soon"},
        {"roles": ["emperor"]},
        {"roles": None},
        {"name": 1},
    ],
    ids=lambda c: next(iter(c)) + "=" + str(next(iter(c.values()))),
)
async def test_a_signed_token_with_wrong_claims_is_refused(tmp_path: Path, change: dict[str, Any]):
    tokens = TestKeys(tmp_path)
    claims = jwt.decode(tokens.token(Role.ADMIN), options={"verify_signature": False})
    kid = jwt.get_unverified_header(tokens.token())["kid"]
    key = SigningKey.load(tmp_path / f"{kid}.pem")
    wrong = {name: value for name, value in {**claims, **change}.items() if value is not None}
    token = jwt.encode(
        wrong, key.private if hasattr(key, "private") else key.key, algorithm="EdDSA", headers={"kid": kid}
    )
    with pytest.raises(Unauthenticated):
        await Authenticator(tokens, SystemClock()).identify(f"Bearer {token}")


async def test_a_token_that_is_not_signed_or_signed_with_the_public_key_is_refused(tmp_path: Path):
    tokens = TestKeys(tmp_path)
    claims = jwt.decode(tokens.token(Role.ADMIN), options={"verify_signature": False})
    kid = jwt.get_unverified_header(tokens.token())["kid"]
    public = await tokens.key(kid)
    assert public is not None
    for algorithm, key in (("none", None), ("HS256", public.raw)):
        token = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})
        with pytest.raises(Unauthenticated):
            await Authenticator(tokens, SystemClock()).identify(f"Bearer {token}")
