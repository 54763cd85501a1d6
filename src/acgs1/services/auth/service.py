"""Use cases: signing in, accounts, tokens, keys."""

import hmac
import secrets
from collections.abc import Callable
from datetime import datetime

from pydantic import JsonValue

from acgs1.contracts.auth import (
    AccessToken,
    Agent,
    AgentCredentials,
    Holder,
    Identity,
    NewAgent,
    NewUser,
    PasswordChange,
    Role,
    SignIn,
    SigningKey,
    User,
)
from acgs1.contracts.common import Page
from acgs1.contracts.events import Event, new_event
from acgs1.core.clock import Clock
from acgs1.core.hashing import text_hash
from acgs1.core.ids import new_id
from acgs1.kit.signing import VerifyingKey
from acgs1.services.auth.domain import (
    ATTEMPT_WINDOW,
    MAX_ATTEMPTS,
    TOKEN_LIFETIME,
    AgentAccount,
    PublishedKey,
    UserAccount,
)
from acgs1.services.auth.errors import (
    AccountNotFound,
    InvalidCredentials,
    LastAdministrator,
    NameTaken,
    TooManyAttempts,
    UnsupportedGrant,
)
from acgs1.services.auth.ports import Accounts, Directory, Passwords, Records, TokenSigner

_WRONG = "check the name and the secret"


