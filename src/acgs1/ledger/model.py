"""The rules of `quantumagi_core`, stated once more, in Python: the oracle that tests and proofs compare the program with.

Pure and self-contained: no bytes, no accounts, no fees. A refused action raises `Refused` with the program's own name for
the error and changes nothing. Checks come in the program's order, so that the first error is the same. What an account that does not
exist means to the program is `WrongOwner`; what only bytes can be wrong about (zero hashes, unknown variants) is left out.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

BASIS_POINTS: Final = 10_000
MIN_THRESHOLD_BP: Final = 5_001
MAX_VOTING_PERIOD: Final = 30 * 24 * 3_600
ENACTMENT_PERIOD: Final = 30 * 24 * 3_600
MAX_EMERGENCY: Final = 72 * 3_600
COOL_DOWN: Final = 72 * 3_600
RATIFICATION_PERIOD: Final = 24 * 3_600
MAX_TITLE: Final = 64
MAX_PRINCIPLES: Final = 512
MAX_MEMBERS: Final = 32_768
MAX_WEIGHT: Final = 2**64 - 1
FOR_EVER: Final = 2**63 - 1


class Refused(Exception):
    """The program's name of the error."""


class Standing(Enum):
    """How a vote stands; `OPEN` means that the remaining weight decides."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Tally:
    """The weights of the ballots cast, and of all who could vote. INVARIANT: for + against + abstain <= total."""

    votes_for: int
    votes_against: int
    votes_abstain: int
    total: int

    @property
    def cast(self) -> int:
        return self.votes_for + self.votes_against + self.votes_abstain

    def quorum_reached(self, quorum_bp: int) -> bool:
        """Whether the weight that voted, abstentions included, is at least `quorum_bp` of the total."""
        return self.cast * BASIS_POINTS >= self.total * quorum_bp

    def outcome(self, threshold_bp: int, quorum_bp: int) -> Standing:
        """The outcome when voting is over."""
        accepted = self.quorum_reached(quorum_bp) and carries(self.votes_for, self.votes_against, threshold_bp)
        return Standing.ACCEPTED if accepted else Standing.REJECTED

    def decided(self, threshold_bp: int, quorum_bp: int, *, rejection_acts: bool) -> Standing:
        """The outcome that no remaining vote can change, given that cast votes are final.

        `rejection_acts`: a rejection by a quorum has an effect, and one without has none; so a quorum is then part of the outcome.
        """
        remaining = self.total - self.cast
        quorum = self.quorum_reached(quorum_bp)
        if quorum and carries(self.votes_for, self.votes_against + remaining, threshold_bp):
            return Standing.ACCEPTED
        if (not rejection_acts or quorum) and not carries(self.votes_for + remaining, self.votes_against, threshold_bp):
            return Standing.REJECTED
        return Standing.OPEN


def carries(votes_for: int, votes_against: int, threshold_bp: int) -> bool:
    """`for * 10000 >= threshold * (for + against)`, and somebody is for it."""
    return votes_for > 0 and votes_for * BASIS_POINTS >= threshold_bp * (votes_for + votes_against)


@dataclass(slots=True)
class Member:
    """Weights newest first; each counts for proposals from the index at the same place of `since`. Proposals from `open_to` on
    may change the member."""

    slot: int
    weights: tuple[int, int, int, int]
    since: tuple[int, int, int, int]
    changed_at: tuple[int, int, int, int]
    open_to: int = 0

    @property
    def weight(self) -> int:
        return self.weights[0]

    def weight_for(self, proposal: int) -> int:
        """The weight that counts in the proposal of that index."""
        for weight, since in zip(self.weights, self.since, strict=True):
            if proposal >= since:
                return weight
        return 0

    def set_weight(self, weight: int, *, next_proposal: int, open_proposals: int, now: int) -> None:
        """A weight for proposals from `next_proposal` on; history stays as long as an open vote may need it. The fourth place
        is a removal's, which is never refused."""
        w, s, t = self.weights, self.since, self.changed_at

        def spent(place: int) -> bool:
            return w[place] == 0 or now - t[place - 1] > MAX_VOTING_PERIOD

        if open_proposals == 0:
            self.weights, self.since, self.changed_at = (weight, 0, 0, 0), _four(next_proposal), _four(now)
            return
        unseen = s[0] == next_proposal
        if weight and not (spent(3) and (unseen or spent(2))):
            raise Refused("WeightChangeLimit")
        if unseen:
            self.weights, self.changed_at = (weight, *w[1:]), (now, *t[1:])
        else:
            self.weights, self.since, self.changed_at = (weight, *w[:3]), (next_proposal, *s[:3]), (now, *t[:3])
        if weight:
            self.weights = (*self.weights[:3], 0)


