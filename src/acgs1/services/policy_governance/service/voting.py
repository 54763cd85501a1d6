"""Proposals of every kind and their ballots. The ledger decides; this sends what people ask for and follows it."""

from collections.abc import Mapping

from pydantic import JsonValue

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Page
from acgs1.contracts.events import Event, new_event
from acgs1.contracts.policy_governance import (
    Ballot,
    Change,
    GovernanceState,
    NewAmendment,
    NewBallot,
    NewMembershipChange,
    NewParameters,
    NewProposal,
    NewRatification,
    Proposal,
    ProposalKind,
    RatifyEmergency,
    RegisterMember,
    RemoveMember,
    SetParameters,
    SetWeight,
)
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.ids import new_id
from acgs1.services.policy_governance.domain import TRANSACTION_LIFETIME, amendment
from acgs1.services.policy_governance.errors import (
    BundleNotFound,
    ConstitutionNotInForce,
    ConstitutionUnknown,
    NothingToChange,
    NotTheProposer,
    OwnWallet,
    ProposalNotFound,
    ProposalNotOpen,
)
from acgs1.services.policy_governance.ports import Governance, Ledger, Texts, Verifier
from acgs1.services.policy_governance.service.chronicle import Chronicle, place
from acgs1.services.policy_governance.service.members import Members

_SERVICE = "policy_governance"
_SECONDS_TO_CARRY_OUT = 60


