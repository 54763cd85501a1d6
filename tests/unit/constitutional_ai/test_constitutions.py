"""Constitutions: kept when they can be used, adopted once, amended by the ledger alone."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import acgs1
from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.constitution import Always, Constitution, MonotoneIn, Never
from acgs1.contracts.constitutional_ai import difference
from acgs1.contracts.policy_governance import ConstitutionOnLedger, LedgerReceipt
from acgs1.core.clock import ManualClock
from acgs1.core.errors import DomainError
from acgs1.kit.db import Database, Store
from acgs1.kit.errors import DependencyUnavailable, UpstreamRejected
from acgs1.services.constitutional_ai.adapters.checker import KernelChecker
from acgs1.services.constitutional_ai.adapters.ledger import GovernanceLedger
from acgs1.services.constitutional_ai.errors import (
    AdoptionInProgress,
    AdoptionRefused,
    AmendmentNeedsVote,
    ConstitutionNotFound,
    InvalidConstitution,
    NoConstitutionInForce,
)
from acgs1.services.constitutional_ai.repository import ConstitutionRepository
from acgs1.services.constitutional_ai.service import ConstitutionService, principle_of
from governance import airline

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIGRATIONS = Path(acgs1.__file__).parent / "services" / "constitutional_ai" / "migrations"
LEGISLATOR = Identity(id="usr_1", name="olu", roles=(Role.LEGISLATOR,))
NOTHING = ConstitutionOnLedger(constitution_hash=None, constitution_version=0, signature=None, since=None)


class FakeLedger:
    """Policy governance: ratifies what it is given unless told otherwise, and tells what is in force."""

    def __init__(self) -> None:
        self.refusal: DomainError | None = None
        self.ratified: list[str] = []
        self.told = NOTHING

    async def ratify(self, constitution: Constitution) -> LedgerReceipt:
        if self.refusal is not None:
            raise self.refusal
        self.ratified.append(constitution.hash)
        self.tell(constitution.hash, 1)
        return LedgerReceipt(signature="sig", constitution_hash=constitution.hash, constitution_version=1)

    def tell(self, constitution_hash: str, version: int) -> None:
        self.told = ConstitutionOnLedger(
            constitution_hash=constitution_hash, constitution_version=version, signature=f"sig-{version}", since=NOW
        )

    async def in_force(self) -> ConstitutionOnLedger:
        if self.refusal is not None:
            raise self.refusal
        return self.told


class FakeReaders:
    """Notes what was being adopted or in force, as the database has it, whenever readers were told that something changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.told: list[dict[str, str]] = []

    async def standing_changed(self) -> None:
        async with self._database.reading() as session:
            found = await session.execute(
                sa.text("SELECT hash, status FROM constitutions WHERE status IN ('adopting', 'in_force')")
            )
        self.told.append({row.status: row.hash for row in found})


@dataclass
class Room:
    database: Database
    ledger: FakeLedger
    readers: FakeReaders
    service: ConstitutionService

    def restarted(self) -> "Room":
        return assemble(self.database, self.ledger)

    async def adopted(self, constitution: Constitution) -> None:
        await self.service.draft(constitution, LEGISLATOR)
        await self.service.adopt(constitution.hash, LEGISLATOR, 0)
        await self.service.carry_adoption_through()

    async def events(self) -> list[dict[str, Any]]:
        async with self.database.reading() as session:
            rows = (await session.execute(sa.text("SELECT event FROM outbox ORDER BY sequence"))).all()
        return [json.loads(row.event) for row in rows]


def assemble(database: Database, ledger: FakeLedger) -> Room:
    store = Store(database, ConstitutionRepository)
    readers = FakeReaders(database)
    return Room(
        database, ledger, readers, ConstitutionService(store, KernelChecker(), ledger, readers, ManualClock(NOW))
    )


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'constitutions.sqlite3'}")
    await database.migrate(MIGRATIONS)
    yield assemble(database, FakeLedger())
    await database.close()


def changed(**text: Any) -> Constitution:
    return airline().model_copy(update=text)


def with_first(**principle: Any) -> Constitution:
    founding = airline()
    first = founding.principles[0].model_copy(update=principle)
    return changed(principles=(first, *founding.principles[1:]))


