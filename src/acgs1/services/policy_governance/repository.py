"""All queries of policy_governance."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, update

from acgs1.contracts.formal_verification import Certificate
from acgs1.contracts.policy_governance import (
    Approval,
    Ballot,
    Bundle,
    BundleStatus,
    DecisionRecord,
    EvaluationRequest,
    Member,
    Proposal,
)
from acgs1.core.ids import new_id
from acgs1.kit.db import page
from acgs1.kit.outbox import Recorder
from acgs1.services.policy_governance.domain import Recorded
from acgs1.services.policy_governance.models import (
    ApprovalRow,
    BallotRow,
    BundleRow,
    DecisionRow,
    MemberRow,
    ProposalRow,
)


class GovernanceRepository(Recorder):
    """This service's state, inside the transaction of its session."""

    async def add_member(self, member: Member) -> None:
        await self.session.merge(MemberRow(user_id=member.user_id, document=member.model_dump(mode="json")))

    async def member(self, user_id: str) -> Member | None:
        row = await self.session.get(MemberRow, user_id)
        return Member.model_validate(row.document) if row else None

    async def members(self) -> list[Member]:
        rows = await self.session.scalars(select(MemberRow).order_by(MemberRow.user_id))
        return [Member.model_validate(row.document) for row in rows]

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

    async def active_bundle(self) -> tuple[Bundle, Certificate] | None:
        return _bundle(await self.session.scalar(select(BundleRow).where(BundleRow.status == "active")))

    async def bundles(self, cursor: str | None, limit: int) -> tuple[list[Bundle], str | None]:
        rows, following = await page(self.session, select(BundleRow), BundleRow.sequence, cursor, limit)
        return [found[0] for row in rows if (found := _bundle(row))], following

    async def set_bundle_status(self, bundle_hash: str, status: BundleStatus, at: datetime | None = None) -> None:
        change = update(BundleRow).where(BundleRow.hash == bundle_hash).values(status=status)
        await self.session.execute(change.values(activated_at=at) if at else change)

    async def keep_proposal(self, proposal: Proposal) -> None:
        document = proposal.model_dump(mode="json")
        await self.session.merge(ProposalRow(id=proposal.id, status=proposal.status, document=document))

    async def proposal(self, proposal_id: str) -> Proposal | None:
        row = await self.session.get(ProposalRow, proposal_id)
        return Proposal.model_validate(row.document) if row else None

    async def proposals(self, cursor: str | None, limit: int) -> tuple[list[Proposal], str | None]:
        rows, following = await page(self.session, select(ProposalRow), ProposalRow.id, cursor, limit)
        return [Proposal.model_validate(row.document) for row in rows], following

    async def unfinished_proposals(self) -> list[Proposal]:
        unfinished = ProposalRow.status.in_(["submitting", "open", "accepted"])
        rows = await self.session.scalars(select(ProposalRow).where(unfinished).order_by(ProposalRow.id))
        return [Proposal.model_validate(row.document) for row in rows]

    async def keep_ballot(self, ballot: Ballot, user_id: str) -> None:
        document = ballot.model_dump(mode="json")
        await self.session.merge(BallotRow(proposal_id=ballot.proposal_id, user_id=user_id, document=document))

    async def known_decisions(self, ids: Sequence[str]) -> set[str]:
        """Which of these are here already (the spool repeats after a crash)."""
        return set(await self.session.scalars(select(DecisionRow.id).where(DecisionRow.id.in_(ids))))

    async def keep_decisions(self, decisions: Sequence[Recorded]) -> None:
        self.session.add_all(
            DecisionRow(
                id=decision.record.id,
                record=decision.record.model_dump(mode="json"),
                request=decision.request.model_dump(mode="json"),
                salt=decision.salt,
                approvable=decision.approvable,
                digest=decision.digest,
            )
            for decision in decisions
        )

    async def decision(self, decision_id: str) -> Recorded | None:
        row = await self.session.get(DecisionRow, decision_id)
        return _decision(row) if row else None

    async def decisions(self, cursor: str | None, limit: int) -> tuple[list[Recorded], str | None]:
        rows, following = await page(self.session, select(DecisionRow), DecisionRow.id, cursor, limit)
        return [_decision(row) for row in rows], following

    async def keep_approval(self, approval: Approval) -> None:
        document = approval.model_dump(mode="json")
        await self.session.merge(ApprovalRow(id=approval.id, status=approval.status, document=document))

    async def approval(self, approval_id: str) -> Approval | None:
        row = await self.session.get(ApprovalRow, approval_id)
        return _approval(row) if row else None

    async def approvals(self, status: str | None, cursor: str | None, limit: int) -> tuple[list[Approval], str | None]:
        statement = select(ApprovalRow)
        if status is not None:
            statement = statement.where(ApprovalRow.status == status)
        rows, following = await page(self.session, statement, ApprovalRow.id, cursor, limit)
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
