"""All queries of policy_governance."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import cast

from sqlalchemy import Table, insert, select, update

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Event
from acgs1.contracts.formal_verification import Certificate
from acgs1.contracts.policy_governance import (
    Approval,
    Ballot,
    Bundle,
    BundleStatus,
    DecisionRecord,
    Emergency,
    EvaluationRequest,
    Member,
    Proposal,
    WalletTransaction,
)
from acgs1.core.ids import new_id
from acgs1.kit.db import RawJson, ids, numbers, page, wallets
from acgs1.kit.outbox import OUTBOX, Recorder
from acgs1.services.policy_governance.domain import Position, Recorded
from acgs1.services.policy_governance.models import (
    ApprovalRow,
    BallotRow,
    BundleRow,
    ConstitutionRow,
    DecisionRow,
    EmergencyRow,
    PositionRow,
    ProposalRow,
    WalletRow,
    WalletTransactionRow,
)


class GovernanceRepository(Recorder):
    """This service's state, inside the transaction of its session."""

    async def link_wallet(self, wallet: str, user_id: str, *, own: bool) -> None:
        row = await self.session.get(WalletRow, wallet)
        if row is None:
            self.session.add(WalletRow(wallet=wallet, user_id=user_id, own=own, active=False, document=None))
        else:
            row.user_id, row.own = user_id, own
        await self.session.flush()

    async def owner(self, wallet: str) -> str | None:
        row = await self.session.get(WalletRow, wallet)
        return row.user_id if row else None

    async def keep_member(self, wallet: str, index: int, weight: int) -> None:
        row = await self.session.get(WalletRow, wallet)
        if row is None:
            row = WalletRow(wallet=wallet, user_id=None, own=True)
            self.session.add(row)
        row.active, row.document = weight > 0, {"weight": weight, "index": index}
        await self.session.flush()

    async def member(self, user_id: str) -> Member | None:
        statement = select(WalletRow).where(WalletRow.user_id == user_id, WalletRow.active.is_(True))
        row = await self.session.scalar(statement.order_by(WalletRow.wallet).limit(1))
        return _member(row) if row else None

    async def member_with(self, wallet: str) -> Member | None:
        row = await self.session.get(WalletRow, wallet)
        return _member(row) if row and row.document else None

    async def members(self, cursor: str | None, limit: int) -> tuple[list[Member], str | None]:
        statement = select(WalletRow).where(WalletRow.document.is_not(None))
        rows, following = await page(self.session, statement, WalletRow.wallet, cursor, limit, wallets)
        return [_member(row) for row in rows if row.document], following

    async def position(self, *, lock: bool = False) -> Position:
        row = await self.session.get(PositionRow, 1, with_for_update=lock)
        if row is None:
            return Position()
        return Position(row.cursor, row.constitution_hash, row.constitution_version, row.signature, row.since)

    async def keep_position(self, position: Position) -> None:
        await self.session.merge(PositionRow(id=1, **asdict(position)))

    async def keep_emergency(self, action: Emergency) -> None:
        document = action.model_dump(mode="json")
        await self.session.merge(EmergencyRow(number=action.index, status=action.status, document=document))

    async def emergencies(self, *, acting: bool = False) -> list[Emergency]:
        statement = select(EmergencyRow).order_by(EmergencyRow.number)
        if acting:
            statement = statement.where(EmergencyRow.status.in_(["active", "confirmed"]))
        return [Emergency.model_validate(row.document) for row in await self.session.scalars(statement)]

    async def emergency_page(self, cursor: str | None, limit: int) -> tuple[list[Emergency], str | None]:
        rows, following = await page(self.session, select(EmergencyRow), EmergencyRow.number, cursor, limit, numbers)
        return [Emergency.model_validate(row.document) for row in rows], following

    async def keep_constitution(self, constitution: Constitution) -> None:
        document = constitution.model_dump(mode="json")
        await self.session.merge(ConstitutionRow(hash=constitution.hash, document=document))

    async def constitution(self, constitution_hash: str) -> Constitution | None:
        row = await self.session.get(ConstitutionRow, constitution_hash)
        return Constitution.model_validate(row.document) if row else None

    async def keep_wallet_transaction(
        self, transaction: WalletTransaction, message: bytes, signed: bytes | None
    ) -> None:
        document = transaction.model_dump(mode="json")
        row = WalletTransactionRow(
            id=transaction.id, status=transaction.status, message=message, signed=signed, document=document
        )
        await self.session.merge(row)

    async def wallet_transaction(self, transaction_id: str) -> tuple[WalletTransaction, bytes, bytes | None] | None:
        row = await self.session.get(WalletTransactionRow, transaction_id)
        return (WalletTransaction.model_validate(row.document), row.message, row.signed) if row else None

    async def keep_bundle(self, bundle: Bundle, certificate: Certificate) -> None:
        self.session.add(
            BundleRow(
                hash=bundle.hash,
                sequence=new_id("bnd"),
                status=bundle.status,
                document=bundle.model_dump(mode="json"),
                certificate=certificate.model_dump(mode="json"),
            )
        )
        await self.session.flush()

    async def bundle(self, bundle_hash: str) -> tuple[Bundle, Certificate] | None:
        return _bundle(await self.session.get(BundleRow, bundle_hash))

    async def active(self) -> tuple[str, str] | None:
        proved_against = BundleRow.document["constitution_hash"].as_string()
        found = await self.session.execute(select(BundleRow.hash, proved_against).where(BundleRow.status == "active"))
        row = found.first()
        return (row[0], str(row[1])) if row else None

    async def active_bundle(self) -> tuple[Bundle, Certificate] | None:
        return _bundle(await self.session.scalar(select(BundleRow).where(BundleRow.status == "active")))

    async def bundles(self, cursor: str | None, limit: int) -> tuple[list[Bundle], str | None]:
        rows, following = await page(self.session, select(BundleRow), BundleRow.sequence, cursor, limit, ids("bnd"))
        return [found[0] for row in rows if (found := _bundle(row))], following

    async def set_bundle_status(self, bundle_hash: str, status: BundleStatus, at: datetime | None = None) -> None:
        change = update(BundleRow).where(BundleRow.hash == bundle_hash).values(status=status)
        await self.session.execute(change.values(activated_at=at) if at else change)

    async def keep_proposal(self, proposal: Proposal) -> None:
        document = proposal.model_dump(mode="json")
        row = ProposalRow(id=proposal.id, status=proposal.status, ledger_index=proposal.index, document=document)
        await self.session.merge(row)
        # Now, so that what follows in the transaction finds it.
        await self.session.flush()

    async def proposal(self, proposal_id: str) -> Proposal | None:
        row = await self.session.get(ProposalRow, proposal_id)
        return Proposal.model_validate(row.document) if row else None

    async def proposal_at(self, index: int) -> Proposal | None:
        row = await self.session.scalar(select(ProposalRow).where(ProposalRow.ledger_index == index))
        return Proposal.model_validate(row.document) if row else None

    async def proposals(self, cursor: str | None, limit: int) -> tuple[list[Proposal], str | None]:
        rows, following = await page(self.session, select(ProposalRow), ProposalRow.id, cursor, limit, ids("prp"))
        return [Proposal.model_validate(row.document) for row in rows], following

    async def proposals_with(self, *statuses: str) -> list[Proposal]:
        rows = await self.session.scalars(
            select(ProposalRow).where(ProposalRow.status.in_(statuses)).order_by(ProposalRow.id)
        )
        return [Proposal.model_validate(row.document) for row in rows]

    async def bundle_proved_by(self, certificate_hash: str) -> Bundle | None:
        rows = await self.session.scalars(select(BundleRow).order_by(BundleRow.sequence.desc()))
        found = (_bundle(row) for row in rows)
        return next((known[0] for known in found if known and known[0].certificate_hash == certificate_hash), None)

    async def keep_ballot(self, ballot: Ballot, wallet: str) -> None:
        document = ballot.model_dump(mode="json")
        await self.session.merge(BallotRow(proposal_id=ballot.proposal_id, wallet=wallet, document=document))

    async def ballot(self, proposal_id: str, wallet: str) -> Ballot | None:
        row = await self.session.get(BallotRow, (proposal_id, wallet))
        return Ballot.model_validate(row.document) if row else None

    async def ballot_page(self, proposal_id: str, cursor: str | None, limit: int) -> tuple[list[Ballot], str | None]:
        statement = select(BallotRow).where(BallotRow.proposal_id == proposal_id)
        rows, following = await page(self.session, statement, BallotRow.wallet, cursor, limit, wallets)
        return [Ballot.model_validate(row.document) for row in rows], following

    async def record_once(self, event: Event) -> None:
        """Records an event whose id tells what it is about, unless it waits in the outbox already. What was delivered before is
        sent again, and the log knows it."""
        if await self.session.scalar(select(OUTBOX.c.sequence).where(OUTBOX.c.event_id == event.id)) is None:
            await self.record(event)

    async def known_decisions(self, ids: Sequence[str]) -> set[str]:
        """Which of these are here already (the spool repeats after a crash)."""
        return set(await self.session.scalars(select(DecisionRow.id).where(DecisionRow.id.in_(ids))))

    async def keep_decisions(self, decisions: Sequence[Recorded]) -> None:
        rows = [
            {
                "id": decision.record.id,
                "record": RawJson(decision.record_json),
                "request": RawJson(decision.request_json),
                "salt": decision.salt,
                "approvable": decision.approvable,
                "digest": decision.digest,
            }
            for decision in decisions
        ]
        # Into the table, past the mapper, which would look at every row on its own.
        await self.session.execute(insert(cast("Table", DecisionRow.__table__)), rows)

    async def decision(self, decision_id: str) -> Recorded | None:
        row = await self.session.get(DecisionRow, decision_id)
        return _decision(row) if row else None

    async def decisions(self, cursor: str | None, limit: int) -> tuple[list[Recorded], str | None]:
        rows, following = await page(self.session, select(DecisionRow), DecisionRow.id, cursor, limit, ids("dec"))
        return [_decision(row) for row in rows], following

    async def keep_approval(self, approval: Approval) -> None:
        document = approval.model_dump(mode="json")
        row = ApprovalRow(id=approval.id, status=approval.status, expires_at=approval.expires_at, document=document)
        await self.session.merge(row)

    async def approval(self, approval_id: str) -> Approval | None:
        row = await self.session.get(ApprovalRow, approval_id)
        return _approval(row) if row else None

    async def approvals(
        self, status: str | None, cursor: str | None, limit: int, now: datetime
    ) -> tuple[list[Approval], str | None]:
        statement = select(ApprovalRow)
        if status == "expired":
            # Time makes them so; nothing writes it down.
            waiting = ApprovalRow.status.in_(["pending", "granted"])
            statement = statement.where(waiting, ApprovalRow.expires_at <= now)
        elif status is not None:
            statement = statement.where(ApprovalRow.status == status)
            if status in {"pending", "granted"}:
                statement = statement.where(ApprovalRow.expires_at > now)
        rows, following = await page(self.session, statement, ApprovalRow.id, cursor, limit, ids("apr"))
        return [_approval(row) for row in rows], following

    async def use_approval(self, approval_id: str) -> bool:
        change = update(ApprovalRow).where(ApprovalRow.id == approval_id, ApprovalRow.status == "granted")
        used = await self.session.scalars(change.values(status="used").returning(ApprovalRow.id))
        return used.one_or_none() is not None


def _bundle(row: BundleRow | None) -> tuple[Bundle, Certificate] | None:
    if row is None:
        return None
    bundle = Bundle.model_validate({**row.document, "status": row.status, "activated_at": row.activated_at})
    return bundle, Certificate.model_validate(row.certificate)


def _member(row: WalletRow) -> Member:
    return Member(user_id=row.user_id, wallet=row.wallet, own_wallet=row.own, **(row.document or {}))


def _approval(row: ApprovalRow) -> Approval:
    return Approval.model_validate({**row.document, "status": row.status})


def _decision(row: DecisionRow) -> Recorded:
    return Recorded(
        DecisionRecord.model_validate(row.record),
        EvaluationRequest.model_validate(row.request),
        row.salt,
        row.approvable,
        row.digest,
    )