class TestDrafts:
    async def test_the_same_content_is_one_constitution_whoever_keeps_it_again(self, room: Room):
        first = await room.service.draft(airline(), LEGISLATOR)
        again = await room.service.draft(airline(), Identity(id="usr_2", name="mei", roles=(Role.LEGISLATOR,)))
        assert first == again
        assert (first.status, first.version, first.principles) == ("draft", None, len(airline().principles))
        assert [e["type"] for e in await room.events()] == ["constitution.drafted"]
        assert (await room.service.document(first.hash)).constitution == airline()

    @pytest.mark.parametrize(
        ("invariant", "words"),
        [
            (Never(actions=("hand_over",), when="resource.no_such_fact == 1"), "no_such_fact"),
            (Always(actions=("hand_over",), when="context.also_none"), "also_none"),
            (Never(when="true }; permit (principal, action, resource"), "closes nothing"),
            (Never(when="  "), "empty"),
            (Never(principal="not a type", when="true"), "not an entity type"),
        ],
    )
    async def test_an_invariant_that_means_nothing_is_refused_with_its_place(
        self, room: Room, invariant: Never | Always, words: str
    ):
        bad = with_first(invariants=(MonotoneIn(attribute="context.amount"), invariant))
        with pytest.raises(InvalidConstitution) as refusal:
            await room.service.draft(bad, LEGISLATOR)
        (item,) = refusal.value.items
        assert item.pointer == "/principles/0/invariants/1/when"
        assert words in item.detail
        assert airline().principles[0].id in item.detail
        assert (await room.service.versions(None, 10)).items == []

    async def test_a_schema_that_is_no_cedar_is_refused(self, room: Room):
        with pytest.raises(InvalidConstitution) as refusal:
            await room.service.check(changed(schema_text="entity Desk {"))
        assert refusal.value.items[0].pointer == "/schema_text"

    async def test_a_title_longer_than_the_ledger_has_room_for_is_refused_here(self, room: Room):
        with pytest.raises(InvalidConstitution, match="66 bytes") as refusal:
            await room.service.check(with_first(title="é" * 33))
        assert refusal.value.items[0].pointer == "/principles/0/title"
        assert (await room.service.check(with_first(title="é" * 32))).hash

    async def test_principles_that_only_people_can_judge_are_named(self, room: Room):
        silent = with_first(invariants=())
        found = await room.service.check(silent)
        assert airline().principles[0].id in found.principles_without_invariants


class TestAdoption:
    async def test_an_adopted_constitution_is_in_force_once_the_ledger_says_so(self, room: Room):
        with pytest.raises(NoConstitutionInForce):
            await room.service.in_force()
        kept = await room.service.draft(airline(), LEGISLATOR)
        assert (await room.service.adopt(kept.hash, LEGISLATOR, 0)).status == "adopting"
        assert room.service.wake.is_set()
        with pytest.raises(NoConstitutionInForce):
            await room.service.in_force()
        await room.service.carry_adoption_through()
        meta = (await room.service.in_force()).meta
        assert (meta.hash, meta.version, meta.ledger_signature) == (airline().hash, 1, "sig")
        assert (await room.service.adopt(kept.hash, LEGISLATOR, 0)).status == "in_force", "repeating changes nothing"
        first = airline().principles[0]
        document = await room.service.in_force()
        assert principle_of(document, first.id).principle == first
        with pytest.raises(ConstitutionNotFound):
            principle_of(document, "no-such-principle")

    async def test_whoever_waits_is_told_the_outcome(self, room: Room):
        kept = await room.service.draft(airline(), LEGISLATOR)
        waiting = asyncio.create_task(room.service.adopt(kept.hash, LEGISLATOR, 30))
        await room.service.wake.wait()
        await room.service.carry_adoption_through()
        assert (await waiting).status == "in_force"

    async def test_readers_are_told_after_the_commit_and_before_the_acknowledgement(self, room: Room):
        kept = await room.service.draft(airline(), LEGISLATOR)
        acknowledged: list[int] = []

        async def adopt() -> None:
            await room.service.adopt(kept.hash, LEGISLATOR, 30)
            acknowledged.append(len(room.readers.told))

        waiting = asyncio.create_task(adopt())
        await room.service.wake.wait()
        await room.service.carry_adoption_through()
        await waiting
        assert acknowledged[0] >= 2
        assert room.readers.told[0] == {"adopting": airline().hash}
        assert all(told == {"in_force": airline().hash} for told in room.readers.told[1:])
        # Also whoever repeats it, in a process that did not carry it through.
        again = room.restarted()
        await again.service.adopt(kept.hash, LEGISLATOR, 0)
        assert again.readers.told == [{"in_force": airline().hash}]

    async def test_an_adoption_cut_off_by_a_kill_is_carried_through_after_the_restart(self, room: Room):
        kept = await room.service.draft(airline(), LEGISLATOR)
        await room.service.adopt(kept.hash, LEGISLATOR, 0)
        room.ledger.refusal = DependencyUnavailable("`policy_governance` is not available")
        with pytest.raises(DependencyUnavailable):
            await room.service.carry_adoption_through()
        room.ledger.refusal = None
        after = room.restarted()
        await after.service.carry_adoption_through()
        await after.service.carry_adoption_through()
        await after.service.follow_ledger()
        assert (await after.service.in_force()).meta.version == 1
        assert room.ledger.ratified == [airline().hash]
        assert [e["type"] for e in await room.events()].count("constitution.adopted") == 1

    async def test_a_refusal_says_the_ledgers_own_code_and_the_draft_may_be_tried_again(self, room: Room):
        class Refusing:
            async def post(self, *_: object, **__: object) -> object:
                raise UpstreamRejected(
                    "needs one principle and one member",
                    upstream="policy_governance",
                    upstream_code="ledger_bootstrap_incomplete",
                    status=409,
                )

        room.ledger.ratify = GovernanceLedger(Refusing()).ratify  # type: ignore[method-assign, arg-type]
        with pytest.raises(AdoptionRefused):
            await room.ledger.ratify(airline())
        kept = await room.service.draft(airline(), LEGISLATOR)
        await room.service.adopt(kept.hash, LEGISLATOR, 0)
        await room.service.carry_adoption_through()
        meta = (await room.service.document(kept.hash)).meta
        assert meta.status == "draft"
        assert room.readers.told == [{"adopting": kept.hash}, {}], "readers heard of both steps"
        assert meta.refusal == "ledger_bootstrap_incomplete: needs one principle and one member"
        refused = (await room.events())[-1]
        assert (refused["type"], refused["data"]["code"]) == (
            "constitution.adoption_refused",
            "ledger_bootstrap_incomplete",
        )
        del room.ledger.ratify
        await room.service.adopt(kept.hash, LEGISLATOR, 0)
        await room.service.carry_adoption_through()
        assert (await room.service.in_force()).meta.refusal is None

    async def test_one_adoption_at_a_time_and_none_beside_one_in_force(self, room: Room):
        one, two = airline(), changed(preamble="Another.")
        for constitution in (one, two):
            await room.service.draft(constitution, LEGISLATOR)
        await room.service.adopt(one.hash, LEGISLATOR, 0)
        with pytest.raises(AdoptionInProgress):
            await room.service.adopt(two.hash, LEGISLATOR, 0)
        await room.service.carry_adoption_through()
        with pytest.raises(AmendmentNeedsVote, match="amendments"):
            await room.service.adopt(two.hash, LEGISLATOR, 0)
        with pytest.raises(ConstitutionNotFound):
            await room.service.adopt("0" * 64, LEGISLATOR, 0)


