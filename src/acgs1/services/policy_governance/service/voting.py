"""Members, the founding constitution, proposals and ballots. The ledger decides; this follows it."""

from collections.abc import Mapping

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Event, new_event
from acgs1.contracts.policy_governance import (
    Ballot,
    GovernanceState,
    LedgerReceipt,
    Member,
    NewBallot,
    NewMember,
    NewProposal,
    Proposal,
)
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.ids import new_id
from acgs1.services.policy_governance.errors import (
    BundleNotFound,
    ConstitutionNotInForce,
    MemberExists,
    NotAMember,
    NotAPerson,
    ProposalNotFound,
    ProposalNotOpen,
)
from acgs1.services.policy_governance.ports import Governance, Ledger, People, Records, Verifier

_SERVICE = "policy_governance"


class Voting:
    """The vote. Every step first keeps its intent, then goes to the ledger, then follows what the ledger says, so that a kill
    between any two of them is repaired by `resume`."""

    def __init__(self, store: Governance, ledger: Ledger, people: People, verifier: Verifier, clock: Clock) -> None:
        self._store = store
        self._ledger = ledger
        self._people = people
        self._verifier = verifier
        self._clock = clock

    async def state(self) -> GovernanceState:
        """What the ledger says now."""
        return await self._ledger.state()

    async def ratify(self, constitution: Constitution, by: Identity) -> LedgerReceipt:
        """Put the founding constitution on the ledger; repeating it changes nothing."""
        receipt = await self._ledger.ratify(constitution)
        async with self._store.transaction() as records:
            data = {"version": receipt.constitution_version, "signature": receipt.signature}
            await records.record(self._event("ledger.constitution_ratified", by.id, constitution.hash, data))
        return receipt

    async def register_member(self, request: NewMember, by: Identity) -> Member:
        """Give a person a wallet and a weight. After ratification the ledger asks for an accepted proposal."""
        user = await self._people.user(request.user_id)
        if user is None or not user.active or Role.MEMBER not in user.roles:
            raise NotAPerson(f"`{request.user_id}` is not an active account with the role `member`")
        async with self._store.reading() as records:
            if await records.member(request.user_id):
                raise MemberExists(f"`{user.username}` is a member already")
        member = await self._ledger.register_member(request.user_id, request.weight)
        async with self._store.transaction() as records:
            await records.add_member(member)
            data = {"weight": member.weight, "wallet": member.wallet}
            await records.record(self._event("member.registered", by.id, member.user_id, data))
        return member

    async def members(self) -> list[Member]:
        async with self._store.reading() as records:
            return await records.members()

    async def propose(self, request: NewProposal, by: Identity) -> Proposal:
        """Have the certificate attested and the vote opened. The proposer is a member; raises ConstitutionNotInForce when the bundle
        was proved against another constitution than the one in force."""
        state = await self._ledger.state()
        now = self._clock.now()
        async with self._store.transaction() as records:
            found = await records.bundle(request.bundle_hash)
            if found is None:
                raise BundleNotFound(f"`{request.bundle_hash}` is not a bundle here; build it first")
            bundle, _ = found
            if bundle.constitution_hash != state.constitution_hash:
                raise ConstitutionNotInForce(
                    f"proved against `{bundle.constitution_hash}`, in force is `{state.constitution_hash}`; verify it again"
                )
            if await records.member(by.id) is None:
                raise NotAMember(f"`{by.name}` is not in the member register")
            proposal = Proposal(
                id=new_id("prp"),
                title=request.title,
                bundle_hash=bundle.hash,
                certificate_hash=bundle.certificate_hash,
                status="submitting",
                index=None,
                address=None,
                for_weight=0,
                against_weight=0,
                abstain_weight=0,
                closes_at=None,
                voting_seconds=request.voting_seconds,
                proposed_by=by.id,
                created_at=now,
            )
            await records.keep_proposal(proposal)
            await records.record(self._event("proposal.made", by.id, proposal.id, {"bundle": bundle.hash}))
        return await self._submit(proposal)

    async def vote(self, proposal_id: str, request: NewBallot, by: Identity) -> Ballot:
        """Cast the caller's ballot with the weight that the register gives them."""
        async with self._store.reading() as records:
            member = await records.member(by.id)
        proposal = await self.proposal(proposal_id)
        if member is None:
            raise NotAMember(f"`{by.name}` is not in the member register")
        if proposal.status != "open":
            raise ProposalNotOpen(f"it is `{proposal.status}`")
        signature = await self._ledger.vote(by.id, proposal, request.choice)
        ballot = Ballot(proposal_id=proposal_id, choice=request.choice, weight=member.weight, signature=signature)
        try:
            followed = await self._ledger.follow(proposal)
        except DomainError:
            # The ballot stands on the ledger, so it is recorded here; the sums follow with the next look (`resume`).
            followed = proposal
        async with self._store.transaction() as records:
            await records.keep_ballot(ballot, by.id)
            await records.keep_proposal(followed)
            data = {"choice": request.choice, "weight": member.weight, "signature": signature}
            await records.record(self._event("ballot.cast", by.id, proposal_id, data))
        return ballot

    async def finalize(self, proposal_id: str, by: Identity) -> Proposal:
        """Close the vote and, when it was accepted, enact it. Safe to repeat: it goes on from where the ledger stands."""
        proposal = await self._ledger.follow(await self.proposal(proposal_id))
        if proposal.status == "open":
            proposal = await self._ledger.finalize(proposal)
            await self._keep(proposal, "proposal.finalized", by.id)
        if proposal.status == "accepted":
            proposal = await self._ledger.enact(proposal)
        await self._keep(proposal, f"proposal.{proposal.status}", by.id)
        return proposal

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

    async def resume(self) -> None:
        """Take every unfinished proposal one step on: submit what a crash left unsubmitted, follow the rest. Raises the ledger's
        errors, to be called again."""
        async with self._store.reading() as records:
            unfinished = await records.unfinished_proposals()
        for proposal in unfinished:
            if proposal.status == "submitting":
                await self._submit(proposal)
                continue
            followed = await self._ledger.follow(proposal)
            if followed != proposal:
                await self._keep(followed, f"proposal.{followed.status}", "ledger")

    async def _submit(self, proposal: Proposal) -> Proposal:
        async with self._store.reading() as records:
            bundle = await records.bundle(proposal.bundle_hash)
        if bundle is None:
            raise BundleNotFound(f"`{proposal.bundle_hash}` is not a bundle here")
        content = bundle[1].body.policies_hash
        try:
            attested = await self._verifier.attest(proposal.certificate_hash)
            opened = await self._ledger.propose(proposal, content, proposal.proposed_by, proposal.voting_seconds)
        except DomainError as error:
            if not _is_final(error):
                raise
            async with self._store.transaction() as records:
                await records.keep_proposal(proposal.model_copy(update={"status": "cancelled"}))
                await records.record(self._event("proposal.refused", "ledger", proposal.id, {"code": error.code}))
            raise
        opened = opened.model_copy(update={"signatures": {**opened.signatures, "attest": attested}})
        await self._keep(opened, "proposal.opened", proposal.proposed_by)
        return opened

    async def _keep(self, proposal: Proposal, kind: str, actor: str) -> None:
        async with self._store.transaction() as records:
            before = await records.proposal(proposal.id)
            if before == proposal:
                return
            await records.keep_proposal(proposal)
            if proposal.status == "enacted" and (before is None or before.status != "enacted"):
                await _adopt(records, proposal.bundle_hash)
            if before is None or before.status != proposal.status:
                data = {"for": proposal.for_weight, "against": proposal.against_weight, "bundle": proposal.bundle_hash}
                await records.record(self._event(kind, actor, proposal.id, data))

    def _event(self, kind: str, actor: str, subject: str, data: Mapping[str, str | int]) -> Event:
        return new_event(_SERVICE, kind, self._clock.now(), actor=actor, subject=subject, **data)


async def _adopt(records: Records, bundle_hash: str) -> None:
    found = await records.bundle(bundle_hash)
    if found is not None and found[0].status == "built":
        await records.set_bundle_status(bundle_hash, "adopted")


def _is_final(error: DomainError) -> bool:
    """Whether trying again cannot help: the ledger or the verifier has answered no."""
    return error.code not in {
        "dependency_unavailable",
        "ledger_unavailable",
        "ledger_transaction_uncertain",
        "ledger_transaction_expired",
    }