class Voting:
    """The vote. Every step first keeps its intent, then goes to the ledger, then follows what happened there, so that a kill
    between any two of them is repaired by `resume`."""

    def __init__(
        self,
        store: Governance,
        ledger: Ledger,
        chronicle: Chronicle,
        members: Members,
        verifier: Verifier,
        texts: Texts,
        clock: Clock,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._chronicle = chronicle
        self._members = members
        self._verifier = verifier
        self._texts = texts
        self._clock = clock

    async def state(self) -> GovernanceState:
        """What the ledger says now."""
        return await self._ledger.state()

    # --- proposing ---

    async def propose(self, request: NewProposal, by: Identity) -> Proposal:
        """Have the certificate attested and the vote opened. The proposer is a member; raises ConstitutionNotInForce when the bundle
        was proved against another constitution than the one in force."""
        state = await self._ledger.state()
        async with self._store.reading() as records:
            found = await records.bundle(request.bundle_hash)
        if found is None:
            raise BundleNotFound(f"`{request.bundle_hash}` is not a bundle here; build it first")
        bundle, certificate = found
        if bundle.constitution_hash != state.constitution_hash:
            raise ConstitutionNotInForce(
                f"proved against `{bundle.constitution_hash}`, in force is `{state.constitution_hash}`; verify it again"
            )
        made = await self._make("policy", request.title, request.voting_seconds, by, None)
        proofs = {
            "bundle_hash": bundle.hash,
            "certificate_hash": bundle.certificate_hash,
            "content_hash": certificate.body.policies_hash,
        }
        return await self._begin(made.model_copy(update=proofs), by)

    async def propose_amendment(self, request: NewAmendment, by: Identity) -> Proposal:
        """Put a draft of constitutional_ai to the vote, in place of the constitution in force. Raises AmendmentTooWide, NothingToChange."""
        state = await self._ledger.state()
        if not state.ratified or state.constitution_hash is None:
            raise ConstitutionNotInForce("none is in force yet; adopt the founding one in constitutional_ai")
        new = await self._texts.text(request.constitution_hash)
        if new is None:
            raise ConstitutionUnknown(f"`{request.constitution_hash}`: keep it first, POST /api/v1/constitutions there")
        old = await self._texts.text(state.constitution_hash)
        if old is None:
            raise ConstitutionUnknown(f"`{state.constitution_hash}`, which is in force, is not kept there")
        change = amendment(old, new, await self._ledger.principles())
        async with self._store.transaction() as records:
            # Its guards must be at hand when it comes into force, whoever is away then.
            await records.keep_constitution(new)
        kind: ProposalKind = "constitution" if change.change == "amend_text" else "principle"
        return await self._begin(await self._make(kind, request.title, request.voting_seconds, by, change), by)

    async def propose_membership(self, request: NewMembershipChange, by: Identity) -> Proposal:
        """Put a change of the member register to the vote."""
        change: Change
        if request.action == "register":
            wallet = await self._members.enrol(request.user_id, request.wallet)
            change = RegisterMember(user_id=request.user_id, wallet=wallet, weight=_given(request.weight))
        else:
            member = await self._members.of(request.user_id, request.user_id)
            if request.action == "remove":
                change = RemoveMember(user_id=member.user_id, wallet=member.wallet)
            else:
                weight = _given(request.weight)
                if weight == member.weight:
                    raise NothingToChange(f"the weight is {weight} already")
                change = SetWeight(user_id=member.user_id, wallet=member.wallet, weight=weight)
        return await self._begin(await self._make("membership", request.title, request.voting_seconds, by, change), by)

    async def propose_parameters(self, request: NewParameters, by: Identity) -> Proposal:
        """Put other rules for the votes to come to the vote."""
        now = await self._ledger.state()
        change = SetParameters(
            shortest_voting_seconds=request.shortest_voting_seconds or now.voting_seconds,
            threshold_bp=request.threshold_bp or now.threshold_bp,
            quorum_bp=request.quorum_bp or now.quorum_bp,
            vote_change_allowed=(
                now.vote_change_allowed if request.vote_change_allowed is None else request.vote_change_allowed
            ),
        )
        present = (now.voting_seconds, now.threshold_bp, now.quorum_bp, now.vote_change_allowed)
        if tuple(change.model_dump(exclude={"change"}).values()) == present:
            raise NothingToChange("these are the rules already")
        return await self._begin(await self._make("parameters", request.title, request.voting_seconds, by, change), by)

    async def propose_ratification(self, request: NewRatification, by: Identity) -> Proposal:
        """Put an emergency action in effect to the vote."""
        await self._chronicle.catch_up()
        action = await self._chronicle.acting(request.emergency)
        agent = action.target if action.kind == "revoke_agent" else None
        change = RatifyEmergency(emergency=request.emergency, agent=agent)
        seconds = request.voting_seconds
        if action.expires_at is not None:
            # The vote ends, and is carried out, before the action does; the ledger's shortest window holds all the same.
            left = int((action.expires_at - self._clock.now()).total_seconds()) - _SECONDS_TO_CARRY_OUT
            seconds = max(1, min(seconds, left))
        made = await self._make("emergency_ratification", request.title, seconds, by, change)
        return await self._begin(made, by)

    # --- the vote ---

    async def vote(self, proposal_id: str, request: NewBallot, by: Identity) -> Ballot:
        """Cast the caller's ballot with the weight that the register gives them."""
        member = await self._members.member(by)
        proposal = await self.proposal(proposal_id)
        if proposal.status != "open":
            raise ProposalNotOpen(f"it is `{proposal.status}`")
        if member.own_wallet:
            raise OwnWallet(f"`{member.wallet}` signs: POST /api/v1/wallet-transactions with act `vote`")
        signature = await self._ledger.vote(by.id, proposal, request.choice)
        await self._follow()
        async with self._store.reading() as records:
            cast = await records.ballot(proposal_id, member.wallet)
        if cast is not None and cast.signature == signature:
            return cast
        # The ballot stands on the ledger; the ledger has fallen silent since, and the sums follow with the next look at it.
        return Ballot(
            proposal_id=proposal_id,
            choice=request.choice,
            weight=member.weight,
            signature=signature,
            wallet=member.wallet,
            user_id=by.id,
        )

    async def finalize(self, proposal_id: str, by: Identity) -> Proposal:
        """Close the vote and carry out what it decided. Safe to repeat: it goes on from where the ledger stands."""
        await self._chronicle.catch_up()
        proposal = await self.proposal(proposal_id)
        if proposal.status in {"open", "accepted"} or _ends_an_emergency(proposal):
            await self._ask(proposal, "finalization_asked", by, enacting=True)
            proposal = await self._carry_on(proposal_id)
        return proposal

    async def cancel(self, proposal_id: str, by: Identity) -> Proposal:
        """Take a proposal back before its vote is finalized. Only its proposer can."""
        proposal = await self._proposers(proposal_id, by, "cancel")
        if proposal.status in {"unsigned", "submitting"} and proposal.index is None:
            if await self._ledger.find(proposal) is None and proposal.status == "unsigned":
                await self._ask(proposal, "withdrawn", by, status="cancelled")
                return await self.proposal(proposal_id)
            raise ProposalNotOpen("it is on its way to the ledger; try again in a moment")
        if proposal.status != "open":
            raise ProposalNotOpen(f"it is `{proposal.status}`")
        await self._ask(proposal, "cancellation_asked", by)
        await self._ledger.cancel(by.id, proposal)
        await self._follow()
        return await self.proposal(proposal_id)

    async def close(self, proposal_id: str, by: Identity) -> Proposal:
        """Close the account of a finished proposal; its rent goes back to the wallet that paid it. Only the proposer can."""
        proposal = await self._proposers(proposal_id, by, "close")
        if proposal.closed:
            return proposal
        await self._ask(proposal, "closing_asked", by)
        await self._ledger.close(by.id, proposal)
        await self._follow()
        return await self.proposal(proposal_id)

    async def proposal(self, proposal_id: str) -> Proposal:
        async with self._store.reading() as records:
            proposal = await records.proposal(proposal_id)
        if proposal is None:
            raise ProposalNotFound(f"`{proposal_id}` is not a proposal here")
        return proposal

    async def proposals(self, cursor: str | None, limit: int) -> Page[Proposal]:
        async with self._store.reading() as records:
            rows, following = await records.proposals(cursor, limit)
        return Page[Proposal](items=rows, next_cursor=following)

    async def ballots(self, proposal_id: str, cursor: str | None, limit: int) -> Page[Ballot]:
        """The ballots that the ledger took, by wallet address, also of wallets that vote past this service."""
        await self.proposal(proposal_id)
        async with self._store.reading() as records:
            rows, following = await records.ballot_page(proposal_id, cursor, limit)
        return Page[Ballot](items=rows, next_cursor=following)

    async def resume(self) -> None:
        """Go on with what a crash cut off: submit what was kept and not sent, carry out what somebody has asked for. Raises the
        ledger's errors when it is away, to be called again."""
        async with self._store.reading() as records:
            unsent = await records.proposals_with("submitting")
            decided = await records.proposals_with("open", "accepted", "rejected")
        for proposal in unsent:
            if await self._claim(proposal):
                try:
                    await self._submit(proposal)
                except DomainError as error:
                    if not _is_final(error):
                        raise
        for proposal in decided:
            if proposal.enacting:
                try:
                    await self._carry_on(proposal.id)
                except DomainError as error:
                    if not _is_final(error):
                        raise

    # --- steps ---

    async def _make(
        self, kind: ProposalKind, title: str, seconds: int, by: Identity, change: Change | None
    ) -> Proposal:
        member = await self._members.member(by)
        return Proposal(
            id=new_id("prp"),
            kind=kind,
            title=title,
            bundle_hash=None,
            certificate_hash=None,
            content_hash=self._ledger.content_of(change) if change is not None else None,
            change=change,
            status="unsigned" if member.own_wallet else "submitting",
            index=None,
            address=None,
            for_weight=0,
            against_weight=0,
            abstain_weight=0,
            closes_at=None,
            voting_seconds=seconds,
            proposed_by=by.id,
            wallet=member.wallet,
            tried_at=None if member.own_wallet else self._clock.now(),
            created_at=self._clock.now(),
        )

    async def _begin(self, proposal: Proposal, by: Identity) -> Proposal:
        """Keep the intent, then open the vote; a member with their own wallet signs that first."""
        facts: dict[str, JsonValue] = {"kind": proposal.kind, "content": proposal.content_hash}
        if proposal.bundle_hash:
            facts["bundle"] = proposal.bundle_hash
        if proposal.change is not None:
            facts["change"] = proposal.change.model_dump(mode="json")
        async with self._store.transaction() as records:
            await records.keep_proposal(proposal)
            await records.record(self._event("proposal.made", by.id, proposal.id, facts))
        if proposal.status == "unsigned":
            await self._attest(proposal)
            return await self.proposal(proposal.id)
        return await self._submit(proposal)

    async def _submit(self, proposal: Proposal) -> Proposal:
        try:
            await self._attest(proposal)
            opened = await self._ledger.propose(proposal)
        except DomainError as error:
            if _is_final(error):
                refused = proposal.model_copy(update={"status": "cancelled", "refusal": error.code})
                async with self._store.transaction() as records:
                    await records.keep_proposal(refused)
                    event = self._event("proposal.refused", "ledger", proposal.id, {"code": error.code})
                    await records.record(event)
            raise
        async with self._store.transaction() as records:
            await place(records, proposal.id, opened)
        await self._chronicle.catch_up()
        return await self.proposal(proposal.id)

    async def _claim(self, proposal: Proposal) -> bool:
        """Whether it is ours to send again: not while a transaction that somebody sent for it may still land."""
        now = self._clock.now()
        async with self._store.transaction() as records:
            kept = await records.proposal(proposal.id)
            if kept is None or kept.status != "submitting" or kept.index is not None:
                return False
            if kept.tried_at is not None and now - kept.tried_at < TRANSACTION_LIFETIME:
                return False
            await records.keep_proposal(kept.model_copy(update={"tried_at": now}))
        return True

    async def _attest(self, proposal: Proposal) -> None:
        """Have the certificate of a bundle attested: the ledger enacts no policy without."""
        if proposal.certificate_hash is None:
            return
        signature = await self._verifier.attest(proposal.certificate_hash)
        async with self._store.transaction() as records:
            kept = await records.proposal(proposal.id)
            if kept is not None:
                signatures = {**kept.signatures, "attest": signature}
                await records.keep_proposal(kept.model_copy(update={"signatures": signatures}))

    async def _carry_on(self, proposal_id: str) -> Proposal:
        """Finalize and enact as far as is left. A refusal is kept, and nobody tries again until somebody asks."""
        proposal = await self.proposal(proposal_id)
        try:
            if proposal.status == "open":
                await self._ledger.finalize(proposal)
                await self._chronicle.catch_up()
                proposal = await self.proposal(proposal_id)
            if proposal.status == "accepted" or _ends_an_emergency(proposal):
                await self._ledger.enact(proposal)
                await self._chronicle.catch_up()
        except DomainError as error:
            if not _is_final(error):
                raise
            # Somebody else may have been quicker: another worker, another client.
            await self._follow()
            if (await self.proposal(proposal_id)).status != "enacted":
                await self._refused(proposal_id, error)
                raise
        async with self._store.transaction() as records:
            kept = await records.proposal(proposal_id)
            if kept is not None and kept.enacting:
                await records.keep_proposal(kept.model_copy(update={"enacting": False, "refusal": None}))
        return await self.proposal(proposal_id)

    async def _refused(self, proposal_id: str, error: DomainError) -> None:
        async with self._store.transaction() as records:
            kept = await records.proposal(proposal_id)
            if kept is not None:
                await records.keep_proposal(kept.model_copy(update={"enacting": False, "refusal": error.code}))
                event = self._event("proposal.enactment_refused", "ledger", proposal_id, {"code": error.code})
                await records.record(event)

    async def _proposers(self, proposal_id: str, by: Identity, act: str) -> Proposal:
        """The proposal, if the caller made it with the wallet that is kept here."""
        proposal = await self.proposal(proposal_id)
        if proposal.proposed_by != by.id:
            raise NotTheProposer(f"`{by.name}` did not make it")
        if (
            proposal.wallet is not None
            and proposal.wallet != self._ledger.wallet_of(by.id)
            and proposal.index is not None
        ):
            raise OwnWallet(f"`{proposal.wallet}` signs: POST /api/v1/wallet-transactions with act `{act}`")
        return proposal

    async def _ask(self, proposal: Proposal, what: str, by: Identity, **changes: JsonValue) -> None:
        async with self._store.transaction() as records:
            kept = await records.proposal(proposal.id)
            if kept is not None and changes:
                await records.keep_proposal(kept.model_copy(update=changes))
            await records.record(self._event(f"proposal.{what}", by.id, proposal.id, {}))

    async def _follow(self) -> None:
        """Take in what was just done. When the ledger falls silent it stands there all the same, and is taken in later."""
        try:
            await self._chronicle.catch_up()
        except DomainError as error:
            if _is_final(error):
                raise

    def _event(self, kind: str, actor: str, subject: str, data: Mapping[str, JsonValue]) -> Event:
        return new_event(_SERVICE, kind, self._clock.now(), actor=actor, subject=subject).model_copy(
            update={"data": dict(data)}
        )


def _ends_an_emergency(proposal: Proposal) -> bool:
    """A ratification that a quorum rejects takes effect too: the action ends."""
    rejected = proposal.kind == "emergency_ratification" and proposal.status == "rejected"
    return rejected and proposal.quorum_reached is True


def _given(weight: int | None) -> int:
    if weight is None:
        raise NothingToChange("`weight` is missing: it is what the register would give")
    return weight


def _is_final(error: DomainError) -> bool:
    """Whether trying again cannot help: the ledger or the verifier has answered no."""
    return error.code not in {
        "dependency_unavailable",
        "ledger_unavailable",
        "ledger_transaction_uncertain",
        "ledger_transaction_expired",
    }
