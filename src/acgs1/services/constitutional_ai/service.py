"""Use cases: writing, checking and adopting a constitution, and following the ledger's amendments of it."""

import asyncio

from pydantic import JsonValue

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Page
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import (
    Check,
    ConstitutionDocument,
    ConstitutionVersion,
    PrincipleInForce,
)
from acgs1.contracts.events import Event, new_event
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError, ErrorItem
from acgs1.services.constitutional_ai.domain import StoredConstitution
from acgs1.services.constitutional_ai.errors import (
    AdoptionInProgress,
    AmendmentNeedsVote,
    ConstitutionNotFound,
    InvalidConstitution,
    NoConstitutionInForce,
)
from acgs1.services.constitutional_ai.ports import Checker, Constitutions, Ledger, Readers

_TITLE_BYTES = 64


class ConstitutionService:
    """All of constitutional_ai. `wake` is set when there is an adoption to carry through.

    INVARIANT: a step of an adoption is acknowledged, and an amendment counts as followed, only after the readers have heard of it.
    """

    def __init__(self, store: Constitutions, checker: Checker, ledger: Ledger, readers: Readers, clock: Clock) -> None:
        self._store = store
        self._checker = checker
        self._ledger = ledger
        self._readers = readers
        self._clock = clock
        self.wake = asyncio.Event()
        self._changed = asyncio.Condition()
        # The hash that the ledger has in force and nobody here has the text of.
        self._missing: str | None = None

    async def check(self, constitution: Constitution) -> Check:
        """Compile every invariant against the schema; raises InvalidConstitution with the place of every fault."""
        expect_titles_that_fit(constitution)
        guards = await asyncio.to_thread(self._checker.guards, constitution)
        silent = [p.id for p in constitution.principles if not p.invariants]
        return Check(hash=constitution.hash, guards=guards, principles_without_invariants=silent)

    async def draft(self, constitution: Constitution, by: Identity) -> ConstitutionVersion:
        """Keep a constitution that passes `check`. The same content is the same constitution: keeping it twice changes nothing."""
        await self.check(constitution)
        now = self._clock.now()
        stored = StoredConstitution(
            hash=constitution.hash,
            constitution=constitution,
            status="draft",
            version=None,
            created_by=by.id,
            created_at=now,
            in_force_at=None,
            ledger_signature=None,
            refusal=None,
        )
        async with self._store.transaction() as records:
            if existing := await records.get(stored.hash):
                return _version(existing)
            await records.add(stored)
            await records.record(self._event("constitution.drafted", by.id, stored.hash, name=constitution.name))
        return _version(stored)

    async def adopt(self, constitution_hash: str, by: Identity, wait_seconds: float) -> ConstitutionVersion:
        """Begin the adoption of the founding constitution and wait up to `wait_seconds` for the ledger to confirm it.

        The status is `adopting` when the ledger needs longer: the adoption goes on, also over a restart. Raises AmendmentNeedsVote when
        another constitution is in force.
        """
        async with self._store.transaction() as records:
            stored = _existing(await records.get(constitution_hash), constitution_hash)
            in_force = await records.with_status("in_force")
            if in_force and in_force.hash != stored.hash:
                raise AmendmentNeedsVote(
                    f"`{in_force.constitution.name}` is in force; a member proposes the change to policy_governance: "
                    "POST /api/v1/proposals/amendments"
                )
            adopting = await records.with_status("adopting")
            if adopting and adopting.hash != constitution_hash:
                raise AdoptionInProgress(
                    f"`{adopting.constitution.name}` is on its way to the ledger; wait for its outcome"
                )
            begins = not adopting and not in_force
            if begins:
                await records.set_status(constitution_hash, "adopting")
                await records.record(self._event("constitution.adoption_begun", by.id, constitution_hash))
        if begins:
            await self._readers.standing_changed()
        self.wake.set()
        outcome = await self._outcome(constitution_hash, wait_seconds)
        if outcome.status == "in_force":
            # Its commit may be seen here before the job that made it has told the readers.
            await self._readers.standing_changed()
        return outcome

    async def carry_adoption_through(self) -> bool:
        """One attempt at the adoption that is under way, if any; True when none is left.

        Raises DependencyUnavailable when the ledger cannot be reached, to be called again.
        """
        async with self._store.reading() as records:
            adopting = await records.with_status("adopting")
        if adopting is None:
            return True
        try:
            receipt = await self._ledger.ratify(adopting.constitution)
        except DomainError as error:
            if error.code == "dependency_unavailable":
                raise
            async with self._store.transaction() as records:
                await records.set_status(adopting.hash, "draft", refusal=f"{error.code}: {error.detail}")
                await records.record(
                    self._event("constitution.adoption_refused", "ledger", adopting.hash, code=error.code)
                )
        else:
            async with self._store.transaction() as records:
                version, signature = receipt.constitution_version, receipt.signature
                await records.bring_into_force(adopting.hash, version, self._clock.now(), signature)
                data = {"version": version, "ledger_signature": signature, "name": adopting.constitution.name}
                await records.record(self._event("constitution.adopted", adopting.created_by, adopting.hash, **data))
        await self._readers.standing_changed()
        async with self._changed:
            self._changed.notify_all()
        return True

    async def follow_ledger(self) -> None:
        """Have the constitution in force here be the one that the ledger has: an amendment is made there. Raises DependencyUnavailable,
        to be called again.

        Where its text is not kept here nothing is in force here, until somebody keeps it.
        """
        told = await self._ledger.in_force()
        if told.constitution_hash is None:
            return
        async with self._store.reading() as records:
            current = await records.with_status("in_force")
            adopting = await records.with_status("adopting")
        there = (told.constitution_hash, told.constitution_version)
        if adopting is not None or (current is not None and (current.hash, current.version) == there):
            return  # the adoption takes note of its own outcome
        async with self._store.transaction() as records:
            stored = await records.get(told.constitution_hash)
            if stored is not None:
                at = told.since or self._clock.now()
                await records.bring_into_force(stored.hash, told.constitution_version, at, told.signature)
                data: dict[str, JsonValue] = {
                    "version": told.constitution_version,
                    "ledger_signature": told.signature,
                    "name": stored.constitution.name,
                    "before": current.hash if current else None,
                }
                await records.record(self._event("constitution.amended", "ledger", stored.hash, **data))
            elif current is not None:
                await records.set_status(current.hash, "superseded")
                lost = {"version": told.constitution_version, "before": current.hash}
                await records.record(self._event("constitution.text_missing", "ledger", told.constitution_hash, **lost))
        self._missing = None if stored is not None else told.constitution_hash
        if stored is not None or current is not None:
            await self._readers.standing_changed()

    async def in_force(self) -> ConstitutionDocument:
        """The constitution that binds now; raises NoConstitutionInForce before the first adoption."""
        async with self._store.reading() as records:
            stored = await records.with_status("in_force")
        if stored is None and self._missing is not None:
            raise NoConstitutionInForce(
                f"the ledger has `{self._missing}`, whose text is not kept here; keep it: POST /api/v1/constitutions"
            )
        if stored is None:
            raise NoConstitutionInForce(
                "adopt one: POST /api/v1/constitutions, then /api/v1/constitutions/{hash}/adoption"
            )
        return ConstitutionDocument(meta=_version(stored), constitution=stored.constitution)

    async def document(self, constitution_hash: str) -> ConstitutionDocument:
        async with self._store.reading() as records:
            stored = _existing(await records.get(constitution_hash), constitution_hash)
        return ConstitutionDocument(meta=_version(stored), constitution=stored.constitution)

    async def versions(self, cursor: str | None, limit: int) -> Page[ConstitutionVersion]:
        async with self._store.reading() as records:
            rows, following = await records.page(cursor, limit)
        return Page[ConstitutionVersion](items=[_version(row) for row in rows], next_cursor=following)

    async def _outcome(self, constitution_hash: str, wait_seconds: float) -> ConstitutionVersion:
        async def settled() -> ConstitutionVersion:
            async with self._changed:
                while True:
                    meta = (await self.document(constitution_hash)).meta
                    if meta.status != "adopting":
                        return meta
                    await self._changed.wait()

        try:
            return await asyncio.wait_for(settled(), wait_seconds)
        except TimeoutError:
            return (await self.document(constitution_hash)).meta

    def _event(self, kind: str, actor: str, subject: str, **data: JsonValue) -> Event:
        return new_event("constitutional_ai", kind, self._clock.now(), actor=actor, subject=subject, **data)


