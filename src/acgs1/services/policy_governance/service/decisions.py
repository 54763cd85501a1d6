"""The decision point. It needs its bundle and its own disk, and nothing else."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import cast

import structlog

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.events import Commitment
from acgs1.contracts.policy_governance import (
    AccessRequest,
    Approval,
    DecisionContext,
    DecisionDocument,
    DecisionRecord,
    Emergency,
    EvaluationRequest,
    EvaluationResponse,
)
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.ids import is_id, new_id
from acgs1.services.policy_governance.domain import (
    APPROVAL_LIFETIME,
    LONGEST_NAME,
    Emergencies,
    Evaluated,
    Recorded,
    digest_and_commitment,
    in_effect,
    request_digest,
)
from acgs1.services.policy_governance.errors import BadEvaluation, DecisionNotFound, NotTheSubject
from acgs1.services.policy_governance.ports import Evaluator, Governance, Spool

_log = structlog.get_logger()
_LOOK_SECONDS = 0.1
_DETAILS = {
    "allowed": "a policy permits it and none forbids it",
    "no_policy_permits": "no policy permits it",
    "policy_forbids": "a policy forbids it",
    "constitution_forbids": "the constitution forbids it",
    "approval_required": "a person must approve it first",
    "no_active_bundle": "no bundle is active, so nothing is allowed",
    "not_recorded": "the decision could not be recorded, so nothing is allowed",
}


class DecisionPoint:
    """Decides by the bundle that it serves. Whatever goes wrong, the answer is deny with a reason of its own; and no answer leaves
    before its record is durable."""

    def __init__(self, store: Governance, spool: Spool, clock: Clock) -> None:
        self._store = store
        self._spool = spool
        self._clock = clock
        self._evaluator: Evaluator | None = None
        self._policies_hash = ""
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self.look: Callable[[], Awaitable[None]] | None = None
        """Asks what is active. Called while nothing is: another worker may have activated a bundle a moment ago."""
        self._actions: Sequence[Emergency] = ()
        self._emergencies = Emergencies()

    def serve(self, evaluator: Evaluator, policies_hash: str) -> None:
        """Decide by this bundle from now on."""
        self._evaluator = evaluator
        self._policies_hash = policies_hash

    def obey(self, actions: Sequence[Emergency]) -> None:
        """Obey these emergency actions from now on, each until its time is over."""
        self._actions = actions
        self._emergencies = in_effect(actions, self._clock.now())

    @property
    def emergencies(self) -> Emergencies:
        """What is stopped at this moment."""
        until, now = self._emergencies.until, self._clock.now()
        if until is not None and now >= until:
            self._emergencies = in_effect(self._actions, now)
        return self._emergencies

    @property
    def serving(self) -> str | None:
        """The hash of the bundle that decides now."""
        return self._evaluator.bundle.hash if self._evaluator else None

    async def decide(self, request: EvaluationRequest, caller: Identity) -> EvaluationResponse:
        """AuthZEN evaluation. An agent may ask about itself only (NotTheSubject)."""
        if Role.AGENT in caller.roles and request.subject.id != caller.id:
            raise NotTheSubject(f"the subject is `{request.subject.id}`, the caller is `{caller.id}`")
        _expect_recordable(request)
        salt = os.urandom(32)
        # Before anything else: what cannot be committed to is refused before it counts as a decision (BadEvaluation).
        digest, committed = digest_and_commitment(salt, request)
        if self._evaluator is None:
            await self._look()
        evaluator = self._evaluator
        reason, detail, evaluated, approval = await self._judge(evaluator, request)
        allowed = reason == "allowed"
        now = self._clock.now()
        policies = list(evaluated.policies) if evaluated else []
        principles = evaluator.principles(policies) if evaluator else []
        record = DecisionRecord(
            id=new_id("dec"),
            time=now,
            decision="allow" if allowed else "deny",
            reason=reason,
            subject=f"{request.subject.type}::{request.subject.id}",
            action=request.action.name,
            resource_type=request.resource.type,
            request=Commitment(sha256=committed),
            bundle_hash=evaluator.bundle.hash if evaluator else None,
            determining_policies=policies,
            principles=principles,
            approval_id=approval.id if approval else None,
            caller=caller.id,
        )
        approvable = reason == "approval_required"
        try:
            await self._spool.append(Recorded(record, request, salt, approvable, digest))
        except (OSError, DomainError) as error:  # the disk, or more decisions waiting for it than it can take
            _log.error("decision_not_recorded", decision=record.id, error=str(error))
            reason, detail, allowed, approvable = "not_recorded", _DETAILS["not_recorded"], False, False
        context = DecisionContext(
            evaluation_id=record.id,
            evaluated_at=now,
            reason=reason,
            detail=detail,
            policies=policies,
            principles=principles,
            bundle=record.bundle_hash,
            access_request=AccessRequest(endpoint="/api/v1/approvals", expires_at=now + APPROVAL_LIFETIME)
            if approvable
            else None,
        )
        # Not validated once more: that takes longer than evaluating the policies did.
        return EvaluationResponse.model_construct(
            decision=allowed, context=context.model_dump(mode="json", exclude_none=True)
        )

    async def _look(self) -> None:
        """Ask what is active, at most ten times a second."""
        async with self._looking:
            now = self._clock.monotonic()
            if self.look is None or self._evaluator is not None or now - self._looked_at < _LOOK_SECONDS:
                return
            self._looked_at = now
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - whatever it was: nothing is active here, and nothing is allowed
                _log.error("active_bundle_not_found", exc_info=error)

    async def _judge(  # noqa: PLR0911 - one return per reason
        self, evaluator: Evaluator | None, request: EvaluationRequest
    ) -> tuple[str, str, Evaluated | None, Approval | None]:
        """Reason, detail, what the evaluator said, and the approval that was used up."""
        if evaluator is None:
            return "no_active_bundle", _DETAILS["no_active_bundle"], None, None
        if stopped := self.emergencies.stops(self._policies_hash, request.subject.id):
            return "emergency", stopped, None, None
        try:
            evaluated = evaluator.evaluate(request, approved=False)
            if evaluated.allowed or not evaluator.asks_for_approval(request.action.name):
                return _judged(evaluated, None)
            with_approval = evaluator.evaluate(request, approved=True)
            if not with_approval.allowed:
                return _judged(evaluated, None)
        except BadEvaluation as error:
            return "invalid_request", error.detail, None, None
        approval_id = _approval_id(request)
        if approval_id is None:
            return "approval_required", _DETAILS["approval_required"], evaluated, None
        try:
            approval, problem = await self._use(approval_id, request, evaluator.bundle.hash)
        except Exception as error:  # noqa: BLE001 - whatever it was: an approval that cannot be used up does not count
            _log.error("approval_not_used", exc_info=error)
            approval, problem = None, "approvals cannot be read now"
        if approval is None:
            return "approval_required", f"approval `{approval_id[:80]}` does not count: {problem}", evaluated, None
        return _judged(with_approval, approval)

    async def _use(self, approval_id: str, request: EvaluationRequest, bundle_hash: str) -> tuple[Approval | None, str]:
        """Use the approval up if it is for exactly this; otherwise None and why."""
        if not is_id(approval_id, "apr"):
            return None, "it is not the id of an approval"
        async with self._store.transaction() as records:
            approval = await records.approval(approval_id)
            if approval is None:
                return None, "there is none with this id"
            if problem := _mismatch(approval, request, bundle_hash, self._clock.now()):
                return None, problem
            if not await records.use_approval(approval_id):
                return None, f"it is {approval.status}"
            return approval, ""

    async def document(self, decision_id: str) -> DecisionDocument:
        """A decision with its request, also before it has reached the database."""
        found = await find_decision(self._store, self._spool, decision_id)
        return DecisionDocument(record=found.record, request=found.request, salt=found.salt.hex())

    async def page(self, cursor: str | None, limit: int) -> Page[DecisionRecord]:
        async with self._store.reading() as records:
            rows, following = await records.decisions(cursor, limit)
        return Page[DecisionRecord](items=[row.record for row in rows], next_cursor=following)


def _expect_recordable(request: EvaluationRequest) -> None:
    """Raises BadEvaluation for names that the log's events have no room for: one such record would hold up all behind it."""
    named = {
        "subject.type::id": f"{request.subject.type}::{request.subject.id}",
        "action.name": request.action.name,
        "resource.type": request.resource.type,
    }
    for where, name in named.items():
        if len(name) > LONGEST_NAME:
            raise BadEvaluation(f"`{where}` has {len(name)} characters; at most {LONGEST_NAME} can be recorded")


