"""All queries of auth."""

from datetime import datetime

from sqlalchemy import delete, func, select, update

from acgs1.contracts.auth import Role
from acgs1.kit.db import ids, page
from acgs1.kit.outbox import Recorder
from acgs1.services.auth.domain import AgentAccount, PublishedKey, UserAccount
from acgs1.services.auth.models import AgentRow, FailedAttemptRow, KeyRow, UserRow


class AuthRepository(Recorder):
    """The accounts, inside the transaction of its session."""

    async def add_user(self, user: UserAccount) -> None:
        self.session.add(
            UserRow(
                id=user.id,
                username=user.username,
                password_hash=user.password_hash,
                roles=list(user.roles),
                active=user.active,
                created_at=user.created_at,
            )
        )
        await self.session.flush()

    async def user(self, user_id: str) -> UserAccount | None:
        return _user(await self.session.get(UserRow, user_id))

    async def user_named(self, username: str) -> UserAccount | None:
        return _user(await self.session.scalar(select(UserRow).where(UserRow.username == username)))

    async def users(self, cursor: str | None, limit: int) -> tuple[list[UserAccount], str | None]:
        rows, following = await page(self.session, select(UserRow), UserRow.id, cursor, limit, ids("usr"))
        return [user for row in rows if (user := _user(row))], following

    async def count_users(self, role: Role | None = None) -> int:
        """Active users, with `role` when given. (There are few; roles are matched here, not in dialects of JSON.)"""
        rows = await self.session.execute(select(UserRow.roles).where(UserRow.active))
        return sum(role is None or role in roles for (roles,) in rows)

    async def set_user_active(self, user_id: str, active: bool) -> None:
        await self.session.execute(update(UserRow).where(UserRow.id == user_id).values(active=active))

    async def set_password(self, user_id: str, password_hash: str) -> None:
        await self.session.execute(update(UserRow).where(UserRow.id == user_id).values(password_hash=password_hash))

    async def add_agent(self, agent: AgentAccount) -> None:
        self.session.add(
            AgentRow(
                id=agent.id,
                name=agent.name,
                description=agent.description,
                owner_id=agent.owner_id,
                secret_hash=agent.secret_hash,
                active=agent.active,
                created_at=agent.created_at,
            )
        )
        await self.session.flush()

    async def agent(self, agent_id: str) -> AgentAccount | None:
        return _agent(await self.session.get(AgentRow, agent_id))

    async def agent_named(self, name: str) -> AgentAccount | None:
        return _agent(await self.session.scalar(select(AgentRow).where(AgentRow.name == name)))

    async def agents(self, cursor: str | None, limit: int) -> tuple[list[AgentAccount], str | None]:
        rows, following = await page(self.session, select(AgentRow), AgentRow.id, cursor, limit, ids("agt"))
        return [agent for row in rows if (agent := _agent(row))], following

    async def set_agent_active(self, agent_id: str, active: bool) -> None:
        await self.session.execute(update(AgentRow).where(AgentRow.id == agent_id).values(active=active))

    async def set_agent_secret(self, agent_id: str, secret_hash: str) -> None:
        await self.session.execute(update(AgentRow).where(AgentRow.id == agent_id).values(secret_hash=secret_hash))

    async def failed_attempts(self, account: str, since: datetime) -> int:
        count = select(func.count()).select_from(FailedAttemptRow)
        return (
            await self.session.scalar(count.where(FailedAttemptRow.account == account, FailedAttemptRow.at > since))
            or 0
        )

    async def add_failed_attempt(self, account: str, at: datetime) -> None:
        self.session.add(FailedAttemptRow(account=account, at=at))

    async def clear_failed_attempts(self, account: str, before: datetime) -> None:
        await self.session.execute(
            delete(FailedAttemptRow).where(FailedAttemptRow.account == account, FailedAttemptRow.at <= before)
        )

    async def keys(self) -> list[PublishedKey]:
        rows = await self.session.scalars(select(KeyRow).order_by(KeyRow.created_at))
        return [PublishedKey(row.kid, row.created_at, row.retired_at) for row in rows]

    async def add_key(self, key: PublishedKey) -> None:
        self.session.add(KeyRow(kid=key.kid, created_at=key.created_at, retired_at=key.retired_at))

    async def retire_key(self, kid: str, at: datetime) -> None:
        await self.session.execute(update(KeyRow).where(KeyRow.kid == kid).values(retired_at=at))


def _user(row: UserRow | None) -> UserAccount | None:
    if row is None:
        return None
    roles = tuple(Role(role) for role in row.roles)
    return UserAccount(row.id, row.username, row.password_hash, roles, row.active, row.created_at)


def _agent(row: AgentRow | None) -> AgentAccount | None:
    if row is None:
        return None
    return AgentAccount(row.id, row.name, row.description, row.owner_id, row.secret_hash, row.active, row.created_at)