@dataclass(slots=True)
class Proposal:
    """A vote with the rules and the weight that held when it was made. `status` as in the program."""

    index: int
    proposer: str
    kind: str
    content: str
    certificate: str | None
    starts_at: int
    ends_at: int
    total_weight: int
    threshold_bp: int
    quorum_bp: int
    vote_change_allowed: bool
    constitution_version: int
    status: str = "active"
    ballots: dict[int, str] = field(default_factory=dict[int, str])
    sides: dict[str, int] = field(default_factory=lambda: {"for": 0, "against": 0, "abstain": 0})

    @property
    def tally(self) -> Tally:
        return Tally(self.sides["for"], self.sides["against"], self.sides["abstain"], self.total_weight)

    @property
    def rejection_acts(self) -> bool:
        """Whether a rejection by a quorum has an effect of its own."""
        return self.kind == "emergency_ratification"

    @property
    def awaits_enactment(self) -> bool:
        """Whether the vote has decided something that is not carried out yet."""
        if self.status == "accepted":
            return True
        return self.status == "rejected" and self.rejection_acts and self.tally.quorum_reached(self.quorum_bp)

    def lapsed(self, now: int) -> bool:
        """Whether it is too late to carry out what was decided."""
        return now >= self.ends_at + ENACTMENT_PERIOD

    def take_effect(self, now: int) -> None:
        """Marks a proposal as carried out, in its time."""
        if not self.awaits_enactment:
            raise Refused("ProposalNotAccepted")
        if self.lapsed(now):
            raise Refused("ProposalLapsed")
        self.status = "enacted"


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameters of votes."""

    voting_period: int
    threshold_bp: int
    quorum_bp: int
    vote_change_allowed: bool


@dataclass(slots=True)
class Principle:
    """A principle of the register; `version` counts its changes."""

    content: str
    title: str
    updated_at: int
    constitution_version: int
    version: int = 1
    active: bool = True


@dataclass(slots=True)
class Emergency:
    """An emergency action. `status`: active, confirmed, ended."""

    index: int
    kind: str
    target: str | None
    issuer: str
    issued_at: int
    expires_at: int
    open_to: int
    status: str = "active"

    def in_effect(self, now: int) -> bool:
        return self.status != "ended" and now < self.expires_at

    @property
    def content(self) -> str:
        """What a proposal to ratify it names."""
        return emergency_content(self.index, self.target if self.kind == "revoke_agent" else None)


@dataclass(slots=True)
class Anchor:
    """The newest root of the transparency log."""

    tree_size: int = 0
    root: str | None = None
    anchored_at: int = 0
    count: int = 0


def emergency_content(index: int, agent: str | None = None) -> str:
    """What a proposal to ratify that emergency action names: its account, which for a revocation is its agent's."""
    return f"emergency {index}" if agent is None else f"revocation {agent}"