def _judged(evaluated: Evaluated, approval: Approval | None) -> tuple[str, str, Evaluated, Approval | None]:
    detail = evaluated.errors[0] if evaluated.reason == "evaluation_error" else _DETAILS[evaluated.reason]
    return evaluated.reason, detail, evaluated, approval


def _approval_id(request: EvaluationRequest) -> str | None:
    """`context.approval.id`, where the request names an approval."""
    given = request.context.get("approval")
    if not isinstance(given, dict):
        return None
    named = cast("dict[str, object]", given).get("id")
    return named if isinstance(named, str) else None


def _mismatch(approval: Approval, request: EvaluationRequest, bundle_hash: str, now: datetime) -> str | None:
    """Why the approval does not cover this request, or None."""
    if approval.request_digest != request_digest(request):
        return "it was given for another request"
    if approval.bundle_hash != bundle_hash:
        return "the policies have changed since"
    if approval.expires_at <= now:
        return "it has expired"
    return None


async def find_decision(store: Governance, spool: Spool, decision_id: str) -> Recorded:
    """The decision, in the spool or already in the database; raises DecisionNotFound."""
    found = spool.pending(decision_id)
    if found is None:
        async with store.reading() as records:
            found = await records.decision(decision_id)
    if found is None:
        raise DecisionNotFound(f"`{decision_id}` is not a decision of this decision point")
    return found
