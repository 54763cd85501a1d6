"""A person's answer to a decision that a human could turn into an allow."""

from datetime import datetime

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.events import new_event
from acgs1.contracts.policy_governance import Approval, ApprovalAnswer, NewApproval
from acgs1.core.clock import Clock
from acgs1.core.ids import new_id
from acgs1.services.policy_governance.domain import APPROVAL_LIFETIME, request_digest
from acgs1.services.policy_governance.errors import (
    ApprovalClosed,
    ApprovalNotFound,
    NotApprovable,
    NotTheSubject,
    RequestDiffers,
)
from acgs1.services.policy_governance.ports import Governance, Spool
from acgs1.services.policy_governance.service.decisions import find_decision


class Approvals:
    """An approval covers exactly what the person saw: this subject, action, resource, every attribute and argument,
    under this bundle, for an hour, once."""

    def __init__(self, store: Governance, spool: Spool, clock: Clock) -> None:
        self._store = store
        self._spool = spool
        self._clock = clock

    async def ask(self, request: NewApproval, by: Identity) -> Approval:
        """Put a denied request before a person."""
        decision = await find_decision(self._store, self._spool, request.decision_id)
        if Role.AGENT in by.roles and decision.record.caller != by.id:
            raise NotTheSubject("the decision was another caller's")
        if not decision.approvable or decision.record.bundle_hash is None:
            raise NotApprovable(f"decision `{request.decision_id}` is `{decision.record.reason}`")
        if request_digest(request.request) != decision.digest:
            raise RequestDiffers("send the request exactly as it was decided")
        now = self._clock.now()
        approval = Approval(
            id=new_id("apr"),
            decision_id=request.decision_id,
            status="pending",
            subject=decision.record.subject,
            action=decision.record.action,
            resource=f"{request.request.resource.type}::{request.request.resource.id}",
            request=request.request,
            request_digest=decision.digest,
            bundle_hash=decision.record.bundle_hash,
            note=request.note,
            requested_by=by.id,
            answered_by=None,
            reason=None,
            created_at=now,
            expires_at=now + APPROVAL_LIFETIME,
        )
        async with self._store.transaction() as records:
            await records.keep_approval(approval)
            data = {"decision": request.decision_id}
            await records.record(
                new_event("policy_governance", "approval.requested", now, actor=by.id, subject=approval.id, **data)
            )
        return approval

    async def answer(self, approval_id: str, answer: ApprovalAnswer, by: Identity) -> Approval:
        """Grant or refuse; raises ApprovalClosed when it was answered or has expired."""
        now = self._clock.now()
        async with self._store.transaction() as records:
            approval = _seen(await records.approval(approval_id), approval_id)
            if approval.status != "pending" or approval.expires_at <= now:
                status = approval.status if approval.status != "pending" else "expired"
                raise ApprovalClosed(f"it is `{status}`")
            change = {"status": answer.answer, "answered_by": by.id, "reason": answer.reason}
            answered = approval.model_copy(update=change)
            await records.keep_approval(answered)
            data = {"decision": approval.decision_id}
            kind = f"approval.{answer.answer}"
            await records.record(new_event("policy_governance", kind, now, actor=by.id, subject=approval_id, **data))
        return answered

    async def approval(self, approval_id: str, by: Identity) -> Approval:
        async with self._store.reading() as records:
            approval = _seen(await records.approval(approval_id), approval_id)
        if Role.AGENT in by.roles and approval.requested_by != by.id:
            raise ApprovalNotFound(f"`{approval_id}` is not an approval of yours")
        return _shown(approval, self._clock.now())

    async def page(self, status: str | None, cursor: str | None, limit: int) -> Page[Approval]:
        async with self._store.reading() as records:
            now = self._clock.now()
            rows, following = await records.approvals(status, cursor, limit, now)
        return Page[Approval](items=[_shown(row, now) for row in rows], next_cursor=following)


def _seen(approval: Approval | None, approval_id: str) -> Approval:
    if approval is None:
        raise ApprovalNotFound(f"`{approval_id}` is not an approval here")
    return approval


def _shown(approval: Approval, now: datetime) -> Approval:
    """As it counts now: one whose time is over is expired, though nothing has written that down."""
    if approval.status in {"pending", "granted"} and approval.expires_at <= now:
        return approval.model_copy(update={"status": "expired"})
    return approval
