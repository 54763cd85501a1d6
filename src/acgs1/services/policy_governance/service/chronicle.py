"""What happened on the ledger, followed into this service's state and from there into the log."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import JsonValue

from acgs1.contracts.events import Event
from acgs1.contracts.policy_governance import Ballot, ConstitutionOnLedger, Emergency, Proposal
from acgs1.core.clock import Clock
from acgs1.core.ids import new_id
from acgs1.services.policy_governance.domain import (
    Happened,
    Opened,
    Position,
    Snapshot,
    is_acting,
    moved,
    over,
)
from acgs1.services.policy_governance.errors import CursorLost, EmergencyNotFound
from acgs1.services.policy_governance.ports import Governance, Ledger, Readers, Records

_log = structlog.get_logger()
_SERVICE = "policy_governance"
_STATUS = {"active": "open"}
_LOGGED = {
    "Initialized": "ledger.initialized",
    "ParametersChanged": "parameters.changed",
    "Attested": "certificate.attested",
    "AttestationRevoked": "certificate.attestation_revoked",
    "PolicyEnacted": "policy.enacted",
    "AuthorityOffered": "authority.offered",
    "AuthorityAccepted": "authority.accepted",
}
"""What changes nothing here and is recorded all the same. Anchored roots are not: recording them would make the log grow, and so
the next root."""
_STATE = frozenset(
    {
        "Initialized",
        "ParametersChanged",
        "ProposalCreated",
        "MemberChanged",
        "Ratified",
        "ConstitutionAmended",
        "PrincipleChanged",
    }
)
"""What changes what the ledger says of itself. Votes do not."""


class Chronicle:
    """Follows the program's events by a cursor that is kept in the same transaction as what the events led to: whatever is killed or
    away and for how long, no event is lost and none counts twice.

    An event that is read a second time (the ledger had to be followed from its beginning again) changes nothing that it
    changed before, and the log knows its id. Accounts are read at the start, and where a transaction's log was cut, to be held against
    what the events led to.
    """

    def __init__(self, store: Governance, ledger: Ledger, readers: Readers, clock: Clock) -> None:
        self._store = store
        self._ledger = ledger
        self._readers = readers
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked = self._answered = 0
        self._reconcile = True

    async def catch_up(self) -> None:
        """Take in all that has happened up to now. Raises the ledger's errors; what was taken in by then stays.

        Whoever asks while the ledger is being followed waits for the next look, which answers all of them at once.
        """
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._answered >= mine:
                return
            answering = self._asked
            while True:
                async with self._store.reading() as records:
                    position = await records.position()
                    acting = await records.emergencies(acting=True)
                try:
                    chapter = await self._ledger.events(position.cursor)
                except CursorLost as error:
                    _log.error("ledger_cursor_lost", detail=error.detail)
                    await self._begin_again()
                    continue
                await self._find_own(chapter.events)
                if chapter.events or chapter.cursor != position.cursor:
                    async with self._store.transaction() as records:
                        # Another worker of this service may have taken the same events in by now.
                        if (await records.position(lock=True)).cursor != position.cursor:
                            continue
                        for happened in chapter.events:
                            await self._apply(records, happened)
                        await records.keep_position(_at(await records.position(), chapter.cursor))
                    if any(happened.kind in _STATE for happened in chapter.events):
                        await self._readers.ledger_moved()
                    if any(happened.kind == "ProposalEnacted" for happened in chapter.events):
                        await self._readers.bundles_changed()
                if chapter.caught_up:
                    break
            await self._let_lapse(acting)
            if self._reconcile:
                self._reconcile = not await self._compare()
            self._answered = answering

    async def emergencies(self) -> list[Emergency]:
        """The actions that have not ended, as far as the ledger has been followed; some may have run out of time."""
        async with self._store.reading() as records:
            return await records.emergencies(acting=True)

    async def acting(self, index: int) -> Emergency:
        """The emergency action, as long as it has not ended. Raises EmergencyNotFound."""
        for action in await self.emergencies():
            if action.index == index:
                return action
        raise EmergencyNotFound(f"emergency action {index} is not in effect; see GET /api/v1/emergencies")

    async def actions(self) -> list[Emergency]:
        """Every emergency action, oldest first."""
        async with self._store.reading() as records:
            return await records.emergencies()

    async def constitution(self) -> ConstitutionOnLedger:
        """The constitution in force, as far as the ledger has been followed."""
        async with self._store.reading() as records:
            position = await records.position()
        return ConstitutionOnLedger(
            constitution_hash=position.constitution_hash,
            constitution_version=position.constitution_version,
            signature=position.signature,
            since=position.since,
        )

    # --- events ---

    async def _find_own(self, events: tuple[Happened, ...]) -> None:
        """Give the proposals that were sent and not answered for (a crash in between) their place, before their events are taken
        for somebody else's."""
        if not any(happened.kind == "ProposalCreated" for happened in events):
            return
        async with self._store.reading() as records:
            waiting = [p for p in await records.proposals_with("submitting", "unsigned") if p.index is None]
        for proposal in waiting:
            if (opened := await self._ledger.find(proposal)) is not None:
                async with self._store.transaction() as records:
                    await place(records, proposal.id, opened)

    async def _apply(self, records: Records, happened: Happened) -> None:
        """What each event leads to; one that this release does not know leads to nothing."""
        steps: dict[str, Callable[[Records, Happened], Awaitable[None]]] = {
            "ProposalCreated": self._opened,
            "VoteCast": self._voted,
            "ProposalFinalized": self._finalized,
            "ProposalEnacted": self._enacted,
            "ProposalCancelled": self._cancelled,
            "ProposalClosed": self._closed,
            "MemberChanged": self._member,
            "Ratified": self._constitution,
            "ConstitutionAmended": self._constitution,
            "PrincipleChanged": self._constitution,
            "EmergencyTaken": self._emergency,
            "EmergencyResolved": self._emergency,
            "EmergencyClosed": self._emergency_closed,
            "LogTruncated": self._truncated,
        }
        if happened.kind in _LOGGED:
            plain = {name: value for name, value in happened.data.items() if isinstance(value, str | int)}
            await self._record(records, happened, _LOGGED[happened.kind], _subject(happened.data), plain)
        elif (step := steps.get(happened.kind)) is not None:
            await step(records, happened)

    async def _opened(self, records: Records, happened: Happened) -> None:
        data = happened.data
        proposal = await records.proposal_at(data["index"])
        if proposal is not None and _is_another(proposal, happened):
            # This ledger was set up anew: what we knew by that number was on the one before it.
            await records.keep_proposal(proposal.model_copy(update={"index": None}))
            proposal = None
        if proposal is None:
            proposal = await self._stranger(records, data)
        changes = {
            "index": data["index"],
            "address": data["address"],
            "wallet": data["proposer"],
            "content_hash": data["content_hash"],
            "total_weight": data["total_weight"],
            "constitution_version": data["constitution_version"],
            "closes_at": _instant(data["ends_at"]),
            "signatures": {**proposal.signatures, "propose": happened.signature},
        }
        await records.keep_proposal(moved(proposal, "open", changes))
        told = {"index": data["index"], "kind": data["kind"], "content": data["content_hash"]}
        actor = await records.owner(data["proposer"])
        await self._record(records, happened, "proposal.opened", proposal.id, told, actor or data["proposer"])

    async def _stranger(self, records: Records, data: Mapping[str, Any]) -> Proposal:
        """A proposal that a member made past this service."""
        kind: Any = data["kind"]
        certificate = data["certificate_hash"] if kind == "policy" else None
        bundle = await records.bundle_proved_by(certificate) if certificate else None
        return Proposal(
            id=new_id("prp"),
            kind=kind,
            title=f"Proposal {data['index']} of the ledger",
            bundle_hash=bundle.hash if bundle else None,
            certificate_hash=certificate,
            status="submitting",
            index=None,
            address=None,
            for_weight=0,
            against_weight=0,
            abstain_weight=0,
            closes_at=None,
            voting_seconds=max(1, data["ends_at"] - data["starts_at"]),
            proposed_by=await records.owner(data["proposer"]) or data["proposer"],
            created_at=_instant(data["starts_at"]),
        )

    async def _voted(self, records: Records, happened: Happened) -> None:
        data = happened.data
        proposal = await records.proposal_at(data["proposal"])
        if proposal is None:
            return
        user_id = await records.owner(data["voter"])
        ballot = Ballot(
            proposal_id=proposal.id,
            choice=data["choice"],
            weight=data["weight"],
            signature=happened.signature,
            wallet=data["voter"],
            user_id=user_id,
        )
        await records.keep_ballot(ballot, data["voter"])
        if proposal.status == "open":
            await records.keep_proposal(proposal.model_copy(update=_sums(data)))
        told = {"choice": data["choice"], "weight": data["weight"]}
        await self._record(records, happened, "ballot.cast", proposal.id, told, user_id or data["voter"])

    async def _finalized(self, records: Records, happened: Happened) -> None:
        data = happened.data
        told = {"for": data["votes_for"], "against": data["votes_against"], "abstain": data["votes_abstain"]}
        changes = {**_sums(data), "quorum_reached": data["quorum_reached"]}
        await self._moved(records, happened, "finalized", data["status"], changes, told)

    async def _enacted(self, records: Records, happened: Happened) -> None:
        await self._moved(records, happened, "enacted", "enacted", {"enacting": False, "refusal": None})

    async def _cancelled(self, records: Records, happened: Happened) -> None:
        await self._moved(records, happened, "cancelled", "cancelled", {})

    async def _member(self, records: Records, happened: Happened) -> None:
        data = happened.data
        await records.keep_member(data["wallet"], data["slot"], data["weight"])
        told = {"wallet": data["wallet"], "weight": data["weight"], "total_weight": data["total_weight"]}
        who = await records.owner(data["wallet"]) or data["wallet"]
        await self._record(records, happened, "member.changed", who, told)

    async def _truncated(self, records: Records, happened: Happened) -> None:  # noqa: ARG002 - as the others
        self._reconcile = True

    async def _moved(
        self,
        records: Records,
        happened: Happened,
        step: str,
        status: str,
        changes: Mapping[str, Any],
        told: Mapping[str, JsonValue] | None = None,
    ) -> None:
        proposal = await records.proposal_at(happened.data["index"])
        if proposal is None:
            return
        signatures = {**proposal.signatures, {"enacted": "enact"}.get(step, step): happened.signature}
        after = moved(proposal, _STATUS.get(status, status), {**changes, "signatures": signatures})
        await records.keep_proposal(after)
        if after.status == "enacted" and after.bundle_hash is not None:
            found = await records.bundle(after.bundle_hash)
            if found is not None and found[0].status == "built":
                await records.set_bundle_status(after.bundle_hash, "adopted")
        facts = {"status": status, "kind": proposal.kind, **(told or {})}
        if proposal.bundle_hash:
            facts["bundle"] = proposal.bundle_hash
        await self._record(records, happened, f"proposal.{step}", proposal.id, facts)

    async def _closed(self, records: Records, happened: Happened) -> None:
        proposal = await records.proposal_at(happened.data["index"])
        if proposal is None:
            return
        lamports = happened.data["lamports"]
        await records.keep_proposal(proposal.model_copy(update={"closed": True, "rent_lamports": lamports}))
        await self._record(records, happened, "proposal.closed", proposal.id, {"lamports": lamports})

    async def _constitution(self, records: Records, happened: Happened) -> None:
        data, position = happened.data, await records.position()
        digest, version = data["constitution_hash"], data["constitution_version"]
        if happened.kind == "PrincipleChanged" and version == 1:
            return  # before ratification the text is still being written; each change after it is a new version
        if version > position.constitution_version:
            since = _instant(data["at"])
            await records.keep_position(Position(position.cursor, digest, version, happened.signature, since))
        kind = "ledger.constitution_ratified" if happened.kind == "Ratified" else "ledger.constitution_amended"
        await self._record(records, happened, kind, digest, {"version": version})

    async def _emergency(self, records: Records, happened: Happened) -> None:
        data = happened.data
        taken = happened.kind == "EmergencyTaken"
        action = _action(data, "active" if taken else data["status"])
        facts: dict[str, JsonValue] = {"emergency": action.kind, "target": action.target}
        if taken:
            facts["reason"] = data["reason_hash"]
        await records.keep_emergency(action)
        kind = "emergency.taken" if taken else f"emergency.{action.status}"
        await self._record(records, happened, kind, str(action.index), facts)

    async def _emergency_closed(self, records: Records, happened: Happened) -> None:
        """Only the account of an action that is over can be closed, so this ends it where its own end was not heard of."""
        index = happened.data["index"]
        now = self._clock.now()
        for action in await records.emergencies(acting=True):
            if action.index == index:
                await records.keep_emergency(over(action, now))
        facts = {"index": index, "lamports": happened.data["lamports"]}
        await self._record(records, happened, "emergency.closed", str(index), facts)

    async def _record(
        self,
        records: Records,
        happened: Happened,
        kind: str,
        subject: str,
        data: Mapping[str, JsonValue],
        actor: str = "ledger",
    ) -> None:
        seconds = happened.data.get("at") or happened.data.get("starts_at")
        event = Event(
            id=happened.id,
            type=kind,
            # The ledger's time, so that an event read twice is the same to the byte.
            time=_instant(seconds) if seconds else self._clock.now(),
            service=_SERVICE,
            actor=actor,
            subject=subject,
            data={**data, "signature": happened.signature, "slot": happened.slot},
        )
        await records.record_once(event)

    # --- accounts ---

    async def _begin_again(self) -> None:
        """The cursor means nothing to the ledger: take over its accounts, and read what history it has."""
        snapshot = await self._ledger.snapshot(None)
        async with self._store.transaction() as records:
            in_force, version = snapshot.constitution_hash, snapshot.constitution_version
            known = await records.position(lock=True)
            same = (known.constitution_hash, known.constitution_version) == (in_force, version)
            fresh = Position(None, in_force, version if in_force else 0, None, self._clock.now() if in_force else None)
            await records.keep_position(_at(known, None) if same else fresh)
        self._reconcile = True

    async def _let_lapse(self, acting: list[Emergency]) -> None:
        """Write down which actions have run out of time; only after the ledger was heard, for a vote may have confirmed them."""
        now = self._clock.now()
        if all(is_acting(action, now) for action in acting):
            return
        async with self._store.transaction() as records:
            await records.position(lock=True)  # another worker may have heard of a confirmation by now
            for action in await records.emergencies(acting=True):
                if not is_acting(action, now):
                    await records.keep_emergency(over(action, now))

    async def _compare(self) -> bool:
        """Hold what the events led to against the accounts, which are right where the two differ; False where it has to be done again."""
        async with self._store.reading() as records:
            cursor = (await records.position()).cursor
        snapshot = await self._ledger.snapshot(cursor)
        now = self._clock.now()
        async with self._store.transaction() as records:
            position = await records.position(lock=True)
            if position.cursor != cursor:
                return False  # another worker has followed further: what it has taken in may be missing from these accounts
            differing = [
                *await self._compare_proposals(records, snapshot),
                *await _compare_members(records, snapshot),
                *await _compare_emergencies(records, snapshot, now),
            ]
            known = (position.constitution_hash, position.constitution_version)
            there = (snapshot.constitution_hash, snapshot.constitution_version)
            if snapshot.constitution_hash is not None and known != there:
                differing.append("constitution")
                await records.keep_position(Position(position.cursor, *there, None, now))
            if differing:
                _log.warning("ledger_reconciled", differing=differing)
                event = Event(
                    id=new_id("evt"),
                    type="ledger.reconciled",
                    time=now,
                    service=_SERVICE,
                    actor=_SERVICE,
                    subject="accounts",
                    data={"differing": list[JsonValue](differing)},
                )
                await records.record(event)
        return True

    async def _compare_proposals(self, records: Records, snapshot: Snapshot) -> list[str]:
        differing: list[str] = []
        for found in snapshot.proposals:
            known = await records.proposal_at(found["index"])
            changes = {**_sums(found), "closes_at": _instant(found["ends_at"]), "address": found["address"]}
            status = str(_STATUS.get(found["status"], found["status"]))
            before = known or (await self._stranger(records, found)).model_copy(update={"index": found["index"]})
            after = moved(
                before, status, {**changes, "wallet": found["proposer"], "content_hash": found["content_hash"]}
            )
            if known != after:
                differing.append(f"proposal {found['index']}")
                await records.keep_proposal(after)
        return differing


