"""One suite that SQLite and PostgreSQL pass alike: migrations, repositories, transactions, idempotency, outbox."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

import acgs1
from acgs1.contracts.auth import Role
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Event, new_event
from acgs1.contracts.policy_governance import Approval, Ballot, Bundle, Emergency, Member, Proposal
from acgs1.contracts.topology import SERVICES
from acgs1.core.clock import ManualClock
from acgs1.core.ids import new_id
from acgs1.kit.db import Database, Store, joined
from acgs1.kit.errors import IdempotencyInProgress, InvalidCursor, OutcomeUnknown
from acgs1.kit.idempotency import Claim, IdempotencyRecords, Kept
from acgs1.kit.outbox import OutboxRelay
from acgs1.services.auth.domain import AgentAccount, PublishedKey, UserAccount
from acgs1.services.auth.repository import AuthRepository
from acgs1.services.constitutional_ai.domain import StoredConstitution
from acgs1.services.constitutional_ai.repository import ConstitutionRepository
from acgs1.services.policy_governance import jobs
from acgs1.services.policy_governance.domain import Position
from acgs1.services.policy_governance.repository import GovernanceRepository
from governance import VerifierClient, airline, airline_policies, decision

OpenDatabase = Callable[[str], Database]
SERVICES_FOLDER = Path(acgs1.__file__).parent / "services"
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def migrations(service: str) -> Path:
    return SERVICES_FOLDER / service / "migrations"


async def opened(open_database: OpenDatabase, service: str) -> Database:
    database = open_database(service)
    await database.migrate(migrations(service))
    return database


# --- migrations and transactions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [part.name for part in SERVICES])
async def test_the_migrations_run_and_running_them_again_changes_nothing(open_database: OpenDatabase, service: str):
    def tables(connection: sa.Connection) -> set[str]:
        return set(sa.inspect(connection).get_table_names())

    database = await opened(open_database, service)
    async with database.engine.connect() as connection:
        before = await connection.run_sync(tables)
    assert {"outbox", "idempotency", "alembic_version"} < before
    await database.migrate(migrations(service))
    async with database.engine.connect() as connection:
        assert await connection.run_sync(tables) == before
        versions = set((await connection.execute(sa.text("SELECT version_num FROM alembic_version"))).scalars())
    assert len(versions) == 2, "the platform's head and the service's"


@pytest.mark.parametrize(
    ("service", "models"),
    [(name, f"acgs1.services.{name}.models") for name in ("auth", "constitutional_ai", "policy_governance")],
)
async def test_the_migrated_tables_are_those_of_the_models(open_database: OpenDatabase, service: str, models: str):
    import importlib

    declared = importlib.import_module(models).Base.metadata.tables
    database = await opened(open_database, service)

    def columns(connection: sa.Connection) -> dict[str, dict[str, bool]]:
        inspector = sa.inspect(connection)
        return {name: {c["name"]: c["nullable"] for c in inspector.get_columns(name)} for name in declared}

    async with database.engine.connect() as connection:
        found = await connection.run_sync(columns)
    assert found == {name: {c.name: bool(c.nullable) for c in table.columns} for name, table in declared.items()}


async def test_two_processes_of_a_service_may_start_at_once(open_database: OpenDatabase):
    databases = [open_database("auth") for _ in range(3)]
    await asyncio.gather(*(database.migrate(migrations("auth")) for database in databases))
    async with Store(databases[0], AuthRepository).reading() as records:
        assert await records.count_users() == 0


async def test_a_transaction_that_fails_leaves_nothing(open_database: OpenDatabase):
    store = Store(await opened(open_database, "auth"), AuthRepository)
    account = user("ada")
    with pytest.raises(IntegrityError):
        await _add_twice(store, account)
    async with store.reading() as records:
        assert await records.user(account.id) is None
        assert await records.session.scalar(sa.text("SELECT count(*) FROM outbox")) == 0


async def _add_twice(store: Store[AuthRepository], account: UserAccount) -> None:
    async with store.transaction() as records:
        await records.add_user(account)
        await records.record(new_event("auth", "user.created", NOW, actor="a", subject=account.id))
        await records.add_user(user("ada"))


async def test_concurrent_writers_queue_up_and_none_is_lost(open_database: OpenDatabase):
    store = Store(await opened(open_database, "auth"), AuthRepository)

    async def add(number: int) -> None:
        async with store.transaction() as records:
            await records.add_user(user(f"user-{number}"))

    await asyncio.gather(*(add(n) for n in range(20)))
    async with store.reading() as records:
        assert await records.count_users() == 20


# --- auth ------------------------------------------------------------------------------------------------------------


def user(name: str, *roles: Role, active: bool = True) -> UserAccount:
    return UserAccount(new_id("usr"), name, "hash", roles or (Role.MEMBER,), active=active, created_at=NOW)


async def test_auth_keeps_accounts_attempts_and_keys(open_database: OpenDatabase):
    store = Store(await opened(open_database, "auth"), AuthRepository)
    ada, bob = user("ada", Role.ADMIN, Role.MEMBER), user("bob")
    agent = AgentAccount(new_id("agt"), "clerk", "d", ada.id, "s" * 64, active=True, created_at=NOW)
    async with store.transaction() as records:
        await records.add_user(ada)
        await records.add_user(bob)
        await records.add_agent(agent)
        for minutes in (0, 5, 10):
            await records.add_failed_attempt("ada", NOW + timedelta(minutes=minutes))
        await records.add_failed_attempt("bob", NOW)
        await records.add_key(PublishedKey("one", NOW, None))
        await records.add_key(PublishedKey("two", NOW + timedelta(seconds=1), None))
        await records.retire_key("one", NOW + timedelta(seconds=1))
    async with store.transaction() as records:
        assert await records.user(ada.id) == ada, "with its instant to the microsecond"
        assert await records.user_named("bob") == bob
        assert await records.user_named("Bob") is None
        assert (await records.count_users(), await records.count_users(Role.ADMIN)) == (2, 1)
        assert await records.agent(agent.id) == await records.agent_named("clerk") == agent
        assert await records.failed_attempts("ada", NOW + timedelta(minutes=1)) == 2
        await records.clear_failed_attempts("ada", NOW + timedelta(minutes=5))
        assert await records.failed_attempts("ada", NOW - timedelta(days=1)) == 1
        keys = await records.keys()
        assert [(k.kid, k.retired_at is None) for k in keys] == [("one", False), ("two", True)]
        await records.set_user_active(ada.id, active=False)
        await records.set_password(bob.id, "other")
        await records.set_agent_active(agent.id, active=False)
    async with store.reading() as records:
        assert (await records.count_users(Role.ADMIN), await records.count_users()) == (0, 1)
        found = await records.user(bob.id)
        assert found is not None
        assert found.password_hash == "other"


async def test_lists_are_paged_newest_first_without_gap_or_repeat(open_database: OpenDatabase):
    store = Store(await opened(open_database, "auth"), AuthRepository)
    made = [user(f"user-{n}") for n in range(7)]
    async with store.transaction() as records:
        for account in made:
            await records.add_user(account)
    seen: list[UserAccount] = []
    cursor: str | None = None
    async with store.reading() as records:
        while True:
            rows, cursor = await records.users(cursor, 3)
            seen += rows
            if cursor is None:
                break
        assert seen == made[::-1]
        with pytest.raises(InvalidCursor):
            await records.users("' OR 1=1 --", 3)


# --- constitutional_ai -----------------------------------------------------------------------------------------------


def stored(constitution: Constitution) -> StoredConstitution:
    return StoredConstitution(constitution.hash, constitution, "draft", None, "usr_1", NOW, None, None, None)


async def test_constitutional_ai_keeps_one_constitution_in_force(open_database: OpenDatabase):
    store = Store(await opened(open_database, "constitutional_ai"), ConstitutionRepository)
    first, second = airline(), airline().model_copy(update={"name": "Second — zweite, 二"})
    async with store.transaction() as records:
        await records.add(stored(first))
        await records.add(stored(second))
        await records.set_status(first.hash, "adopting")
    async with store.transaction() as records:
        adopting = await records.with_status("adopting")
        assert adopting is not None
        assert adopting.constitution == first
        await records.bring_into_force(first.hash, 1, NOW, "signature")
    async with store.transaction() as records:
        await records.bring_into_force(second.hash, 2, NOW, "signature")
        await records.set_status(first.hash, "draft", refusal="because")
        await records.set_status(first.hash, "superseded")
    async with store.reading() as records:
        rows, _ = await records.page(None, 10)
        assert [(r.constitution.name, r.status, r.version) for r in rows] == [
            (second.name, "in_force", 2),
            (first.name, "superseded", 1),
        ]
        assert rows[0].in_force_at == NOW
        assert rows[0].hash == rows[0].constitution.hash, "the document is kept to the byte that its hash is over"


# --- policy_governance -----------------------------------------------------------------------------------------------


def bundle_of(name: str) -> Bundle:
    return Bundle(
        hash=(name * 64)[:64],
        name=name,
        status="built",
        policies=airline_policies(),
        schema_text=airline().schema_text,
        guards="",
        guard_principles={"guard:x:0": "x"},
        constitution_hash=airline().hash,
        certificate_hash="c" * 64,
        signature="s",
        created_at=NOW,
        activated_at=None,
    )


async def test_policy_governance_keeps_members_bundles_proposals_and_ballots(open_database: OpenDatabase):
    store = Store(await opened(open_database, "policy_governance"), GovernanceRepository)
    member = Member(user_id=new_id("usr"), wallet="w", weight=2**53 - 1, index=0)
    one, two = bundle_of("a"), bundle_of("b")
    certificate = VerifierClient().certificate(airline_policies(), airline())
    proposal = Proposal(
        id=new_id("prp"),
        title="t",
        bundle_hash=one.hash,
        certificate_hash=one.certificate_hash,
        status="submitting",
        index=None,
        address=None,
        for_weight=0,
        against_weight=0,
        abstain_weight=0,
        closes_at=None,
        voting_seconds=60,
        proposed_by=member.user_id,
        created_at=NOW,
    )
    action = Emergency(index=0, kind="freeze_activation", target=None, status="active", expires_at=NOW)
    async with store.transaction() as records:
        await records.link_wallet(member.wallet, member.user_id, own=False)
        assert await records.member(member.user_id) is None, "a wallet alone is no membership"
        await records.keep_member(member.wallet, member.index, member.weight)
        await records.keep_bundle(one, certificate)
        await records.keep_bundle(two, certificate)
        await records.keep_proposal(proposal)
        ballot = Ballot(proposal_id=proposal.id, choice="for", weight=1, signature="s", wallet="w")
        await records.keep_ballot(ballot, "w")
        await records.keep_position(Position("1:s", "a" * 64, 2, "s", NOW))
        await records.keep_emergency(action)
    async with store.transaction() as records:
        assert await records.member(member.user_id) == member
        assert await records.members(None, 10) == ([member], None)
        assert await records.bundle(one.hash) == (one, certificate)
        assert await records.active_bundle() is None
        await records.set_bundle_status(one.hash, "active", NOW)
        assert await records.ballot(proposal.id, "w") == ballot
        assert await records.ballot(proposal.id, "another") is None
        assert await records.ballot_page(proposal.id, None, 10) == ([ballot], None)
        assert await records.position() == Position("1:s", "a" * 64, 2, "s", NOW)
        assert await records.emergencies(acting=True) == [action]
        assert await records.emergency_page(None, 10) == ([action], None)
        await records.keep_emergency(action.model_copy(update={"status": "ended"}))
        assert await records.emergencies(acting=True) == []
        assert await records.proposals_with("submitting", "open") == [proposal]
        await records.keep_proposal(proposal.model_copy(update={"status": "enacted", "index": 7}))
        assert await records.proposals_with("submitting", "open") == []
        assert await records.proposal_at(7) is not None
    async with store.reading() as records:
        active = await records.active_bundle()
        assert active is not None
        assert (active[0].hash, active[0].activated_at) == (one.hash, NOW)
        assert await records.active() == (one.hash, one.constitution_hash)
        assert [b.hash for b in (await records.bundles(None, 10))[0]] == [two.hash, one.hash]
        assert (await records.proposals(None, 10))[0][0].status == "enacted"


async def test_members_ballots_and_emergencies_are_paged_without_gap_or_repeat(open_database: OpenDatabase):
    store = Store(await opened(open_database, "policy_governance"), GovernanceRepository)
    wallets = [c * 32 for c in "123ABCabc"]
    async with store.transaction() as records:
        for index, wallet in enumerate(wallets):
            await records.keep_member(wallet, index, 1)
            await records.keep_ballot(
                Ballot(proposal_id="prp_1", choice="for", weight=1, signature="s", wallet=wallet), wallet
            )
            action = Emergency(index=index, kind="freeze_activation", target=None, status="ended", expires_at=NOW)
            await records.keep_emergency(action)

    async def walk(read: Callable[[str | None], Awaitable[tuple[list[Any], str | None]]]) -> list[Any]:
        found, cursor = await read(None)
        while cursor is not None:
            rows, cursor = await read(cursor)
            found += rows
        return found

    async with store.reading() as records:
        members = await walk(lambda cursor: records.members(cursor, 4))
        ballots = await walk(lambda cursor: records.ballot_page("prp_1", cursor, 4))
        actions = await walk(lambda cursor: records.emergency_page(cursor, 4))
        assert sorted(m.wallet for m in members) == sorted(b.wallet for b in ballots) == sorted(wallets)
        assert [a.index for a in actions] == list(range(len(wallets)))[::-1]
        for cursor in ("zzz", "0" * 40, new_id("usr")):
            with pytest.raises(InvalidCursor):
                await records.members(cursor, 4)


async def test_decisions_are_kept_once_and_come_back_as_they_were(open_database: OpenDatabase):
    database = await opened(open_database, "policy_governance")
    store = Store(database, GovernanceRepository)
    made = [decision(n) for n in range(5)]
    await jobs.keep_decisions(store, made[:3])
    await jobs.keep_decisions(store, made)
    async with store.reading() as records:
        assert [await records.decision(d.record.id) for d in made] == made
        rows, cursor = await records.decisions(None, 2)
        assert ([r.record.id for r in rows], cursor) == ([made[4].record.id, made[3].record.id], made[3].record.id)
        assert await records.session.scalar(sa.text("SELECT count(*) FROM outbox")) == 5


async def test_an_approval_is_used_by_exactly_one_of_many_at_once(open_database: OpenDatabase):
    database = await opened(open_database, "policy_governance")
    store = Store(database, GovernanceRepository)
    asked = decision()
    approval = Approval(
        id=new_id("apr"),
        decision_id=asked.record.id,
        status="granted",
        subject="s",
        action="a",
        resource="r",
        request=asked.request,
        request_digest=asked.digest,
        bundle_hash="0" * 64,
        note="",
        requested_by="x",
        answered_by="y",
        reason="z",
        created_at=NOW,
        expires_at=NOW,
    )
    async with store.transaction() as records:
        await records.keep_approval(approval)

    async def use() -> bool:
        async with store.transaction() as records:
            return await records.use_approval(approval.id)

    assert sorted(await asyncio.gather(*(use() for _ in range(8)))) == [False] * 7 + [True]
    async with store.reading() as records:
        kept = await records.approval(approval.id)
        assert kept == approval.model_copy(update={"status": "used"})
        assert (await records.approvals("granted", None, 10, NOW))[0] == []


# --- the platform's own tables ---------------------------------------------------------------------------------------


async def test_of_two_requests_with_one_key_at_once_one_runs(open_database: OpenDatabase):
    database = open_database("x")
    await database.migrate(None)
    records = IdempotencyRecords(database, ManualClock(NOW), "secret")

    async def begin() -> Claim | None:
        try:
            claim = await records.begin("ada", "k", "d")
        except IdempotencyInProgress:
            return None
        assert isinstance(claim, Claim)
        return claim

    (claim,) = [c for c in await asyncio.gather(*(begin() for _ in range(6))) if c is not None]
    await records.finish(claim, 201, b"\x00\xff")
    assert await records.begin("ada", "k", "d") == Kept(201, b"\x00\xff", None)


async def test_of_a_request_and_those_that_take_it_for_dead_exactly_one_commits(open_database: OpenDatabase):
    database = await opened(open_database, "auth")
    clock = ManualClock(NOW)
    records = IdempotencyRecords(database, clock, "secret")
    store = Store(database, AuthRepository)

    async def carry_out(claim: Claim) -> bool:
        joined.set(lambda session: records.mark(claim, session))
        try:
            async with store.transaction() as kept:
                await kept.add_user(user(f"by-{claim.id}"))
        except IdempotencyInProgress:
            return False
        return True

    async def repeat() -> bool:
        try:
            claim = await records.begin("ada", "k", "d")
        except (IdempotencyInProgress, OutcomeUnknown):
            return False
        assert isinstance(claim, Claim)
        return await carry_out(claim)

    first = await records.begin("ada", "k", "d")
    assert isinstance(first, Claim)
    clock.advance(61)
    done = await asyncio.gather(carry_out(first), repeat(), repeat(), repeat())
    assert sum(done) == 1
    async with store.reading() as kept:
        assert await kept.count_users() == 1
    clock.advance(61)
    with pytest.raises(OutcomeUnknown):
        await records.begin("ada", "k", "d")


async def test_the_outbox_leaves_in_order(open_database: OpenDatabase):
    database = open_database("x")
    await database.migrate(None)
    events = [new_event("tester", "thing.happened", NOW, actor="a", subject=str(n), note="ü\u2028") for n in range(30)]
    store = Store(database, AuthRepository)
    for event in events:
        async with store.transaction() as records:
            await records.record(event)
    got: list[object] = []

    async def deliver(batch: list[str]) -> None:
        got.extend(Event.model_validate_json(event) for event in batch)

    relay = OutboxRelay("tester", database, deliver, ManualClock(NOW), batch=7)
    assert await relay.oldest() == NOW
    while await relay.deliver_once():
        pass
    assert got == events