class TestAmendments:
    async def test_the_constitution_in_force_follows_the_ledger_there_and_back(self, room: Room):
        founding, new = airline(), changed(preamble="Amended.")
        await room.adopted(founding)
        await room.service.draft(new, LEGISLATOR)
        room.ledger.tell(new.hash, 2)
        room.readers.told.clear()
        await room.service.follow_ledger()
        await room.service.follow_ledger()
        assert room.readers.told == [{"in_force": new.hash}], "once, after the commit"
        meta = (await room.service.in_force()).meta
        assert (meta.hash, meta.version, meta.ledger_signature, meta.in_force_at) == (new.hash, 2, "sig-2", NOW)
        assert (await room.service.document(founding.hash)).meta.status == "superseded"
        (amended,) = [e for e in await room.events() if e["type"] == "constitution.amended"]
        assert amended["data"]["before"] == founding.hash
        room.ledger.tell(founding.hash, 3)
        await room.restarted().service.follow_ledger()
        assert (await room.service.in_force()).meta.version == 3

    async def test_where_the_text_is_missing_nothing_is_in_force_until_it_is_kept(self, room: Room):
        await room.adopted(airline())
        elsewhere = changed(preamble="Written elsewhere.")
        room.ledger.tell(elsewhere.hash, 2)
        room.readers.told.clear()
        await room.service.follow_ledger()
        await room.service.follow_ledger()
        assert room.readers.told == [{}], "once, after the commit"
        with pytest.raises(NoConstitutionInForce, match=elsewhere.hash):
            await room.service.in_force()
        assert [e["type"] for e in await room.events()].count("constitution.text_missing") == 1
        await room.service.draft(elsewhere, LEGISLATOR)
        await room.service.follow_ledger()
        assert (await room.service.in_force()).meta.version == 2

    async def test_while_policy_governance_is_away_the_last_known_stays_in_force(self, room: Room):
        await room.adopted(airline())
        room.ledger.refusal = DependencyUnavailable("away")
        with pytest.raises(DependencyUnavailable):
            await room.service.follow_ledger()
        assert (await room.service.in_force()).meta.hash == airline().hash


def test_a_difference_names_what_is_amended_added_retired_and_moved():
    founding = airline()
    new = changed(
        preamble="Amended.",
        principles=(
            founding.principles[1],
            founding.principles[0].model_copy(update={"title": "Another title"}),
            *founding.principles[2:-1],
            founding.principles[-1].model_copy(update={"id": "brand-new"}),
        ),
    )
    found = difference(founding, new)
    assert [(c.change, c.principle.id) for c in found.principles] == [
        ("amend", founding.principles[0].id),
        ("add", "brand-new"),
        ("retire", founding.principles[-1].id),
    ]
    assert found.text == ["preamble", "order"]


def test_a_constitution_differs_from_itself_in_nothing():
    found = difference(airline(), airline())
    assert (found.principles, found.text) == ([], [])