def principle_of(document: ConstitutionDocument, principle_id: str) -> PrincipleInForce:
    """One principle of the constitution in force."""
    for principle in document.constitution.principles:
        if principle.id == principle_id:
            return PrincipleInForce(constitution_hash=document.meta.hash, principle=principle)
    raise ConstitutionNotFound(f"the constitution in force has no principle `{principle_id}`")


def expect_titles_that_fit(constitution: Constitution) -> None:
    """A title stands on the ledger, which has room for 64 bytes of it; raises InvalidConstitution naming those that are longer."""
    items = [
        ErrorItem(
            f"principle `{principle.id}`: the title has {size} bytes in UTF-8; at most {_TITLE_BYTES} fit on the ledger",
            f"/principles/{number}/title",
        )
        for number, principle in enumerate(constitution.principles)
        if (size := len(principle.title.encode())) > _TITLE_BYTES
    ]
    if items:
        raise InvalidConstitution(items[0].detail, items=tuple(items))


def _existing(stored: StoredConstitution | None, constitution_hash: str) -> StoredConstitution:
    if stored is None:
        raise ConstitutionNotFound(f"`{constitution_hash}` is not a constitution here")
    return stored


def _version(stored: StoredConstitution) -> ConstitutionVersion:
    return ConstitutionVersion(
        hash=stored.hash,
        name=stored.constitution.name,
        status=stored.status,
        version=stored.version,
        principles=len(stored.constitution.principles),
        created_by=stored.created_by,
        created_at=stored.created_at,
        in_force_at=stored.in_force_at,
        ledger_signature=stored.ledger_signature,
        refusal=stored.refusal,
    )
