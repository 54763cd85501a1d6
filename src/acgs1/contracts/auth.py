"""Boundary of the auth service (port 8000)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from acgs1.contracts.common import Message


class Role(StrEnum):
    """What a caller may be. People hold any of the first five; `agent` and `service` belong to machines."""

    ADMIN = "admin"
    LEGISLATOR = "legislator"
    MEMBER = "member"
    AUDITOR = "auditor"
    OPERATOR = "operator"
    AGENT = "agent"
    SERVICE = "service"


HumanRole = Literal[Role.ADMIN, Role.LEGISLATOR, Role.MEMBER, Role.AUDITOR, Role.OPERATOR]


class SignIn(Message):
    username: Annotated[str, Field(min_length=1, max_length=128)]
    password: SecretStr


class AccessToken(Message):
    """RFC 6749, section 5.1."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the scheme, not a secret
    expires_in: int
    scope: str = ""


class NewUser(Message):
    username: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._@-]{0,127}$")]
    password: Annotated[SecretStr, Field(min_length=12, max_length=1024)]
    roles: Annotated[tuple[HumanRole, ...], Field(min_length=1)]


class User(Message):
    id: str
    username: str
    roles: tuple[Role, ...]
    active: bool
    created_at: datetime


class NewAgent(Message):
    """An agent, registered by the person responsible for it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    description: Annotated[str, Field(max_length=1000)] = ""


class Agent(Message):
    id: str
    name: str
    description: str
    owner_id: str
    active: bool
    created_at: datetime


class AgentCredentials(Message):
    """Shown once, when the secret is made: it is stored only as a hash."""

    agent: Agent
    client_id: str
    client_secret: str


class PasswordChange(Message):
    current: SecretStr
    new: Annotated[SecretStr, Field(min_length=12, max_length=1024)]


class ActiveChange(Message):
    """Switch an account on or off. It gets no more tokens; those that it has are inactive to introspection at once, and end with their
    lifetime for a service that does not introspect."""

    active: bool


class SigningKey(Message):
    """A published verification key (JWK thumbprint as `kid`); `retired_at` is set once a newer key signs."""

    kid: str
    created_at: datetime
    retired_at: datetime | None


class Identity(Message):
    """Who a token speaks for."""

    id: str
    name: str
    roles: tuple[Role, ...]


class Holder(Message):
    """The account that a token speaks for: whether it may act now."""

    id: str
    active: bool


class Introspection(Message):
    """RFC 7662, section 2.2. Of a token that is not active nothing else is said."""

    active: bool
    scope: str | None = Field(default=None, description="the roles, separated by spaces")
    client_id: str | None = Field(default=None, description="for agents and services")
    username: str | None = Field(default=None, description="for people")
    token_type: Literal["Bearer"] | None = None
    exp: int | None = None
    iat: int | None = None
    sub: str | None = None
    aud: str | None = None
    iss: str | None = None
    jti: str | None = None
