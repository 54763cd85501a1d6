"""Policy creation: from sentences to a policy set in force, as steps each of which has its effect once however often it is tried."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import JsonValue

from acgs1.contracts.auth import Identity
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import VerificationReport
from acgs1.contracts.governance_synthesis import NewDraft, NewPolicyCreation, RepairRequest
from acgs1.contracts.policy_governance import Bundle, NewBundle, NewProposal, Proposal
from acgs1.core.clock import Clock
from acgs1.core.errors import ErrorItem
from acgs1.core.ids import new_id
from acgs1.kit.errors import OutcomeUnknown, UpstreamRejected
from acgs1.services.governance_synthesis.errors import NotProvable
from acgs1.services.governance_synthesis.ports import Parts, Waiting
from acgs1.services.governance_synthesis.service import SynthesisService

Outcome = Literal["activated", "rejected"]
Step = Callable[[str, Callable[[], Awaitable[JsonValue]]], Awaitable[Any]]
"""Does the work and keeps its result under the name; a result that is kept already is returned and the work not done."""

_NOT_ALLOWED: Final = frozenset({"forbidden", "not_a_member"})
_ITEMS: Final = 20


class PolicyCreation:
    """Drafts, has it proved, repairs what is refuted, builds, proposes, waits for the vote, activates, finds the evidence.

    It acts in the name of its starter where a role is asked for, and the part that is asked looks up the starter's roles then. Where they
    do not reach (to propose takes a member, to activate an operator) it waits until somebody whose roles do has done that step. It casts
    no ballot: nothing here can.
    """

    def __init__(self, synthesis: SynthesisService, parts: Parts, clock: Clock) -> None:
        self._synthesis = synthesis
        self._parts = parts
        self._clock = clock

    async def run(self, workflow_id: str, request: NewPolicyCreation, starter: Identity, step: Step) -> Outcome:
        """Between the steps there is nothing but their results: a repeat with the same results takes the same way."""
        begun = await step("constitution", self._begin)
        constitution_hash: str = begun["constitution"]

        async def drafted() -> JsonValue:
            constitution = await self._parts.constitution(constitution_hash)
            body = NewDraft(constitution=constitution, strategy=request.strategy, instructions=request.instructions)
            draft = await self._synthesis.draft(body, starter, begun["draft"])
            return {"draft": draft.id, "policies_hash": draft.policies_hash}

        draft = await step("draft", drafted)
        report = await self._prove(workflow_id, constitution_hash, draft["draft"], 0, step)
        repairs = 0
        while report["verdict"] == "refuted" and repairs < request.repairs:
            repairs += 1
            draft = await step(f"repair-{repairs}", self._repair(draft["draft"], report, starter))
            report = await self._prove(workflow_id, constitution_hash, draft["draft"], repairs, step)

        built = await step(
            "bundle", self._build(workflow_id, request, constitution_hash, draft["draft"], report, repairs, starter)
        )
        bundle: str = built["bundle"]
        if built["status"] == "built":
            proposal: str = (await step("proposal", self._propose(workflow_id, request, bundle, starter)))["proposal"]
            vote = await step("vote", self._vote(proposal))
            if vote["status"] in {"rejected", "cancelled"}:
                return "rejected"
            await step("enactment", self._enact(proposal))
        active = await step("activation", self._activate(bundle, built["activated_at"], starter))
        await step("evidence", self._evidence(bundle, active["activated_at"]))
        return "activated"

    async def _begin(self) -> JsonValue:
        # The draft's id is settled before the draft is made, so that a repeat finds it.
        return {"constitution": (await self._parts.in_force()).hash, "draft": new_id("drf")}

    # --- proof ---

    async def _prove(self, workflow_id: str, constitution_hash: str, draft_id: str, turn: int, step: Step) -> Any:
        async def submitted() -> JsonValue:
            draft = await self._synthesis.get(draft_id)
            constitution = await self._parts.constitution(constitution_hash)
            name = f"{workflow_id}.verification-{turn}"
            return {"verification": await self._parts.verify(draft.policies, constitution, name)}

        verification = await step(f"verification-{turn}", submitted)

        async def reported() -> JsonValue:
            report = await self._report(verification["verification"])
            refuted = [obligation.id for obligation in report.obligations if obligation.verdict == "refuted"]
            return {
                "report": report.id,
                "verdict": report.verdict,
                "obligations": len(report.obligations),
                "refuted": [*refuted[:_ITEMS]],
                "certificate": report.certificate_hash,
                "next_draft": new_id("drf"),
            }

        return await step(f"proof-{turn}", reported)

    async def _report(self, verification_id: str) -> VerificationReport:
        found = await self._parts.verification(verification_id)
        if isinstance(found, VerificationReport):
            return found
        if found.status == "running":
            raise Waiting(f"the proof: {found.obligations_done} of {found.obligations_total} obligations are done")
        raise NotProvable(f"verification `{verification_id}` is {found.status}: {found.detail or 'no reason given'}")

    def _repair(self, draft_id: str, report: Any, starter: Identity) -> Callable[[], Awaitable[JsonValue]]:
        async def repaired() -> JsonValue:
            full = await self._report(report["report"])
            draft = await self._synthesis.repair(draft_id, RepairRequest(report=full), starter, report["next_draft"])
            return {"draft": draft.id, "policies_hash": draft.policies_hash, "changes": [n.change for n in draft.notes]}

        return repaired

    # --- bundle ---

    def _build(
        self,
        workflow_id: str,
        request: NewPolicyCreation,
        constitution_hash: str,
        draft_id: str,
        report: Any,
        repairs: int,
        starter: Identity,
    ) -> Callable[[], Awaitable[JsonValue]]:
        async def built() -> JsonValue:
            if report["verdict"] != "proved":
                full = await self._report(report["report"])
                raise _not_provable(full, repairs)
            draft = await self._synthesis.get(draft_id)
            constitution: Constitution = await self._parts.constitution(constitution_hash)
            certificate = await self._parts.certificate(report["certificate"])
            body = NewBundle(
                name=request.name, policies=draft.policies, constitution=constitution, certificate=certificate
            )
            bundle = await self._parts.build(body, starter.id, f"{workflow_id}.bundle")
            # The same content is the same bundle, so this one may have come further already.
            return {"bundle": bundle.hash, "status": bundle.status, "activated_at": _activated_at(bundle)}

        return built

    # --- vote ---

    def _propose(
        self, workflow_id: str, request: NewPolicyCreation, bundle: str, starter: Identity
    ) -> Callable[[], Awaitable[JsonValue]]:
        body = NewProposal(bundle_hash=bundle, title=request.name, voting_seconds=request.voting_seconds)

        async def proposed() -> JsonValue:
            proposal = await self._parts.proposal_of(bundle)
            if proposal is None:
                try:
                    proposal = await self._parts.propose(body, starter.id, f"{workflow_id}.proposal")
                except UpstreamRejected as error:
                    if error.upstream_code in _NOT_ALLOWED:
                        raise Waiting(f"a member to propose bundle `{bundle}`: {error.detail}") from None
                    if error.upstream_code != OutcomeUnknown.code:
                        raise
                    # The proposal was made, and only its answer is missing; or it was made and refused, and no longer lives.
                    proposal = await self._parts.proposal_of(bundle)
                    if proposal is None:
                        proposal = await self._parts.propose(body, starter.id, new_id("idk"))
            if proposal.index is None:
                raise Waiting(f"the ledger to take proposal `{proposal.id}`")
            return {"proposal": proposal.id, "index": proposal.index, "proposed_by": proposal.proposed_by}

        return proposed

    def _vote(self, proposal_id: str) -> Callable[[], Awaitable[JsonValue]]:
        tried: list[tuple[int, int, int]] = []

        async def decided() -> JsonValue:
            proposal = await self._parts.proposal(proposal_id)
            tally = (proposal.for_weight, proposal.against_weight, proposal.abstain_weight)
            over = proposal.closes_at is not None and proposal.closes_at <= self._clock.now()
            if proposal.status == "open" and (over or tally not in tried):
                # Whether the rest could still change the outcome is for the ledger to say.
                try:
                    proposal = await self._parts.finalize(proposal_id)
                except UpstreamRejected as error:
                    if error.upstream_code != "ledger_voting_period_not_ended":
                        raise
                    tried.append(tally)
            if proposal.status in {"open", "submitting"}:
                raise Waiting(_waiting_for_votes(proposal, proposal.closes_at))
            return {
                "status": proposal.status,
                "for": proposal.for_weight,
                "against": proposal.against_weight,
                "abstain": proposal.abstain_weight,
            }

        return decided

    def _enact(self, proposal_id: str) -> Callable[[], Awaitable[JsonValue]]:
        async def enacted() -> JsonValue:
            proposal = await self._parts.proposal(proposal_id)
            if proposal.status != "enacted":
                proposal = await self._parts.finalize(proposal_id)
            if proposal.status != "enacted":
                raise Waiting(f"the ledger to enact proposal `{proposal_id}`, which is {proposal.status}")
            return {"signatures": {**proposal.signatures}}

        return enacted

    # --- activation ---

    def _activate(self, bundle_hash: str, before: str | None, starter: Identity) -> Callable[[], Awaitable[JsonValue]]:
        """`before` is when the bundle had last been activated as this workflow came to it: one that was retired since comes back."""

        async def activated() -> JsonValue:
            bundle = await self._parts.bundle(bundle_hash)
            # Activated meanwhile, by this workflow or a person; whether it still is, is not this workflow's business any more.
            if bundle.status != "active" and _activated_at(bundle) == before:
                try:
                    bundle = await self._parts.activate(bundle_hash, starter.id)
                except UpstreamRejected as error:
                    if error.upstream_code in _NOT_ALLOWED:
                        raise Waiting(f"an operator to activate bundle `{bundle_hash}`: {error.detail}") from None
                    if error.upstream_code == "activation_frozen":
                        raise Waiting(f"the end of an emergency: {error.detail}") from None
                    raise
            return {"bundle": bundle.hash, "activated_at": _activated_at(bundle)}

        return activated

    def _evidence(self, bundle_hash: str, activated_at: str) -> Callable[[], Awaitable[JsonValue]]:
        async def found() -> JsonValue:
            logged = await self._parts.logged("bundle.activated", bundle_hash, datetime.fromisoformat(activated_at))
            if logged is None:
                raise Waiting("the log to take the activation")
            return {"event": logged.event_id, "leaf_index": logged.leaf_index, "tree_size": logged.tree_size}

        return found


def _activated_at(bundle: Bundle) -> str | None:
    return None if bundle.activated_at is None else bundle.activated_at.isoformat()


def _waiting_for_votes(proposal: Proposal, closes_at: datetime | None) -> str:
    if proposal.status == "submitting":
        return f"the ledger to take proposal `{proposal.id}`"
    return (
        f"the vote on proposal `{proposal.id}`, open until {closes_at}: for {proposal.for_weight}, "
        f"against {proposal.against_weight}, abstain {proposal.abstain_weight}"
    )


def _not_provable(report: VerificationReport, repairs: int) -> NotProvable:
    open_ones = [obligation for obligation in report.obligations if obligation.verdict != "proved"]
    items = tuple(
        ErrorItem(
            o.counterexample.explanation if o.counterexample else f"{o.verdict}: {o.reason or 'no reason given'}",
            f"obligation:{o.id}",
        )
        for o in open_ones[:_ITEMS]
    )
    tried = f" after {repairs} repair(s)" if repairs else ""
    return NotProvable(
        f"report `{report.id}`: {report.verdict}, {len(open_ones)} of {len(report.obligations)} obligations{tried}",
        items=items,
    )
