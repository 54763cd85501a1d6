"""Random sequences of instructions, on the program and on the Python statement of its rules, with equal results."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from acgs1.ledger.instructions import Parameters, content_hash
from acgs1.ledger.model import MAX_VOTING_PERIOD, MAX_WEIGHT, Governance, Refused, Rules
from program.rig import DAY, START, Rig, digest

NAMES = tuple(f"wallet {i}" for i in range(5))
WEIGHTS = st.one_of(st.integers(1, 5), st.sampled_from([0, 1, 2**32, 2**63, MAX_WEIGHT - 1, MAX_WEIGHT]))
WHO = st.sampled_from(NAMES)
CHOICES = st.sampled_from(("for", "against", "abstain"))
STATUS = {
    "Active": "active",
    "Accepted": "accepted",
    "Rejected": "rejected",
    "Enacted": "enacted",
    "Cancelled": "cancelled",
}


class Votes(RuleBasedStateMachine):
    """INVARIANT: the program refuses with the model's error, or both do the same."""

    @initialize(
        threshold=st.sampled_from([5_001, 6_000, 6_667, 10_000]),
        quorum=st.sampled_from([1, 5_000, 10_000]),
        change=st.booleans(),
        ratified=st.sampled_from([True, True, False]),
    )
    def start(self, threshold: int, quorum: int, change: bool, ratified: bool) -> None:
        self.rig = Rig()
        self.keys = {name: self.rig.key(name) for name in NAMES}
        self.rig.initialize(Parameters(DAY, threshold, quorum, change))
        self.rig.add_principle()
        self.model = Governance("council", "verifier", Rules(DAY, threshold, quorum, change))
        self.model.add_principle("council")
        self.changes: dict[int, tuple[str, str, int]] = {}
        for name in NAMES[:3]:
            self.rig.register(name, 2)
            self.model.register_member("council", name, 2, START)
        if ratified:
            self.ratify()

    @property
    def index(self) -> int:
        return len(self.model.proposals)

    def both(self, act, sent) -> None:
        """Does the same on both sides; `sent` gives the outcome of the program."""
        try:
            act()
            expected = None
        except Refused as refused:
            expected = str(refused)
        outcome = sent()
        assert outcome.error == expected, (outcome.error, expected, outcome.logs)

    @precondition(lambda self: not self.model.ratified)
    @rule(who=WHO, weight=WEIGHTS)
    def register(self, who: str, weight: int) -> None:
        ix = self.rig.ix.register_member(self.rig.council.pubkey(), self.keys[who].pubkey(), weight)
        self.both(
            lambda: self.model.register_member("council", who, weight, self.rig.now),
            lambda: self.rig.send(ix, self.rig.council),
        )

    @precondition(lambda self: not self.model.ratified)
    @rule(who=WHO, weight=WEIGHTS)
    def weigh(self, who: str, weight: int) -> None:
        ix = self.rig.ix.set_weight(self.rig.council.pubkey(), self.keys[who].pubkey(), weight)
        self.both(
            lambda: self.model.set_weight("council", who, weight, self.rig.now),
            lambda: self.rig.send(ix, self.rig.council),
        )

    @rule()
    def ratify(self) -> None:
        hash_ = self.rig.read(self.rig.at.governance)["constitution_hash"].hex()
        self.both(
            lambda: self.model.ratify("council"),
            lambda: self.rig.send(self.rig.ix.ratify(self.rig.council.pubkey(), hash_), self.rig.council),
        )

    @rule(
        who=WHO,
        kind=st.sampled_from(["policy", "constitution"]),
        text=st.sampled_from("ab"),
        period=st.sampled_from([DAY - 1, DAY, 3 * DAY, MAX_VOTING_PERIOD]),
    )
    def propose(self, who: str, kind: str, text: str, period: int) -> None:
        certificate = f"certificate {text}" if kind == "policy" else None
        ix = self.rig.ix.propose(
            self.keys[who].pubkey(), self.index, kind, digest(text), certificate and digest(certificate), period
        )
        self.both(
            lambda: self.model.propose(who, kind, text, certificate, period, self.rig.now),
            lambda: self.rig.send(ix, self.keys[who]),
        )

    @precondition(lambda self: self.model.ratified)
    @rule(
        who=WHO, subject=WHO, what=st.sampled_from(["register_member", "set_weight", "remove_member"]), weight=WEIGHTS
    )
    def propose_change(self, who: str, subject: str, what: str, weight: int) -> None:
        index = self.index
        change = (what, subject) if what == "remove_member" else (what, subject, weight)
        ix = self.change_instruction(what, subject, weight, index)
        sent = self.rig.ix.propose(self.keys[who].pubkey(), index, "membership", content_hash(ix), None, DAY)
        self.both(
            lambda: self.model.propose(who, "membership", repr(change), None, DAY, self.rig.now),
            lambda: self.rig.send(sent, self.keys[who]),
        )
        if self.index > index:
            self.changes[index] = (what, subject, weight)

    def change_instruction(self, what: str, subject: str, weight: int, proposal: int):
        wallet, payer = self.keys[subject].pubkey(), self.rig.payer.pubkey()
        if what == "remove_member":
            return self.rig.ix.remove_member(payer, wallet, proposal)
        return getattr(self.rig.ix, what)(payer, wallet, weight, proposal)

    @precondition(lambda self: bool(self.changes))
    @rule(data=st.data(), other=st.booleans())
    def carry_out(self, data: st.DataObject, other: bool) -> None:
        index = data.draw(st.sampled_from(sorted(self.changes)))
        what, subject, weight = self.changes[index]
        if other:
            weight = weight + 1 if weight < MAX_WEIGHT else 1
        ix = self.change_instruction(what, subject, weight, index)
        args = (subject,) if what == "remove_member" else (subject, weight)
        self.both(
            lambda: getattr(self.model, what)("anybody", *args, self.rig.now, index),
            lambda: self.rig.send(ix),
        )

    @precondition(lambda self: bool(self.model.proposals))
    @rule(who=WHO, data=st.data(), choice=CHOICES)
    def vote(self, who: str, data: st.DataObject, choice: str) -> None:
        index = data.draw(st.integers(0, self.index - 1))
        self.both(
            lambda: self.model.vote(who, index, choice, self.rig.now),
            lambda: self.rig.vote(self.keys[who], index, choice),
        )

    @precondition(lambda self: bool(self.model.proposals))
    @rule(data=st.data(), choice=CHOICES)
    def all_vote(self, data: st.DataObject, choice: str) -> None:
        """Carries proposals far enough that enactment is reached often."""
        index = data.draw(st.integers(0, self.index - 1))
        for who in NAMES:
            self.both(
                lambda who=who: self.model.vote(who, index, choice, self.rig.now),
                lambda who=who: self.rig.vote(self.keys[who], index, choice),
            )
        self.finalize_one(index)

    def finalize_one(self, index: int) -> None:
        proposal = self.model.proposals[index]
        proposer = self.keys[proposal.proposer if proposal else NAMES[0]].pubkey()
        self.both(
            lambda: self.model.finalize(index, self.rig.now),
            lambda: self.rig.send(self.rig.ix.finalize(index, proposer)),
        )

    @precondition(lambda self: bool(self.model.proposals))
    @rule(data=st.data())
    def finalize(self, data: st.DataObject) -> None:
        self.finalize_one(data.draw(st.integers(0, self.index - 1)))

    @precondition(lambda self: bool(self.model.proposals))
    @rule(who=WHO, data=st.data())
    def cancel(self, who: str, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.index - 1))
        self.both(
            lambda: self.model.cancel(who, index),
            lambda: self.rig.send(self.rig.ix.cancel(self.keys[who].pubkey(), index), self.keys[who]),
        )

    @precondition(lambda self: bool(self.model.proposals))
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.index - 1))
        proposal = self.model.proposals[index]
        who = proposal.proposer if proposal else NAMES[0]
        self.both(
            lambda: self.model.close_proposal(who, index, self.rig.now),
            lambda: self.rig.send(self.rig.ix.close_proposal(self.keys[who].pubkey(), index), self.keys[who]),
        )

    @rule(text=st.sampled_from("ab"), content=st.sampled_from("ab"), stale=st.booleans())
    def attest(self, text: str, content: str, stale: bool) -> None:
        version = self.model.constitution_version + int(stale)
        ix = self.rig.ix.attest(self.rig.verifier.pubkey(), digest(f"certificate {text}"), digest(content), version)
        self.both(
            lambda: self.model.attest("verifier", f"certificate {text}", content, version),
            lambda: self.rig.send(ix, self.rig.verifier),
        )

    @precondition(lambda self: bool(self.model.proposals))
    @rule(data=st.data())
    def enact(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.index - 1))
        proposal = self.model.proposals[index]
        policy = attestation = None
        if proposal is not None and proposal.kind == "policy":
            policy = self.rig.at.policy(digest(proposal.content))
            attestation = self.rig.at.attestation(digest(proposal.certificate or ""))
        ix = self.rig.ix.enact(self.rig.payer.pubkey(), index, policy=policy, attestation=attestation)
        self.both(lambda: self.model.enact(index, self.rig.now), lambda: self.rig.send(ix))

    @precondition(lambda self: self.model.ratified)
    @rule(subject=WHO, weight=st.integers(1, 5), leave_open=st.booleans())
    def change_at_once(self, subject: str, weight: int, leave_open: bool) -> None:
        """A weight's whole way by vote, so that the histories of weights under open votes are reached often."""
        index = self.index
        self.propose_change(NAMES[0], subject, "set_weight", weight)
        if self.index == index:
            return
        for who in NAMES:
            self.both(
                lambda who=who: self.model.vote(who, index, "for", self.rig.now),
                lambda who=who: self.rig.vote(self.keys[who], index, "for"),
            )
        self.finalize_one(index)
        ix = self.change_instruction("set_weight", subject, weight, index)
        self.both(
            lambda: self.model.set_weight("anybody", subject, weight, self.rig.now, index),
            lambda: self.rig.send(ix),
        )
        if leave_open:
            self.propose(NAMES[0], "constitution", "a", MAX_VOTING_PERIOD)

    @rule(seconds=st.sampled_from([1, DAY, 3 * DAY, MAX_VOTING_PERIOD, MAX_VOTING_PERIOD + 1]))
    def wait(self, seconds: int) -> None:
        self.rig.set_time(self.rig.now + seconds)

    @invariant()
    def equal(self) -> None:
        if not hasattr(self, "model"):
            return
        rig, model = self.rig, self.model
        state = rig.read(rig.at.governance)
        assert state["total_weight"] == model.total_weight <= MAX_WEIGHT
        assert state["proposal_count"] == len(model.proposals)
        assert state["open_proposals"] == model.open_proposals
        assert state["constitution_version"] == model.constitution_version
        assert state["ratified"] == model.ratified
        for name, member in model.members.items():
            seen = rig.read(rig.at.member(self.keys[name].pubkey()))
            assert (tuple(seen["weights"]), tuple(seen["since"])) == (member.weights, member.since)
            assert seen["slot"] == member.slot
        for index, proposal in enumerate(model.proposals):
            if proposal is None:
                assert not rig.exists(rig.at.proposal(index))
                continue
            seen = rig.read(rig.at.proposal(index))
            tally = (seen["votes_for"], seen["votes_against"], seen["votes_abstain"])
            assert tally == (proposal.sides["for"], proposal.sides["against"], proposal.sides["abstain"])
            assert STATUS[seen["status"]] == proposal.status
            if proposal.status == "active":
                for slot, choice in proposal.ballots.items():
                    bits = seen["ballots"][slot // 4] >> slot % 4 * 2 & 3
                    assert bits == {"for": 1, "against": 2, "abstain": 3}[choice]
        for content, (index, version) in model.policies.items():
            policy = rig.read(rig.at.policy(digest(content)))
            assert (policy["proposal"], policy["constitution_version"]) == (index, version)


Votes.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestVotes = Votes.TestCase
