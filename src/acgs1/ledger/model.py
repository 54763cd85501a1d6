"""The rules of `quantumagi_core`, stated once more, in Python: the oracle that tests and proofs compare the program with.

Pure and self-contained: no bytes, no accounts, no fees. A refused action raises `Refused` with the program's own name for
the error and changes nothing. Checks come in the program's order, so that the first error is the same.
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
MAX_WEIGHT: Final = 2**64 - 1


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

    def decided(self, threshold_bp: int, quorum_bp: int) -> Standing:
        """The outcome that no remaining vote can change, given that cast votes are final."""
        remaining = self.total - self.cast
        if self.quorum_reached(quorum_bp) and carries(self.votes_for, self.votes_against + remaining, threshold_bp):
            return Standing.ACCEPTED
        if not carries(self.votes_for + remaining, self.votes_against, threshold_bp):
            return Standing.REJECTED
        return Standing.OPEN


def carries(votes_for: int, votes_against: int, threshold_bp: int) -> bool:
    """`for * 10000 >= threshold * (for + against)`, and somebody is for it."""
    return votes_for > 0 and votes_for * BASIS_POINTS >= threshold_bp * (votes_for + votes_against)


@dataclass(slots=True)
class Member:
    """Weights newest first; each counts for proposals from the index at the same place of `since`."""

    slot: int
    weights: tuple[int, int, int]
    since: tuple[int, int, int]
    changed_at: tuple[int, int, int]

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
        """A weight for proposals from `next_proposal` on; history stays as long as an open vote may need it."""
        w, s, t = self.weights, self.since, self.changed_at
        if open_proposals == 0:
            self.weights, self.since, self.changed_at = (
                (weight, 0, 0),
                (next_proposal, next_proposal, next_proposal),
                (now, now, now),
            )
        elif s[0] == next_proposal:
            self.weights, self.changed_at = (weight, w[1], w[2]), (now, t[1], t[2])
        elif w[2] == 0 or now - t[1] > MAX_VOTING_PERIOD:
            self.weights = (weight, w[0], w[1])
            self.since = (next_proposal, s[0], s[1])
            self.changed_at = (now, t[0], t[1])
        else:
            raise Refused("WeightChangeLimit")


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

    def take_effect(self, now: int) -> None:
        """Marks an accepted proposal as carried out, in its time."""
        if self.status != "accepted":
            raise Refused("ProposalNotAccepted")
        if now >= self.ends_at + ENACTMENT_PERIOD:
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
class Governance:
    """The state that votes depend on. Callers are names; hashes are any text; times are Unix seconds."""

    council: str
    verifier: str
    rules: Rules
    constitution_version: int = 1
    ratified: bool = False
    principles: int = 0
    frozen_until: int = 0
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

    def add_principle(self, by: str) -> None:
        """While bootstrapping; later principles come by proposals, which this model does not follow."""
        self._bootstrap(by)
        self.principles += 1

    def register_member(self, by: str, wallet: str, weight: int, now: int, proposal: int | None = None) -> None:
        if weight == 0:
            raise Refused("InvalidWeight")
        with self._authorized(by, proposal, ("register_member", wallet, weight), now):
            member = self.members.get(wallet)
            if self.total_weight + weight > MAX_WEIGHT:
                raise Refused("WeightOverflow")
            if member is None:
                count = len(self.proposals)
                self.members[wallet] = Member(len(self.members), (weight, 0, 0), (count, count, count), (now, now, now))
            elif member.weight:
                raise Refused("AlreadyAMember")
            else:
                self._set(member, weight, now)

    def set_weight(self, by: str, wallet: str, weight: int, now: int, proposal: int | None = None) -> None:
        if weight == 0:
            raise Refused("InvalidWeight")
        with self._authorized(by, proposal, ("set_weight", wallet, weight), now):
            member = self._active(wallet)
            if self.total_weight - member.weight + weight > MAX_WEIGHT:
                raise Refused("WeightOverflow")
            self._set(member, weight, now)

    def remove_member(self, by: str, wallet: str, now: int, proposal: int | None = None) -> None:
        with self._authorized(by, proposal, ("remove_member", wallet), now):
            member = self._active(wallet)
            if self.ratified and sum(1 for m in self.members.values() if m.weight) == 1:
                raise Refused("LastMember")
            self._set(member, 0, now)

    def ratify(self, by: str) -> None:
        if by != self.council:
            raise Refused("Unauthorized")
        if self.ratified:
            raise Refused("AlreadyRatified")
        if self.principles == 0 or self.total_weight == 0:
            raise Refused("BootstrapIncomplete")
        self.ratified = True

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
        if not self.rules.voting_period <= voting_period <= MAX_VOTING_PERIOD:
            raise Refused("InvalidVotingPeriod")
        rules = self.rules
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
            standing = proposal.tally.decided(proposal.threshold_bp, proposal.quorum_bp)
        if standing is Standing.OPEN:
            raise Refused("VotingPeriodNotEnded")
        proposal.status = standing.value
        return proposal.status

    def cancel(self, by: str, index: int) -> None:
        proposal = self.proposal(index)
        if proposal.proposer != by:
            raise Refused("Unauthorized")
        if proposal.status != "active":
            raise Refused("ProposalNotActive")
        proposal.status = "cancelled"

    def close_proposal(self, by: str, index: int, now: int) -> None:
        proposal = self.proposal(index)
        if proposal.proposer != by:
            raise Refused("Unauthorized")
        lapsed = proposal.status == "accepted" and now >= proposal.ends_at + ENACTMENT_PERIOD
        if proposal.status in ("active", "accepted") and not lapsed:
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

    def enact(self, index: int, now: int) -> None:
        """Carries out an accepted proposal about a policy or the constitution."""
        proposal = self.proposal(index)
        if proposal.kind == "constitution":
            before = proposal.status
            proposal.take_effect(now)
            if proposal.constitution_version != self.constitution_version:
                # Over another text than the one it set out to change, it would undo what was amended in between.
                proposal.status = before
                raise Refused("WrongConstitutionVersion")
            self.constitution_version += 1
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

    # -- parts --------------------------------------------------------------------------------------------------

    def _bootstrap(self, by: str) -> None:
        if self.ratified:
            raise Refused("ProposalRequired")
        if by != self.council:
            raise Refused("Unauthorized")

    @contextmanager
    def _authorized(
        self, by: str, proposal: int | None, change: tuple[str | int, ...], now: int
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
        if found.kind != "membership":
            raise Refused("WrongProposalKind")
        found.take_effect(now)
        if found.content != repr(change):
            found.status = before
            raise Refused("ContentMismatch")
        try:
            yield
        except Refused:
            found.status = before
            raise

    def _active(self, wallet: str) -> Member:
        member = self.members.get(wallet)
        if member is None:
            raise Refused("WrongOwner")
        if member.weight == 0:
            raise Refused("MemberNotActive")
        return member

    def _set(self, member: Member, weight: int, now: int) -> None:
        count = len(self.proposals)
        member.set_weight(weight, next_proposal=count, open_proposals=self.open_proposals, now=now)