async def place(records: Records, proposal_id: str, opened: Opened) -> None:
    """Note where a proposal landed."""
    proposal = await records.proposal(proposal_id)
    if proposal is not None and proposal.index is None:
        await records.keep_proposal(proposal.model_copy(update={"index": opened.index, "address": opened.address}))


async def _compare_members(records: Records, snapshot: Snapshot) -> list[str]:
    differing: list[str] = []
    for found in snapshot.members:
        known = await records.member_with(found.wallet)
        if known is None or (known.weight, known.index) != (found.weight, found.index):
            differing.append(f"member {found.index}")
            await records.keep_member(found.wallet, found.index, found.weight)
    return differing


async def _compare_emergencies(records: Records, snapshot: Snapshot, now: datetime) -> list[str]:
    known = {action.index: action for action in await records.emergencies()}
    there = {action.index: action for action in snapshot.emergencies}
    right = {i: over(a, now) if a.status == "active" and not is_acting(a, now) else a for i, a in there.items()}
    # The account of an action can be closed only when it is over.
    gone = {i: over(a, now) for i, a in known.items() if i not in there and a.status in {"active", "confirmed"}}
    differing: list[str] = []
    for index, action in sorted({**right, **gone}.items()):
        if index not in known or known[index].status != action.status:
            differing.append(f"emergency {index}")
            await records.keep_emergency(action)
    return differing


def _is_another(proposal: Proposal, happened: Happened) -> bool:
    """Whether the proposal we know by that number is one of another ledger."""
    opened = proposal.signatures.get("propose", happened.signature)
    content = proposal.content_hash or happened.data["content_hash"]
    return opened != happened.signature or content != happened.data["content_hash"]


def _at(position: Position, cursor: str | None) -> Position:
    return Position(
        cursor, position.constitution_hash, position.constitution_version, position.signature, position.since
    )


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _sums(data: Mapping[str, Any]) -> dict[str, int]:
    return {
        "for_weight": data["votes_for"],
        "against_weight": data["votes_against"],
        "abstain_weight": data["votes_abstain"],
    }


def _action(data: Mapping[str, Any], status: str) -> Emergency:
    kind: Any = data["kind"]
    standing: Any = status
    return Emergency(
        index=data["index"],
        kind=kind,
        target=None if kind == "freeze_activation" else data["target"],
        status=standing,
        expires_at=None if status == "confirmed" else _instant(data["expires_at"]),
    )


def _subject(data: Mapping[str, Any]) -> str:
    return str(next((data[n] for n in ("certificate_hash", "content_hash", "role", "index") if n in data), "ledger"))
