"""Who is calling: access tokens (JWT, RFC 9068 in spirit, EdDSA) verified against auth's published keys."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jwt
from fastapi import Depends, Request

from acgs1.contracts.auth import Identity, Role
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.kit.errors import DependencyUnavailable, Forbidden, TokenExpired, Unauthenticated
from acgs1.kit.signing import VerifyingKey

ISSUER = "acgs1"
AUDIENCE = "acgs1"
_REFRESH_SECONDS = 300.0
_MIN_REFRESH_SECONDS = 5.0
_VERIFIED_TOKENS = 4096


class KeySource(Protocol):
    """Where verification keys come from."""

    async def key(self, kid: str) -> VerifyingKey | None:
        """The key that `kid` names, or None when auth publishes no such key."""
        ...


class PublishedKeys:
    """Auth's JWK set: fetched, refreshed every five minutes and on an unknown `kid`, and kept in a file so that tokens can still be
    verified while auth is down and after a restart in that time."""

    def __init__(self, fetch: Callable[[], Awaitable[dict[str, Any]]], file: Path, clock: Clock) -> None:
        self._fetch = fetch
        self._file = file
        self._clock = clock
        self._keys: dict[str, VerifyingKey] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._refreshing = asyncio.Lock()

    async def key(self, kid: str) -> VerifyingKey | None:
        if kid not in self._keys or self._clock.monotonic() - self._fetched_at > _REFRESH_SECONDS:
            await self._refresh()
        if not self._keys:
            # Nothing is known about any key: that is no reason to call a token false.
            raise DependencyUnavailable("`auth` has not published its keys yet; try again in a few seconds")
        return self._keys.get(kid)

    async def _refresh(self) -> None:
        async with self._refreshing:
            now = self._clock.monotonic()
            # A flood of tokens with made-up key ids must not become a flood of requests to auth.
            if now - self._tried_at < _MIN_REFRESH_SECONDS:
                return
            self._tried_at = now
            try:
                document = await self._fetch()
                keys = _keys_of(document)
            except DomainError:
                if not self._keys:
                    self._keys = self._kept()
                if not self._keys:
                    raise
                return
            self._keys = keys
            self._fetched_at = now
            temporary = self._file.with_suffix(".new")
            temporary.write_text(json.dumps(document))
            temporary.replace(self._file)

    def _kept(self) -> dict[str, VerifyingKey]:
        """The keys of an earlier life of this service; none when there is no file that can be read."""
        try:
            return _keys_of(json.loads(self._file.read_bytes()))
        except (OSError, ValueError, DomainError):
            return {}


def _keys_of(document: dict[str, Any]) -> dict[str, VerifyingKey]:
    """Raises DependencyUnavailable when `document` is not a JWK set that can be used."""
    try:
        return {jwk["kid"]: VerifyingKey.from_jwk(jwk) for jwk in document["keys"]}
    except (KeyError, TypeError, ValueError) as error:
        raise DependencyUnavailable(f"`auth` published no JWK set that can be used: {error}") from None


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What an access token says; instants are seconds since the epoch (NumericDate, RFC 7519)."""

    identity: Identity
    issued_at: float
    expires_at: float
    token_id: str | None


async def verify_token(token: str, keys: KeySource, now: float) -> VerifiedToken:
    """The token's content, if one of `keys` signed it for this system and it has not expired.

    Raises Unauthenticated, TokenExpired, or what `keys` raises.
    """
    try:
        kid = jwt.get_unverified_header(token).get("kid", "")
        key = await keys.key(kid)
        if key is None:
            raise Unauthenticated("the token was signed with a key that auth does not publish")
        claims = jwt.decode(
            token,
            key.key,
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            issuer=ISSUER,
            # Time is checked below against our own clock, which tests can hold still.
            options={
                "require": ["exp", "iat", "sub"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        identity = Identity(id=claims["sub"], name=claims["name"], roles=tuple(Role(r) for r in claims["roles"]))
        verified = VerifiedToken(identity, float(claims["iat"]), float(claims["exp"]), claims.get("jti"))
    except DependencyUnavailable:
        raise
    except (jwt.InvalidTokenError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise Unauthenticated(f"the access token is not valid: {error}") from None
    if verified.expires_at <= now:
        raise TokenExpired("get a fresh token from auth")
    return verified


class Authenticator:
    """Turns a bearer token into an Identity. Tokens already verified are remembered (at most 4096) until they expire."""

    def __init__(self, keys: KeySource, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._verified: OrderedDict[str, tuple[float, VerifiedToken]] = OrderedDict()

    async def identify(self, authorization: str | None) -> Identity:
        """The caller that the `Authorization` header proves; raises Unauthenticated or TokenExpired."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("send `Authorization: Bearer <access token>`; auth issues tokens at /oauth2/token")
        return (await self.verify(token)).identity

    async def verify(self, token: str) -> VerifiedToken:
        """What the token says; raises as `verify_token` does."""
        now = self._clock.now().timestamp()
        if known := self._verified.get(token):
            recheck, verified = known
            if verified.expires_at <= now:
                del self._verified[token]
                raise TokenExpired("get a fresh token from auth")
            if now < recheck:
                return verified
        verified = await verify_token(token, self._keys, now)
        # Verified anew from time to time, so that a key that auth no longer publishes stops counting.
        self._verified[token] = now + _REFRESH_SECONDS, verified
        if len(self._verified) > _VERIFIED_TOKENS:
            self._verified.popitem(last=False)
        return verified


async def caller(request: Request) -> Identity:
    """The authenticated caller of this request (FastAPI dependency)."""
    identity = request.scope.get("acgs_identity")
    if not isinstance(identity, Identity):
        raise Unauthenticated("this endpoint needs a caller")
    return identity


def require(*roles: Role) -> Any:
    """A FastAPI dependency: the caller, who must hold one of `roles`; raises Forbidden naming them otherwise."""

    async def check(identity: Identity = Depends(caller)) -> Identity:
        if not set(roles) & set(identity.roles):
            names = " or ".join(f"`{role}`" for role in roles)
            raise Forbidden(f"this needs the role {names}; `{identity.name}` has {', '.join(identity.roles) or 'none'}")
        return identity

    return Depends(check)
