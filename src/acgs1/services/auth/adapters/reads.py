"""The hot reads of auth through its cache: the keys of tokens, whom tokens are issued to, and whether one is active (RFC 7662)."""

from typing import Any

from acgs1.contracts.auth import Holder, Introspection, Role
from acgs1.core.clock import Clock
from acgs1.kit.access import AUDIENCE, ISSUER, Authenticator, VerifiedToken
from acgs1.kit.errors import Unauthenticated
from acgs1.kit.signing import VerifyingKey
from acgs1.optimizer.web import Reads
from acgs1.services.auth.domain import AgentAccount
from acgs1.services.auth.service import AuthService

JWKS_SECONDS = 60.0
HOLDER_SECONDS = 30.0
"""A holder is forgotten when it is switched off; this bounds what an announcement that was lost can cost."""


class AuthReads:
    """Also a KeySource over the cached key set, and the Directory that tokens are issued by."""

    def __init__(self, service: AuthService, reads: Reads, clock: Clock) -> None:
        self._service = service
        self._reads = reads
        self._tokens = Authenticator(self, clock)
        reads.declare("jwks", dict[str, Any], ttl=JWKS_SECONDS)
        reads.declare("signing_kid", str, ttl=JWKS_SECONDS)
        # Not shared: the hash of a secret stays in this process.
        reads.declare("agent", AgentAccount, ttl=HOLDER_SECONDS, shared=False, cacheable=lambda agent: agent.active)
        # Kept only while it may act: a refusal is looked up anew each time.
        reads.declare("holder", Holder, ttl=HOLDER_SECONDS, cacheable=lambda holder: holder.active)

    async def jwks(self) -> dict[str, Any]:
        """The published keys (RFC 7517)."""

        async def published() -> dict[str, Any]:
            return {"keys": [key.jwk() for key in await self._service.published_keys()]}

        return await self._reads.get("jwks", {}, published)

    async def key(self, kid: str) -> VerifyingKey | None:
        jwk = next((jwk for jwk in (await self.jwks())["keys"] if jwk["kid"] == kid), None)
        return None if jwk is None else VerifyingKey.from_jwk(jwk)

    async def introspect(self, token: str) -> Introspection:
        """What the token says, if it is good and its holder may act now."""
        try:
            verified = await self._tokens.verify(token)
        except Unauthenticated:
            return Introspection(active=False)
        subject = verified.identity.id
        holder = await self._reads.get(
            "holder", {"id": subject}, lambda: self._service.holder(subject), tags=(_tag(subject),)
        )
        return _content(verified) if holder.active else Introspection(active=False)

    async def agent(self, agent_id: str) -> AgentAccount | None:
        return await self._reads.get(
            "agent", {"id": agent_id}, lambda: self._service.agent(agent_id), tags=(_tag(agent_id),)
        )

    async def signing_kid(self) -> str:
        return await self._reads.get("signing_kid", {}, self._service.signing_kid)

    async def forget_keys(self) -> None:
        """A key was rotated."""
        await self._reads.forget("jwks", "signing_kid")

    async def forget_holder(self, subject: str) -> None:
        """The account was switched on or off: its tokens are judged anew here on return, in other processes within 100 ms."""
        await self._reads.forget(tags=(_tag(subject),))


def _tag(subject: str) -> str:
    return f"holder:{subject}"


def _content(token: VerifiedToken) -> Introspection:
    identity = token.identity
    machine = Role.AGENT in identity.roles or Role.SERVICE in identity.roles
    return Introspection(
        active=True,
        scope=" ".join(identity.roles),
        client_id=identity.id if machine else None,
        username=None if machine else identity.name,
        token_type="Bearer",  # noqa: S106 - the scheme, not a secret
        exp=int(token.expires_at),
        iat=int(token.issued_at),
        sub=identity.id,
        aud=AUDIENCE,
        iss=ISSUER,
        jti=token.token_id,
    )