class AuthService:
    """All of auth. `service_secret_hashes` maps each part of the system to the SHA-256 of its client secret."""

    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        signer: TokenSigner,
        clock: Clock,
        service_secret_hashes: dict[str, str],
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._signer = signer
        self._clock = clock
        self._services = service_secret_hashes

    # --- tokens ---

    async def sign_in(self, request: SignIn) -> AccessToken:
        """A person's token; raises InvalidCredentials, or TooManyAttempts after ten failures in fifteen minutes."""
        now = self._clock.now()
        async with self._accounts.reading() as records:
            user = await records.user_named(request.username)
            failed = await records.failed_attempts(request.username, now - ATTEMPT_WINDOW)
            kid = _signing_key(await records.keys()).kid
        if failed >= MAX_ATTEMPTS:
            raise TooManyAttempts(f"wait {int(ATTEMPT_WINDOW.total_seconds() // 60)} minutes, or ask an administrator")
        matches = await self._passwords.matches(user and user.password_hash, request.password.get_secret_value())
        if user is None or not matches or not user.active:
            async with self._accounts.transaction() as records:
                await records.add_failed_attempt(request.username, now)
            raise InvalidCredentials(_WRONG)
        if failed:
            async with self._accounts.transaction() as records:
                await records.clear_failed_attempts(request.username, now)
        return self._issue(Identity(id=user.id, name=user.username, roles=user.roles), kid)

    async def client_credentials(
        self, grant_type: str, client_id: str, client_secret: str, directory: Directory
    ) -> AccessToken:
        """An agent's or a service's token (RFC 6749, section 4.4)."""
        if grant_type != "client_credentials":
            raise UnsupportedGrant(f"`{grant_type}` is not offered here; use `client_credentials`")
        given = text_hash(client_secret)
        if (expected := self._services.get(client_id)) is not None:
            if not hmac.compare_digest(expected, given):
                raise InvalidCredentials(_WRONG)
            identity = Identity(id=client_id, name=client_id, roles=(Role.SERVICE,))
            return self._issue(identity, await directory.signing_kid())
        agent = await directory.agent(client_id)
        if agent is None or not agent.active or not hmac.compare_digest(agent.secret_hash, given):
            raise InvalidCredentials(_WRONG)
        identity = Identity(id=agent.id, name=agent.name, roles=(Role.AGENT,))
        return self._issue(identity, await directory.signing_kid())

    async def holder(self, subject: str) -> Holder:
        """Whether the person, agent or service that a token names may act now; one that does not exist may not."""
        if subject in self._services:
            return Holder(id=subject, active=True)
        async with self._accounts.reading() as records:
            account = await records.user(subject) or await records.agent(subject)
        return Holder(id=subject, active=account is not None and account.active)

    def _issue(self, identity: Identity, kid: str) -> AccessToken:
        now = self._clock.now()
        token = self._signer.sign(kid, identity, now, now + TOKEN_LIFETIME)
        return AccessToken(access_token=token, expires_in=int(TOKEN_LIFETIME.total_seconds()))

    # --- people ---

    async def bootstrap(self, first_password: Callable[[], str]) -> bool:
        """Make the first signing key and the administrator `admin`, unless they exist. True when the administrator was made; only then
        is `first_password` asked for one."""
        async with self._accounts.reading() as records:
            has_users = await records.count_users() > 0
            if has_users and await records.keys():
                return False
        password_hash = None if has_users else await self._passwords.hash(first_password())
        now = self._clock.now()
        async with self._accounts.transaction() as records:
            if not await records.keys():
                await records.add_key(PublishedKey(self._signer.create(), now, None))
            if password_hash is None or await records.count_users():
                return False
            user = UserAccount(new_id("usr"), "admin", password_hash, (Role.ADMIN,), active=True, created_at=now)
            await records.add_user(user)
            await records.record(_event("user.created", "bootstrap", user.id, now, roles=[Role.ADMIN]))
        return True

    async def create_user(self, request: NewUser, by: Identity) -> User:
        password_hash = await self._passwords.hash(request.password.get_secret_value())
        now = self._clock.now()
        user = UserAccount(
            new_id("usr"), request.username, password_hash, tuple(request.roles), active=True, created_at=now
        )
        async with self._accounts.transaction() as records:
            if await records.user_named(request.username):
                raise NameTaken(f"`{request.username}` is in use; choose another name")
            await records.add_user(user)
            await records.record(_event("user.created", by.id, user.id, now, roles=list(request.roles)))
        return _user(user)

    async def user(self, user_id: str) -> User:
        async with self._accounts.reading() as records:
            return _user(await _existing_user(records, user_id))

    async def users(self, cursor: str | None, limit: int) -> Page[User]:
        async with self._accounts.reading() as records:
            rows, following = await records.users(cursor, limit)
        return Page[User](items=[_user(row) for row in rows], next_cursor=following)

    async def set_user_active(self, user_id: str, active: bool, by: Identity) -> User:
        async with self._accounts.transaction() as records:
            user = await _existing_user(records, user_id)
            if not active and Role.ADMIN in user.roles and user.active and await records.count_users(Role.ADMIN) == 1:
                raise LastAdministrator("make another administrator first")
            await records.set_user_active(user_id, active)
            event = "user.activated" if active else "user.deactivated"
            await records.record(_event(event, by.id, user_id, self._clock.now()))
            return _user(await _existing_user(records, user_id))

    async def change_password(self, request: PasswordChange, by: Identity) -> None:
        async with self._accounts.reading() as records:
            user = await _existing_user(records, by.id)
        if not await self._passwords.matches(user.password_hash, request.current.get_secret_value()):
            raise InvalidCredentials("`current` is not the present password")
        password_hash = await self._passwords.hash(request.new.get_secret_value())
        async with self._accounts.transaction() as records:
            await records.set_password(user.id, password_hash)
            await records.record(_event("user.password_changed", by.id, user.id, self._clock.now()))

    # --- agents ---

    async def register_agent(self, request: NewAgent, by: Identity) -> AgentCredentials:
        """The agent and its secret, which is shown this once."""
        secret = secrets.token_urlsafe(32)
        now = self._clock.now()
        agent = AgentAccount(
            new_id("agt"), request.name, request.description, by.id, text_hash(secret), active=True, created_at=now
        )
        async with self._accounts.transaction() as records:
            await _existing_user(records, by.id)
            if await records.agent_named(request.name):
                raise NameTaken(f"`{request.name}` is in use; choose another name")
            await records.add_agent(agent)
            await records.record(_event("agent.registered", by.id, agent.id, now, name=agent.name))
        return AgentCredentials(agent=_agent(agent), client_id=agent.id, client_secret=secret)

    async def agent(self, agent_id: str) -> AgentAccount | None:
        async with self._accounts.reading() as records:
            return await records.agent(agent_id)

    async def renew_agent_secret(self, agent_id: str, by: Identity) -> AgentCredentials:
        """Another secret, shown this once; the old one gets no more tokens. Raises AccountNotFound."""
        secret = secrets.token_urlsafe(32)
        async with self._accounts.transaction() as records:
            agent = await records.agent(agent_id)
            if agent is None:
                raise AccountNotFound(f"`{agent_id}` is not an agent here")
            await records.set_agent_secret(agent_id, text_hash(secret))
            await records.record(_event("agent.secret_renewed", by.id, agent_id, self._clock.now()))
        return AgentCredentials(agent=_agent(agent), client_id=agent.id, client_secret=secret)

    async def agents(self, cursor: str | None, limit: int) -> Page[Agent]:
        async with self._accounts.reading() as records:
            rows, following = await records.agents(cursor, limit)
        return Page[Agent](items=[_agent(row) for row in rows], next_cursor=following)

    async def set_agent_active(self, agent_id: str, active: bool, by: Identity) -> Agent:
        async with self._accounts.transaction() as records:
            if await records.agent(agent_id) is None:
                raise AccountNotFound(f"`{agent_id}` is not an agent here")
            await records.set_agent_active(agent_id, active)
            event = "agent.activated" if active else "agent.deactivated"
            await records.record(_event(event, by.id, agent_id, self._clock.now()))
            agent = await records.agent(agent_id)
            assert agent is not None  # noqa: S101 - INVARIANT: read in the transaction that just updated it
            return _agent(agent)

    # --- keys ---

    async def rotate_key(self, by: Identity) -> SigningKey:
        """Sign with a new key from now on; the old one stays published for an hour, longer than its tokens live."""
        now = self._clock.now()
        kid = self._signer.create()
        async with self._accounts.transaction() as records:
            await records.retire_key(_signing_key(await records.keys()).kid, now)
            await records.add_key(PublishedKey(kid, now, None))
            await records.record(_event("key.rotated", by.id, kid, now))
        return SigningKey(kid=kid, created_at=now, retired_at=None)

    async def signing_kid(self) -> str:
        async with self._accounts.reading() as records:
            return _signing_key(await records.keys()).kid

    async def published_keys(self) -> list[VerifyingKey]:
        now = self._clock.now()
        async with self._accounts.reading() as records:
            keys = [key for key in await records.keys() if key.is_published(now)]
        return [public for key in keys if (public := self._signer.public(key.kid)) is not None]

    async def key(self, kid: str) -> VerifyingKey | None:
        """For verifying tokens in this process."""
        return next((key for key in await self.published_keys() if key.key_id == kid), None)


def _signing_key(keys: list[PublishedKey]) -> PublishedKey:
    return max((key for key in keys if key.retired_at is None), key=lambda key: key.created_at)


async def _existing_user(records: Records, user_id: str) -> UserAccount:
    user = await records.user(user_id)
    if user is None:
        raise AccountNotFound(f"`{user_id}` is not a user here")
    return user


def _event(kind: str, actor: str, subject: str, at: datetime, **data: JsonValue) -> Event:
    return new_event("auth", kind, at, actor=actor, subject=subject, **data)


def _user(user: UserAccount) -> User:
    return User(id=user.id, username=user.username, roles=user.roles, active=user.active, created_at=user.created_at)


def _agent(agent: AgentAccount) -> Agent:
    return Agent(
        id=agent.id,
        name=agent.name,
        description=agent.description,
        owner_id=agent.owner_id,
        active=agent.active,
        created_at=agent.created_at,
    )