@dataclass(slots=True)
class Governance:
    """Everything on the ledger. Callers are names; hashes are any text; times are Unix seconds."""

    council: str
    verifier: str
    rules: Rules
    emergency: str = "emergency"
    log: str = "log"
    constitution: str = "constitution"
    constitution_version: int = 1
    ratified: bool = False
    frozen_until: int = 0
    parameters_open_to: int = 0
    offers: dict[str, str] = field(default_factory=dict[str, str])
    principles: list[Principle] = field(default_factory=list["Principle"])
    emergencies: list[Emergency | None] = field(default_factory=list["Emergency | None"])
    suspended: dict[str, int] = field(default_factory=dict[str, int])
    anchor: Anchor = field(default_factory=Anchor)
    members: dict[str, Member] = field(default_factory=dict[str, Member])
    proposals: list[Proposal | None] = field(default_factory=list["Proposal | None"])
    attestations: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    policies: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    @property
    def total_weight(self) -> int:
        return sum(member.weight for member in self.members.values())

    @property
    def open_proposals(self) -> int:
        return sum(1 for proposal in self.proposals if proposal is not None and proposal.status == "active")

    def proposal(self, index: int) -> Proposal:
        """The proposal of that index; a closed one is no account of the program any more."""
        found = self.proposals[index] if index < len(self.proposals) else None
        if found is None:
            raise Refused("WrongOwner")
        return found

    # -- registers ----------------------------------------------------------------------------------------------

    def add_principle(
        self,
        by: str,
        content: str = "",
        constitution: str = "constitution",
        title: str = "A principle",
        now: int = 0,
        proposal: int | None = None,
    ) -> None:
        _check_title(title)
        with self._authorized(by, proposal, "principle", ("add_principle", content, constitution, title), now):
            if len(self.principles) >= MAX_PRINCIPLES:
                raise Refused("TooManyPrinciples")
            self._amend(constitution)
            self.principles.append(Principle(content, title, now, self.constitution_version))

    def amend_principle(
        self,
        by: str,
        index: int,
        content: str,
        constitution: str,
        title: str,
        now: int,
        proposal: int | None = None,
    ) -> None:
        _check_title(title)
        change = ("amend_principle", index, content, constitution, title)
        with self._authorized(by, proposal, "principle", change, now):
            principle = self._active_principle(index)
            self._amend(constitution)
            principle.content, principle.title = content, title
            self._changed(principle, now)

    def retire_principle(self, by: str, index: int, constitution: str, now: int, proposal: int | None = None) -> None:
        with self._authorized(by, proposal, "principle", ("retire_principle", index, constitution), now):
            principle = self._active_principle(index)
            self._amend(constitution)
            principle.active = False
            self._changed(principle, now)

    def set_parameters(self, by: str, rules: Rules, now: int, proposal: int | None = None) -> None:
        """Open votes keep the parameters that they began with."""
        if not 1 <= rules.voting_period <= MAX_VOTING_PERIOD:
            raise Refused("InvalidVotingPeriod")
        if not MIN_THRESHOLD_BP <= rules.threshold_bp <= BASIS_POINTS:
            raise Refused("InvalidThreshold")
        if not 1 <= rules.quorum_bp <= BASIS_POINTS:
            raise Refused("InvalidQuorum")
        with self._authorized(by, proposal, "parameters", ("set_parameters", repr(rules)), now):
            self.parameters_open_to = _claimed(proposal, self.parameters_open_to)
            self.rules = rules

    def register_member(self, by: str, wallet: str, weight: int, now: int, proposal: int | None = None) -> None:
        if weight == 0:
            raise Refused("InvalidWeight")
        with self._authorized(by, proposal, "membership", ("register_member", wallet, weight), now):
            member = self.members.get(wallet)
            if self.total_weight + weight > MAX_WEIGHT:
                raise Refused("WeightOverflow")
            if member is None:
                if len(self.members) >= MAX_MEMBERS:
                    raise Refused("TooManyMembers")
                count = len(self.proposals)
                self.members[wallet] = Member(
                    len(self.members), (weight, 0, 0, 0), _four(count), _four(now), _claimed(proposal, 0)
                )
                return
            open_to = _claimed(proposal, member.open_to)
            if member.weight:
                raise Refused("AlreadyAMember")
            self._set(member, weight, open_to, now)

    def set_weight(self, by: str, wallet: str, weight: int, now: int, proposal: int | None = None) -> None:
        if weight == 0:
            raise Refused("InvalidWeight")
        with self._authorized(by, proposal, "membership", ("set_weight", wallet, weight), now):
            member = self._member(wallet)
            open_to = _claimed(proposal, member.open_to)
            if member.weight == 0:
                raise Refused("MemberNotActive")
            if self.total_weight - member.weight + weight > MAX_WEIGHT:
                raise Refused("WeightOverflow")
            self._set(member, weight, open_to, now)

    def remove_member(self, by: str, wallet: str, now: int, proposal: int | None = None) -> None:
        with self._authorized(by, proposal, "membership", ("remove_member", wallet), now):
            member = self._member(wallet)
            open_to = _claimed(proposal, member.open_to)
            if member.weight == 0:
                raise Refused("MemberNotActive")
            if self.ratified and sum(1 for m in self.members.values() if m.weight) == 1:
                raise Refused("LastMember")
            self._set(member, 0, open_to, now)

    def ratify(self, by: str, constitution: str | None = None) -> None:
        """`constitution`: the text that is meant; None for the one that stands."""
        if by != self.council:
            raise Refused("Unauthorized")
        if self.ratified:
            raise Refused("AlreadyRatified")
        if not any(principle.active for principle in self.principles) or self.total_weight == 0:
            raise Refused("BootstrapIncomplete")
        if constitution is not None and constitution != self.constitution:
            raise Refused("ContentMismatch")
        self.ratified = True

    # -- authorities --------------------------------------------------------------------------------------------

    def offer_authority(self, by: str, role: str, to: str | None) -> None:
        """`role`: council, emergency, log or verifier; None withdraws the offer."""
        if by != getattr(self, role):
            raise Refused("Unauthorized")
        self.offers.pop(role, None)
        if to is not None:
            self.offers[role] = to

    def accept_authority(self, by: str, role: str) -> None:
        if self.offers.get(role) != by:
            raise Refused("NoOffer")
        setattr(self, role, by)
        del self.offers[role]

    def anchor_root(self, by: str, tree_size: int, root: str, now: int) -> None:
        if by != self.log:
            raise Refused("Unauthorized")
        if tree_size <= self.anchor.tree_size:
            raise Refused("AnchorNotGrowing")
        self.anchor = Anchor(tree_size, root, now, self.anchor.count + 1)

    # -- votes --------------------------------------------------------------------------------------------------

    def propose(self, by: str, kind: str, content: str, certificate: str | None, voting_period: int, now: int) -> int:
        """Opens a vote and returns its index. `content` of a register change is `repr` of the change."""
        if (kind == "policy") != (certificate is not None):
            raise Refused("InvalidCertificate")
        if not self.ratified:
            raise Refused("NotRatified")
        member = self.members.get(by)
        if member is None:
            raise Refused("WrongOwner")  # there is no such account
        if member.weight == 0:
            raise Refused("NotAMember")
        rules = self.rules
        ratifies = kind == "emergency_ratification"
        shortest = min(rules.voting_period, RATIFICATION_PERIOD) if ratifies else rules.voting_period
        if voting_period < shortest or voting_period > MAX_VOTING_PERIOD:
            raise Refused("InvalidVotingPeriod")
        if ratifies:
            action = self._named(content)
            if not action.in_effect(now):
                raise Refused("EmergencyNotActive")
            # Nothing can be carried out once the action has expired; only final votes can decide before the window ends.
            early = voting_period == shortest and not rules.vote_change_allowed
            if now + voting_period >= action.expires_at and not early:
                raise Refused("InvalidVotingPeriod")
        self.proposals.append(
            Proposal(
                index=len(self.proposals),
                proposer=by,
                kind=kind,
                content=content,
                certificate=certificate,
                starts_at=now,
                ends_at=now + voting_period,
                total_weight=self.total_weight,
                threshold_bp=rules.threshold_bp,
                quorum_bp=rules.quorum_bp,
                vote_change_allowed=rules.vote_change_allowed,
                constitution_version=self.constitution_version,
            )
        )
        return len(self.proposals) - 1

    def vote(self, by: str, index: int, choice: str, now: int) -> None:
        member = self.members.get(by)
        if member is None:
            raise Refused("WrongOwner")
        proposal = self.proposal(index)
        if proposal.status != "active":
            raise Refused("ProposalNotActive")
        if now >= proposal.ends_at:
            raise Refused("VotingPeriodEnded")
        weight = member.weight_for(index)
        if weight == 0:
            raise Refused("NotAMember")
        previous = proposal.ballots.get(member.slot)
        if previous is not None and (not proposal.vote_change_allowed or previous == choice):
            raise Refused("AlreadyVoted")
        if previous is not None:
            proposal.sides[previous] -= weight
        proposal.sides[choice] += weight
        proposal.ballots[member.slot] = choice

    def finalize(self, index: int, now: int) -> str:
        """Ends the vote and returns its status."""
        proposal = self.proposal(index)
        if proposal.status != "active":
            raise Refused("ProposalNotActive")
        if now >= proposal.ends_at:
            standing = proposal.tally.outcome(proposal.threshold_bp, proposal.quorum_bp)
        elif proposal.vote_change_allowed:
            standing = Standing.OPEN
        else:
            standing = proposal.tally.decided(
                proposal.threshold_bp, proposal.quorum_bp, rejection_acts=proposal.rejection_acts
            )
        if standing is Standing.OPEN:
            raise Refused("VotingPeriodNotEnded")
        proposal.status = standing.value
        return proposal.status

    def cancel(self, by: str, index: int, now: int) -> None:
        """Takes a proposal back before anybody has voted on it."""
        proposal = self.proposal(index)
        if proposal.proposer != by:
            raise Refused("Unauthorized")
        if proposal.status != "active":
            raise Refused("ProposalNotActive")
        if now >= proposal.ends_at:
            raise Refused("VotingPeriodEnded")
        if proposal.tally.cast != 0:
            raise Refused("VotingHasBegun")
        proposal.status = "cancelled"

    def close_proposal(self, by: str, index: int, now: int) -> None:
        proposal = self.proposal(index)
        if proposal.proposer != by:
            raise Refused("Unauthorized")
        if proposal.status == "active" or (proposal.awaits_enactment and not proposal.lapsed(now)):
            raise Refused("ProposalNotClosable")
        self.proposals[index] = None

    # -- force --------------------------------------------------------------------------------------------------

    def attest(self, by: str, certificate: str, content: str, version: int) -> None:
        if by != self.verifier:
            raise Refused("Unauthorized")
        if version != self.constitution_version:
            raise Refused("WrongConstitutionVersion")
        if certificate in self.attestations:
            raise Refused("AlreadyExists")
        self.attestations[certificate] = (content, version)

    def revoke_attestation(self, by: str, certificate: str) -> None:
        if by != self.verifier:
            raise Refused("Unauthorized")
        if certificate not in self.attestations:
            raise Refused("WrongOwner")
        del self.attestations[certificate]

    def enact(self, index: int, now: int) -> None:
        """Carries out a decided proposal about a policy, the constitution or an emergency action."""
        proposal = self.proposal(index)
        if proposal.kind == "emergency_ratification":
            self._resolve_emergency(proposal, now)
            return
        if proposal.kind == "constitution":
            before = proposal.status
            proposal.take_effect(now)
            if proposal.constitution_version != self.constitution_version:
                # Over another text than the one it set out to change, it would undo what was amended in between.
                proposal.status = before
                raise Refused("WrongConstitutionVersion")
            self._amend(proposal.content)
            return
        if proposal.kind != "policy":
            raise Refused("WrongProposalKind")
        if now < self.frozen_until:
            raise Refused("ActivationFrozen")
        before = proposal.status
        proposal.take_effect(now)
        attested = self.attestations.get(proposal.certificate or "")
        refusal: str | None = None
        if attested is None:
            refusal = "WrongOwner"  # there is no such account
        elif attested[0] != proposal.content:
            refusal = "AttestationMissing"
        elif attested[1] != self.constitution_version:
            refusal = "StaleAttestation"
        if refusal is not None:
            proposal.status = before
            raise Refused(refusal)
        self.policies[proposal.content] = (index, self.constitution_version)

    # -- emergencies --------------------------------------------------------------------------------------------

    def emergency_action(self, by: str, kind: str, target: str | None, duration: int, now: int) -> int:
        """Acts at once and returns the action's index. `kind`: suspend_policy, freeze_activation (no target), revoke_agent."""
        if not 1 <= duration <= MAX_EMERGENCY:
            raise Refused("InvalidExpiry")
        if by != self.emergency:
            raise Refused("UnauthorizedEmergencyAction")
        action = Emergency(len(self.emergencies), kind, target, by, now, now + duration, len(self.proposals))
        _check_free(self._held_until(action), now)
        if kind == "revoke_agent" and self._find(action.content) is not None:
            raise Refused("AlreadyExists")  # its account is closed first
        self._hold(action, now + duration)
        self.emergencies.append(action)
        return action.index

    def end_emergency(self, by: str, index: int, now: int) -> None:
        """Ends an action that no vote has confirmed."""
        if by != self.emergency:
            raise Refused("UnauthorizedEmergencyAction")
        action = self._emergency(index)
        if action.status != "active" or not action.in_effect(now):
            raise Refused("EmergencyNotActive")
        self._hold(action, now)
        action.status, action.expires_at = "ended", now

    def close_emergency(self, issuer: str, index: int, now: int) -> None:
        """Anybody may, once the cool-down is over; the rent goes back to the issuer."""
        action = self._emergency(index)
        if action.issuer != issuer:
            raise Refused("WrongRentRecipient")
        if action.in_effect(now):
            raise Refused("EmergencyStillActive")
        _check_free(action.expires_at, now)
        self.emergencies[index] = None

    def _resolve_emergency(self, proposal: Proposal, now: int) -> None:
        """Accepted: in effect until another vote ends it. Rejected by a quorum: it ends now. Too few voters change nothing."""
        confirmed = proposal.status == "accepted"
        if not proposal.awaits_enactment:
            raise Refused("ProposalNotAccepted")
        if proposal.lapsed(now):
            raise Refused("ProposalLapsed")
        action = self._named(proposal.content)
        if not action.in_effect(now):
            raise Refused("EmergencyNotActive")
        action.open_to = _claimed(proposal.index, action.open_to)
        proposal.status = "enacted"
        until = FOR_EVER if confirmed else now
        self._hold(action, until)
        action.status, action.expires_at = ("confirmed" if confirmed else "ended"), until

    def _emergency(self, index: int) -> Emergency:
        found = self.emergencies[index] if index < len(self.emergencies) else None
        if found is None:
            raise Refused("WrongOwner")
        return found

    def _find(self, content: str) -> Emergency | None:
        return next((action for action in self.emergencies if action is not None and action.content == content), None)

    def _named(self, content: str) -> Emergency:
        found = self._find(content)
        if found is None:
            raise Refused("WrongOwner")
        return found

    def _held_until(self, action: Emergency) -> int:
        """Until when the action's target is held already, or was held last; 0 for never."""
        if action.kind == "suspend_policy":
            if action.target not in self.policies:
                raise Refused("WrongOwner")
            return self.suspended.get(action.target, 0)
        if action.kind == "freeze_activation":
            return self.frozen_until
        last = self._find(action.content)
        return last.expires_at if last is not None else 0

    def _hold(self, action: Emergency, until: int) -> None:
        """Writes the effect down where the other actions look for it."""
        if action.kind == "suspend_policy" and action.target is not None:
            self.suspended[action.target] = until
        elif action.kind == "freeze_activation":
            self.frozen_until = until

    # -- parts --------------------------------------------------------------------------------------------------

    def _bootstrap(self, by: str) -> None:
        if self.ratified:
            raise Refused("ProposalRequired")
        if by != self.council:
            raise Refused("Unauthorized")

    @contextmanager
    def _authorized(
        self, by: str, proposal: int | None, kind: str, change: tuple[str | int, ...], now: int
    ) -> Generator[None, None, None]:
        """Runs the change that the council or an accepted proposal authorises. Refused, it leaves the proposal as it was."""
        if not self.ratified:
            if proposal is not None:
                raise Refused("UnexpectedAccount")
            self._bootstrap(by)
            yield
            return
        if proposal is None:
            raise Refused("ProposalRequired")
        found = self.proposal(proposal)
        before = found.status
        if found.kind != kind:
            raise Refused("WrongProposalKind")
        found.take_effect(now)
        if found.content != repr(change):
            found.status = before
            raise Refused("ContentMismatch")
        if kind == "principle" and found.constitution_version != self.constitution_version:
            found.status = before
            raise Refused("WrongConstitutionVersion")
        try:
            yield
        except Refused:
            found.status = before
            raise

    def _amend(self, constitution: str) -> None:
        """In the bootstrap the text is still being written; after ratification each change is a new version."""
        self.constitution = constitution
        if self.ratified:
            self.constitution_version += 1

    def _active_principle(self, index: int) -> Principle:
        if index >= len(self.principles):
            raise Refused("WrongOwner")
        if not self.principles[index].active:
            raise Refused("PrincipleNotActive")
        return self.principles[index]

    def _changed(self, principle: Principle, now: int) -> None:
        principle.version += 1
        principle.updated_at = now
        principle.constitution_version = self.constitution_version

    def _member(self, wallet: str) -> Member:
        member = self.members.get(wallet)
        if member is None:
            raise Refused("WrongOwner")
        return member

    def _set(self, member: Member, weight: int, open_to: int, now: int) -> None:
        count = len(self.proposals)
        member.set_weight(weight, next_proposal=count, open_proposals=self.open_proposals, now=now)
        member.open_to = open_to


def _check_free(held_until: int, now: int) -> None:
    """Whether a target that was held until then can be held anew."""
    if now < held_until:
        raise Refused("EmergencyAlreadyActive")
    if held_until and now < held_until + COOL_DOWN:
        raise Refused("EmergencyCoolingDown")


def _four(value: int) -> tuple[int, int, int, int]:
    return value, value, value, value


def _claimed(proposal: int | None, open_to: int) -> int:
    """From which proposal on the subject may be changed once this one (None: the council, in the bootstrap) has."""
    if proposal is None:
        return open_to
    if proposal < open_to:
        raise Refused("ProposalOutdated")
    return proposal + 1


def _check_title(title: str) -> None:
    if len(title.encode()) > MAX_TITLE:
        raise Refused("TitleTooLong")
    if not title:
        raise Refused("InvalidTitle")
