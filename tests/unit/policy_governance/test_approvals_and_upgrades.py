"""Approvals whose time is over, and a database of the first schema."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from acgs1.contracts.auth import Role
from acgs1.contracts.policy_governance import Approval, ApprovalAnswer, NewApproval
from acgs1.kit.db import Database, Store
from acgs1.services.policy_governance.errors import ApprovalClosed
from acgs1.services.policy_governance.repository import GovernanceRepository
from governance import AGENT, MIGRATIONS, Room, person, request


async def asked(room: Room, amount: int) -> Approval:
    wanted = request("pay_compensation", context={"amount": amount})
    denied = await room.point.decide(wanted, AGENT)
    assert denied.context["reason"] == "approval_required"
    decision_id = str(denied.context["evaluation_id"])
    return await room.approvals.ask(NewApproval(decision_id=decision_id, request=wanted), AGENT)


async def listed(room: Room, status: str | None) -> list[str]:
    page = await room.approvals.page(status, None, 10)
    assert all(status is None or approval.status == status for approval in page.items)
    return [approval.id for approval in page.items]


async def test_an_approval_whose_hour_is_over_is_listed_as_expired_and_as_nothing_else(room: Room):
    await room.in_force()
    operator = person(Role.OPERATOR)
    pending, granted, refused = [await asked(room, amount) for amount in (200, 210, 220)]
    await room.approvals.answer(granted.id, ApprovalAnswer(answer="granted", reason="fair"), operator)
    await room.approvals.answer(refused.id, ApprovalAnswer(answer="refused", reason="no"), operator)
    assert await listed(room, "expired") == []
    room.clock.advance(3600)
    late = await asked(room, 230)
    assert await listed(room, "expired") == [granted.id, pending.id]
    assert await listed(room, "pending") == [late.id]
    assert await listed(room, "granted") == []
    assert await listed(room, "refused") == [refused.id]
    assert (await room.approvals.approval(granted.id, operator)).status == "expired"
    assert len(await listed(room, None)) == 4
    with pytest.raises(ApprovalClosed, match="expired"):
        await room.approvals.answer(pending.id, ApprovalAnswer(answer="granted", reason="late"), operator)


async def test_an_approval_does_not_count_while_the_database_cannot_be_read(room: Room):
    await room.in_force()
    approval = await asked(room, 200)
    await room.approvals.answer(approval.id, ApprovalAnswer(answer="granted", reason="fair"), person(Role.OPERATOR))
    async with room.database.transaction() as session:
        await session.execute(sa.text("ALTER TABLE approvals RENAME TO approvals_away"))
    approved = request("pay_compensation", context={"amount": 200, "approval": {"id": approval.id}})
    answer = await room.point.decide(approved, AGENT)
    assert answer.decision is False
    assert "cannot be read" in str(answer.context["detail"])
    async with room.database.transaction() as session:
        await session.execute(sa.text("ALTER TABLE approvals_away RENAME TO approvals"))
    assert (await room.point.decide(approved, AGENT)).decision is True


async def test_a_database_of_the_first_schema_keeps_its_members_proposals_and_approvals(room: Room, tmp_path: Path):
    await room.in_force()
    approval = await asked(room, 200)
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'old.sqlite3'}")
    member = {"user_id": "usr_1", "wallet": "w1", "weight": 3, "index": 0}

    def first_schema(connection: sa.Connection) -> None:
        import importlib.util

        operations = Operations(MigrationContext.configure(connection))
        for number in ("0001_governance", "0002_following"):
            spec = importlib.util.spec_from_file_location(number, MIGRATIONS / f"{number}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            with Operations.context(operations.migration_context):
                module.upgrade()
            if number == "0001_governance":
                rows = [
                    ("INSERT INTO members VALUES ('usr_1', :d)", member),
                    ("INSERT INTO proposals VALUES ('prp_1', 'open', :d)", {"index": 4}),
                    (
                        f"INSERT INTO approvals VALUES ('{approval.id}', 'pending', :d)",
                        approval.model_dump(mode="json"),
                    ),
                ]
                for statement, document in rows:
                    connection.execute(sa.text(statement), {"d": json.dumps(document)})

    async with database.engine.execution_options(acgs_write=True).begin() as connection:
        await connection.run_sync(first_schema)
    async with Store(database, GovernanceRepository).reading() as records:
        kept = await records.member("usr_1")
        assert kept is not None
        assert (kept.wallet, kept.weight, kept.index, kept.own_wallet) == ("w1", 3, 0, False)
        assert await records.session.scalar(sa.text("SELECT ledger_index FROM proposals")) == 4
        (found,) = (await records.approvals("expired", None, 10, approval.expires_at))[0]
        assert found.id == approval.id
        assert (await records.position()).cursor is None, "its history is read from the first event on"
    await database.close()
