"""Routes of auth."""

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request, Response

from acgs1.contracts.auth import (
    AccessToken,
    ActiveChange,
    Agent,
    AgentCredentials,
    Identity,
    Introspection,
    NewAgent,
    NewUser,
    PasswordChange,
    Role,
    SignIn,
    SigningKey,
    User,
)
from acgs1.contracts.common import Page
from acgs1.core.errors import DomainError
from acgs1.kit.access import caller, require
from acgs1.kit.idempotency import SecretRoute
from acgs1.kit.web import api_router
from acgs1.services.auth.adapters.reads import AuthReads
from acgs1.services.auth.errors import (
    AccountNotFound,
    InvalidCredentials,
    LastAdministrator,
    NameTaken,
    TooManyAttempts,
    UnsupportedGrant,
)
from acgs1.services.auth.service import AuthService

STATUSES: dict[type[DomainError], int] = {
    InvalidCredentials: 401,
    TooManyAttempts: 429,
    UnsupportedGrant: 400,
    NameTaken: 409,
    AccountNotFound: 404,
    LastAdministrator: 409,
}
PUBLIC = frozenset(
    {"/oauth2/token", "/api/v1/sessions", "/.well-known/jwks.json", "/.well-known/oauth-authorization-server"}
)

router = api_router()
# Answers with a secret or a token in them are never kept for a repeated request.
secret = api_router(SecretRoute)
standard = APIRouter()


async def _service(request: Request) -> AuthService:
    return request.app.state.service


async def _reads(request: Request) -> AuthReads:
    return request.app.state.auth_reads


Service = Annotated[AuthService, Depends(_service)]
HotReads = Annotated[AuthReads, Depends(_reads)]
Caller = Annotated[Identity, Depends(caller)]
Admin = Annotated[Identity, require(Role.ADMIN)]
Manager = Annotated[Identity, require(Role.ADMIN, Role.OPERATOR)]
Limit = Annotated[int, Query(ge=1, le=200)]


@standard.post("/api/v1/sessions", summary="Sign a person in", tags=["tokens"])
async def _sign_in(body: SignIn, service: Service) -> AccessToken:
    return await service.sign_in(body)


@router.get("/me", summary="Who the token speaks for", tags=["tokens"])
async def _me(identity: Caller) -> Identity:
    return identity


@router.post("/me/password", status_code=204, summary="Change one's own password", tags=["people"])
async def _password(body: PasswordChange, service: Service, identity: Caller) -> Response:
    await service.change_password(body, identity)
    return Response(status_code=204)


@router.post("/users", status_code=201, summary="Create a person's account", tags=["people"])
async def _create_user(body: NewUser, service: Service, identity: Admin) -> User:
    return await service.create_user(body, identity)


@router.get("/users", summary="People, newest first", tags=["people"])
async def _users(service: Service, _: Manager, cursor: str | None = None, limit: Limit = 50) -> Page[User]:
    return await service.users(cursor, limit)


@router.get("/users/{user_id}", summary="One person", tags=["people"])
async def _user(
    user_id: str, service: Service, _: Annotated[Identity, require(Role.ADMIN, Role.OPERATOR, Role.SERVICE)]
) -> User:
    return await service.user(user_id)


@router.patch("/users/{user_id}", summary="Switch a person's account on or off", tags=["people"])
async def _set_user_active(
    user_id: str, body: ActiveChange, service: Service, reads: HotReads, identity: Admin
) -> User:
    user = await service.set_user_active(user_id, body.active, identity)
    await reads.forget_holder(user_id)
    return user


@secret.post("/agents", status_code=201, summary="Register an agent; its secret is shown once", tags=["agents"])
async def _register_agent(body: NewAgent, service: Service, identity: Manager) -> AgentCredentials:
    return await service.register_agent(body, identity)


@secret.post("/agents/{agent_id}/secret", summary="Give an agent a new secret, which is shown once", tags=["agents"])
async def _renew_secret(agent_id: str, service: Service, reads: HotReads, identity: Manager) -> AgentCredentials:
    renewed = await service.renew_agent_secret(agent_id, identity)
    await reads.forget_holder(agent_id)
    return renewed


@router.get("/agents", summary="Agents, newest first", tags=["agents"])
async def _agents(service: Service, _: Manager, cursor: str | None = None, limit: Limit = 50) -> Page[Agent]:
    return await service.agents(cursor, limit)


@router.patch("/agents/{agent_id}", summary="Switch an agent on or off", tags=["agents"])
async def _set_agent_active(
    agent_id: str, body: ActiveChange, service: Service, reads: HotReads, identity: Manager
) -> Agent:
    agent = await service.set_agent_active(agent_id, body.active, identity)
    await reads.forget_holder(agent_id)
    return agent


@router.post("/keys/rotation", status_code=201, summary="Sign tokens with a new key from now on", tags=["keys"])
async def _rotate(service: Service, reads: HotReads, identity: Admin) -> SigningKey:
    key = await service.rotate_key(identity)
    await reads.forget_keys()
    return key


@standard.post("/oauth2/token", summary="Client credentials (RFC 6749, section 4.4)", tags=["tokens"])
async def _token(
    request: Request,
    service: Service,
    reads: HotReads,
    grant_type: Annotated[str, Form(max_length=100)],
    client_id: Annotated[str | None, Form(max_length=128)] = None,
    client_secret: Annotated[str | None, Form(max_length=256)] = None,
) -> AccessToken:
    basic = _basic(request.headers.get("Authorization"))
    name, secret = basic or (client_id or "", client_secret or "")
    return await service.client_credentials(grant_type, name, secret, reads)


@standard.post(
    "/oauth2/introspect",
    response_model_exclude_none=True,
    summary="Whether a token is active, and what it says (RFC 7662)",
    tags=["tokens"],
)
async def _introspect(
    reads: HotReads,
    _: Annotated[Identity, require(Role.ADMIN, Role.SERVICE)],
    token: Annotated[str, Form()],
    token_type_hint: Annotated[str | None, Form(description="not needed: there are access tokens only")] = None,  # noqa: ARG001
) -> Introspection:
    return await reads.introspect(token)


@standard.get("/.well-known/jwks.json", summary="Keys that verify tokens (RFC 7517)", tags=["keys"])
async def _jwks(reads: HotReads) -> dict[str, Any]:
    return await reads.jwks()


@standard.get("/.well-known/oauth-authorization-server", summary="Server metadata (RFC 8414)", tags=["keys"])
async def _metadata(request: Request) -> dict[str, Any]:
    base = str(request.base_url).rstrip("/")
    return {
        "issuer": base,
        "token_endpoint": f"{base}/oauth2/token",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "introspection_endpoint": f"{base}/oauth2/introspect",
        "introspection_endpoint_auth_methods_supported": ["Bearer"],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "response_types_supported": [],
    }


def _basic(header: str | None) -> tuple[str, str] | None:
    """Client id and secret from HTTP Basic (RFC 7617), or None."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidCredentials("the Basic credentials are not base64 of `id:secret`") from None
    if "\0" in name:
        raise InvalidCredentials("U+0000 is in no id")
    return name, secret
