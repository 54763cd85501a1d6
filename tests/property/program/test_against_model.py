"""Random sequences of all instructions, on the program and on the Python statement of its rules: the same refusals, and after
every step the same state."""

from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from solders.pubkey import Pubkey

from acgs1.ledger import model
from acgs1.ledger.errors import snake_case
from acgs1.ledger.instructions import Parameters, content_hash
from acgs1.ledger.model import (
    COOL_DOWN,
    MAX_EMERGENCY,
    MAX_VOTING_PERIOD,
    MAX_WEIGHT,
    RATIFICATION_PERIOD,
    Governance,
    Refused,
    Rules,
    emergency_content,
)
from program.rig import DAY, IDL, SHIPPED, Rig, digest

NAMES = tuple(f"wallet {i}" for i in range(5))
ROLES = ("council", "emergency", "log", "verifier")
TEXTS = ("a", "b", "c")
WEIGHTS = st.one_of(st.integers(1, 5), st.sampled_from([0, 1, 2**32, 2**63, MAX_WEIGHT - 1, MAX_WEIGHT]))
WHO = st.sampled_from(NAMES)
ANYBODY = st.sampled_from((*NAMES, *ROLES))
CHOICES = st.sampled_from(("for", "against", "abstain"))
TEXT = st.sampled_from(TEXTS)
TITLES = st.sampled_from(("No harm", "No harm", "x" * 64, "x" * 65, "", "é" * 32, "é" * 33))
RULES = st.builds(
    Rules,
    st.sampled_from([DAY, DAY, 3600, 2 * DAY, MAX_VOTING_PERIOD, 0, MAX_VOTING_PERIOD + 1]),
    st.sampled_from([5_001, 6_000, 10_000, 5_000, 10_001]),
    st.sampled_from([1, 5_000, 10_000, 0, 10_001]),
    st.booleans(),
)
ROLE = st.sampled_from(ROLES)
EMERGENCIES = st.sampled_from(("suspend_policy", "freeze_activation", "revoke_agent"))
KIND = {
    "add_principle": "principle", "amend_principle": "principle", "retire_principle": "principle",
    "register_member": "membership", "set_weight": "membership", "remove_member": "membership",
    "set_parameters": "parameters",
}  # fmt: skip
CHANGES = st.one_of(
    st.tuples(st.just("add_principle"), TEXT, TEXT, TITLES),
    st.tuples(st.just("amend_principle"), st.integers(0, 3), TEXT, TEXT, TITLES),
    st.tuples(st.just("retire_principle"), st.integers(0, 3), TEXT),
    st.tuples(st.just("register_member"), WHO, WEIGHTS),
    st.tuples(st.just("set_weight"), WHO, WEIGHTS),
    st.tuples(st.just("remove_member"), WHO),
    st.tuples(st.just("set_parameters"), RULES),
)
BALLOT = {"for": 1, "against": 2, "abstain": 3}


class Ledger(RuleBasedStateMachine):
    """INVARIANT: the program refuses with the model's error, or both do the same."""

    reached: ClassVar[set[str]] = set()

    @initialize(
        threshold=st.sampled_from([5_001, 6_000, 6_667, 10_000]),
        quorum=st.sampled_from([1, 5_000, 10_000]),
        change=st.booleans(),
        ratified=st.sampled_from([True, True, False]),
    )
    def start(self, threshold: int, quorum: int, change: bool, ratified: bool) -> None:
        self.rig = Rig()
        self.keys = {name: self.rig.key(name) for name in (*NAMES, *ROLES)}
        self.rig.initialize(Parameters(DAY, threshold, quorum, change), "a")
        self.model = Governance("council", "verifier", Rules(DAY, threshold, quorum, change), constitution="a")
        self.changes: dict[int, tuple] = {}
        self.taken: dict[int, tuple[str, str | None]] = {}  # kind and target of each emergency action
        self.change("council", ("add_principle", "a", "b", "No harm"), None)
        for name in NAMES[:3]:
            self.change("council", ("register_member", name, 2), None)
        if ratified:
            self.ratify("council", "b")

    # -- both sides -------------------------------------------------------------------------------------------

    @property
    def index(self) -> int:
        return len(self.model.proposals)

    def key(self, name: str):
        return self.keys[name].pubkey()

    def both(self, name: str, act, ix, *signers: str) -> bool:
        """Does the same on both sides. True where it was done."""
        try:
            act()
            expected = None
        except Refused as refused:
            expected = str(refused)
        outcome = self.rig.send(ix, *(self.keys[s] for s in signers))
        assert outcome.error == expected, (name, outcome.error, expected, outcome.logs)
        Ledger.reached.add(name if expected is None else f"{name}: {expected}")
        return expected is None

    def instruction(self, change: tuple, by: str | None, proposal: int | None):
        """The instruction of a change of the registers. `by`: None for the rig's payer."""
        name, *args = change
        payer = self.rig.payer.pubkey() if by is None else self.key(by)
        if name == "set_parameters":
            rules = args[0]
            given = Parameters(rules.voting_period, rules.threshold_bp, rules.quorum_bp, rules.vote_change_allowed)
            return self.rig.ix.set_parameters(payer, given, proposal)
        if name == "add_principle":
            content, constitution, title = args
            at = len(self.model.principles)
            return self.rig.ix.add_principle(payer, at, title, digest(content), digest(constitution), proposal)
        if name == "amend_principle":
            at, content, constitution, title = args
            return self.rig.ix.amend_principle(payer, at, title, digest(content), digest(constitution), proposal)
        if name == "retire_principle":
            return self.rig.ix.retire_principle(payer, args[0], digest(args[1]), proposal)
        return getattr(self.rig.ix, name)(payer, self.key(args[0]), *args[1:], proposal)

    def change(self, by: str | None, change: tuple, proposal: int | None) -> bool:
        name, *args = change
        act = getattr(self.model, name)
        ix = self.instruction(change, by, proposal)
        now = self.rig.now
        signers = () if by is None else (by,)
        return self.both(name, lambda: act(by or "anybody", *args, now=now, proposal=proposal), ix, *signers)

    def a_proposal(self, data: st.DataObject) -> int:
        """An index; the last ones more often, sometimes one that is not there."""
        newest = st.integers(max(0, self.index - 3), self.index - 1)
        return data.draw(st.one_of(newest, newest, st.integers(0, self.index)))

    # -- registers --------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.model.ratified)
    @rule(by=st.one_of(st.just("council"), ANYBODY), change=CHANGES)
    def bootstrap(self, by: str, change: tuple) -> None:
        self.change(by, change, None)

    @precondition(lambda self: self.model.ratified)
    @rule(by=ANYBODY, change=CHANGES)
    def change_without_a_vote(self, by: str, change: tuple) -> None:
        self.change(by, change, None)

    @rule(by=st.one_of(st.just("council"), ANYBODY), text=TEXT)
    def ratify(self, by: str, text: str) -> None:
        self.both("ratify", lambda: self.model.ratify(by, text), self.rig.ix.ratify(self.key(by), digest(text)), by)

    @precondition(lambda self: self.model.ratified)
    @rule(who=WHO, change=CHANGES)
    def propose_change(self, who: str, change: tuple) -> None:
        self.propose_change_once(who, change)

    def propose_change_once(self, who: str, change: tuple) -> bool:
        index = self.index
        named = content_hash(self.instruction(change, None, index))
        content = repr((change[0], repr(change[1]))) if change[0] == "set_parameters" else repr(change)
        period = min(max(self.model.rules.voting_period, 1), MAX_VOTING_PERIOD)
        kind = KIND[change[0]]
        made = self.both(
            "propose",
            lambda: self.model.propose(who, kind, content, None, period, self.rig.now),
            self.rig.ix.propose(self.key(who), index, kind, named, None, period),
            who,
        )
        if made:
            self.changes[index] = change
        return made

    @precondition(lambda self: bool(self.changes))
    @rule(data=st.data(), other=st.one_of(st.none(), st.none(), CHANGES))
    def carry_out(self, data: st.DataObject, other: tuple | None) -> None:
        index = data.draw(st.sampled_from(sorted(self.changes)))
        self.change(None, other or self.changes[index], index)

    @precondition(lambda self: self.model.ratified)
    @rule(change=CHANGES, again=st.booleans(), leave_open=st.booleans())
    def change_by_vote(self, change: tuple, again: bool, leave_open: bool) -> None:
        """A change's whole way, so that what comes after it is reached often."""
        index = self.index
        if not self.propose_change_once(self.a_member(), change):
            return
        self.all_vote_on(index, "for")
        self.change(None, change, index)
        if again:
            self.change(None, change, index)
        if leave_open:
            self.propose_once(self.a_member(), "constitution", "a", MAX_VOTING_PERIOD)

    def a_member(self) -> str:
        return next((n for n in NAMES if n in self.model.members and self.model.members[n].weight), NAMES[0])

    # -- votes ------------------------------------------------------------------------------------------------

    @rule(
        who=WHO,
        kind=st.sampled_from(["policy", "constitution"]),
        text=TEXT,
        period=st.sampled_from([DAY - 1, DAY, DAY, 3 * DAY, MAX_VOTING_PERIOD, MAX_VOTING_PERIOD + 1]),
    )
    def propose(self, who: str, kind: str, text: str, period: int) -> None:
        self.propose_once(who, kind, text, period)

    def propose_once(self, who: str, kind: str, text: str, period: int) -> bool:
        certificate = f"certificate {text}" if kind == "policy" else None
        return self.both(
            "propose",
            lambda: self.model.propose(who, kind, text, certificate, period, self.rig.now),
            self.rig.ix.propose(
                self.key(who), self.index, kind, digest(text), certificate and digest(certificate), period
            ),
            who,
        )

    @rule(who=WHO, number=st.integers(0, 3), more=st.sampled_from([0, 0, -1, 3600, MAX_EMERGENCY, MAX_VOTING_PERIOD]))
    def propose_ratification(self, who: str, number: int, more: int) -> None:
        self.propose_ratification_once(who, number, more)

    def propose_ratification_once(self, who: str, number: int, more: int = 0) -> bool:
        period = min(self.model.rules.voting_period, RATIFICATION_PERIOD) + more
        agent = self.agent(number)
        content = bytes(self.account_of(number)).hex()
        return self.both(
            "propose",
            lambda: self.model.propose(
                who, "emergency_ratification", emergency_content(number, agent), None, period, self.rig.now
            ),
            self.rig.ix.propose(self.key(who), self.index, "emergency_ratification", content, None, period),
            who,
        )

    def agent(self, number: int) -> str | None:
        """The agent that the action revokes, or revoked before its account was closed."""
        kind, target = self.taken.get(number, ("", None))
        return target if kind == "revoke_agent" else None

    def account_of(self, number: int) -> Pubkey:
        agent = self.agent(number)
        return self.rig.at.emergency(number, agent and digest(agent))

    def vote_on(self, who: str, index: int, choice: str) -> None:
        self.both(
            "vote",
            lambda: self.model.vote(who, index, choice, self.rig.now),
            self.rig.ix.vote(self.key(who), index, choice),
            who,
        )

    def finalize_one(self, index: int) -> None:
        proposal = self.model.proposals[index] if index < self.index else None
        proposer = self.key(proposal.proposer if proposal else NAMES[0])
        self.both("finalize", lambda: self.model.finalize(index, self.rig.now), self.rig.ix.finalize(index, proposer))

    def all_vote_on(self, index: int, choice: str) -> None:
        for who in NAMES:
            self.vote_on(who, index, choice)
        if self.model.rules.vote_change_allowed:
            self.rig.set_time(max(self.rig.now, self.model.proposal(index).ends_at))
        self.finalize_one(index)

    @precondition(lambda self: bool(self.model.proposals))
    @rule(who=ANYBODY, data=st.data(), choice=CHOICES)
    def vote(self, who: str, data: st.DataObject, choice: str) -> None:
        self.vote_on(who, self.a_proposal(data), choice)

    @precondition(lambda self: bool(self.model.proposals))
    @rule(data=st.data(), choice=CHOICES)
    def all_vote(self, data: st.DataObject, choice: str) -> None:
        index = data.draw(st.integers(0, self.index - 1))
        if self.model.proposals[index] is not None:
            self.all_vote_on(index, choice)

    @precondition(lambda self: bool(self.model.proposals))
    @rule(data=st.data())
    def finalize(self, data: st.DataObject) -> None:
        self.finalize_one(self.a_proposal(data))

    @precondition(lambda self: bool(self.model.proposals))
    @rule(who=st.one_of(st.none(), WHO), data=st.data())
    def cancel(self, who: str | None, data: st.DataObject) -> None:
        index = self.a_proposal(data)
        proposal = self.model.proposals[index] if index < self.index else None
        by = who or (proposal.proposer if proposal else NAMES[0])
        self.both(
            "cancel",
            lambda: self.model.cancel(by, index, self.rig.now),
            self.rig.ix.cancel(self.key(by), index),
            by,
        )

    @precondition(lambda self: bool(self.model.proposals))
    @rule(who=st.one_of(st.none(), WHO), data=st.data())
    def close(self, who: str | None, data: st.DataObject) -> None:
        index = self.a_proposal(data)
        proposal = self.model.proposals[index] if index < self.index else None
        by = who or (proposal.proposer if proposal else NAMES[0])
        self.both(
            "close_proposal",
            lambda: self.model.close_proposal(by, index, self.rig.now),
            self.rig.ix.close_proposal(self.key(by), index),
            by,
        )

    # -- force ------------------------------------------------------------------------------------------------

    def attest_as(self, by: str, certificate: str, content: str, version: int) -> None:
        self.both(
            "attest",
            lambda: self.model.attest(by, f"certificate {certificate}", content, version),
            self.rig.ix.attest(self.key(by), digest(f"certificate {certificate}"), digest(content), version),
            by,
        )

    @rule(other=st.one_of(st.none(), st.none(), ANYBODY), text=TEXT, content=TEXT, stale=st.booleans())
    def attest(self, other: str | None, text: str, content: str, stale: bool) -> None:
        self.attest_as(other or self.model.verifier, text, content, self.model.constitution_version + int(stale))

    @rule(other=st.one_of(st.none(), st.none(), ANYBODY), text=TEXT)
    def revoke_attestation(self, other: str | None, text: str) -> None:
        by = other or self.model.verifier
        self.both(
            "revoke_attestation",
            lambda: self.model.revoke_attestation(by, f"certificate {text}"),
            self.rig.ix.revoke_attestation(self.key(by), digest(f"certificate {text}")),
            by,
        )

    def enact_one(self, index: int) -> None:
        proposal = self.model.proposals[index] if index < self.index else None
        policy = attestation = emergency = None
        if proposal is not None and proposal.kind == "policy":
            policy = self.rig.at.policy(digest(proposal.content))
            attestation = self.rig.at.attestation(digest(proposal.certificate or ""))
        elif proposal is not None and proposal.kind == "emergency_ratification":
            number = next(n for n in range(4) if emergency_content(n, self.agent(n)) == proposal.content)
            emergency = self.account_of(number)
            kind, target = self.taken.get(number, ("", None))
            if kind == "suspend_policy" and self.model.emergencies[number] is not None:
                policy = self.rig.at.policy(digest(target or ""))
        ix = self.rig.ix.enact(
            self.rig.payer.pubkey(), index, policy=policy, attestation=attestation, emergency=emergency
        )
        kind = proposal.kind if proposal else "nothing"
        self.both(f"enact {kind}", lambda: self.model.enact(index, self.rig.now), ix)

    @precondition(lambda self: bool(self.model.proposals))
    @rule(data=st.data())
    def enact(self, data: st.DataObject) -> None:
        self.enact_one(self.a_proposal(data))

    @precondition(lambda self: self.model.ratified)
    @rule(text=TEXT, amended=st.booleans())
    def policy_by_vote(self, text: str, amended: bool) -> None:
        """A policy's whole way into force; with an amendment in between, which makes its attestation stale."""
        index = self.index
        self.attest_as(self.model.verifier, text, text, self.model.constitution_version)
        if not self.propose_once(self.a_member(), "policy", text, max(DAY, self.model.rules.voting_period)):
            return
        self.all_vote_on(index, "for")
        if amended:
            self.change_by_vote(("add_principle", "c", "c", "Another"), False, False)
        self.enact_one(index)

    # -- emergencies ------------------------------------------------------------------------------------------

    @rule(
        other=st.one_of(st.none(), st.none(), st.none(), ANYBODY),
        kind=EMERGENCIES,
        text=TEXT,
        duration=st.sampled_from([1, DAY, MAX_EMERGENCY, MAX_EMERGENCY, 0, -1, MAX_EMERGENCY + 1]),
    )
    def emergency_action(self, other: str | None, kind: str, text: str, duration: int) -> None:
        by = other or self.model.emergency
        index, target = len(self.model.emergencies), None if kind == "freeze_activation" else text
        if index >= 4:
            return
        done = self.both(
            f"emergency_action {kind}",
            lambda: self.model.emergency_action(by, kind, target, duration, self.rig.now),
            self.rig.ix.emergency_action(self.key(by), index, kind, target and digest(target), digest("why"), duration),
            by,
        )
        if done:
            self.taken[index] = (kind, target)

    @rule(other=st.one_of(st.none(), st.none(), ANYBODY), number=st.integers(0, 3))
    def end_emergency(self, other: str | None, number: int) -> None:
        by = other or self.model.emergency
        action = self.model.emergencies[number] if number < len(self.model.emergencies) else None
        suspends = action is not None and action.kind == "suspend_policy"
        policy = self.rig.at.policy(digest(action.target)) if suspends else None
        self.both(
            "end_emergency",
            lambda: self.model.end_emergency(by, number, self.rig.now),
            self.rig.ix.end_emergency(self.key(by), number, policy, self.revoked(number)),
            by,
        )

    def revoked(self, number: int) -> str | None:
        """The hash of the agent at whose address the action stands; None where it stands at its number's, or nowhere any more."""
        agent = self.agent(number)
        standing = number < len(self.model.emergencies) and self.model.emergencies[number] is not None
        return digest(agent) if agent is not None and standing else None

    @rule(
        other=st.one_of(st.none(), st.none(), ANYBODY),
        number=st.integers(0, 3),
        late=st.sampled_from(["", "over", "almost", "forgotten"]),
    )
    def close_emergency(self, other: str | None, number: int, late: str) -> None:
        action = self.model.emergencies[number] if number < len(self.model.emergencies) else None
        if late and action is not None and action.status != "confirmed":
            cooled = {"over": 0, "almost": COOL_DOWN - 1, "forgotten": COOL_DOWN}
            self.rig.set_time(max(self.rig.now, action.expires_at + cooled[late]))
        issuer = other or (action.issuer if action else self.model.emergency)
        self.both(
            "close_emergency",
            lambda: self.model.close_emergency(issuer, number, self.rig.now),
            self.rig.ix.close_emergency(self.key(issuer), number, self.revoked(number)),
        )

    @precondition(lambda self: self.model.ratified and any(self.model.emergencies))
    @rule(data=st.data(), choice=CHOICES)
    def vote_on_emergency(self, data: st.DataObject, choice: str) -> None:
        index, number = self.index, data.draw(st.integers(0, len(self.model.emergencies) - 1))
        if self.propose_ratification_once(self.a_member(), number):
            self.all_vote_on(index, choice)
            self.enact_one(index)

    # -- authorities ------------------------------------------------------------------------------------------

    @rule(role=ROLE, other=st.one_of(st.none(), st.none(), ANYBODY), to=ANYBODY)
    def offer(self, role: str, other: str | None, to: str) -> None:
        by = other or getattr(self.model, role)
        self.both(
            "offer_authority",
            lambda: self.model.offer_authority(by, role, to),
            self.rig.ix.offer_authority(self.key(by), role, self.key(to)),
            by,
        )

    @rule(role=ROLE, other=st.one_of(st.none(), st.none(), ANYBODY))
    def accept(self, role: str, other: str | None) -> None:
        by = other or self.model.offers.get(role, role)
        self.both(
            "accept_authority",
            lambda: self.model.accept_authority(by, role),
            self.rig.ix.accept_authority(self.key(by), role),
            by,
        )

    @rule(other=st.one_of(st.none(), st.none(), ANYBODY), more=st.sampled_from([-1, 0, 1, 1, 100, 2**63]), text=TEXT)
    def anchor_root(self, other: str | None, more: int, text: str) -> None:
        by = other or self.model.log
        size = min(max(self.model.anchor.tree_size + more, 0), 2**64 - 1)
        self.both(
            "anchor_root",
            lambda: self.model.anchor_root(by, size, text, self.rig.now),
            self.rig.ix.anchor_root(self.key(by), size, digest(text)),
            by,
        )

    @rule(seconds=st.sampled_from([1, 3600, DAY, 3 * DAY, MAX_VOTING_PERIOD, MAX_VOTING_PERIOD + 1]))
    def wait(self, seconds: int) -> None:
        self.rig.set_time(self.rig.now + seconds)

    # -- equality ---------------------------------------------------------------------------------------------

    @invariant()
    def equal(self) -> None:
        if hasattr(self, "model"):
            assert self.seen() == self.expected()

    def expected(self) -> dict:
        """The model's state in the program's terms, account by account."""
        rig, m = self.rig, self.model
        nobody = bytes(32)
        state: dict = {
            rig.at.governance: {
                **{role: bytes(self.key(getattr(m, role))) for role in ROLES},
                **{f"pending_{r}": bytes(self.key(m.offers[r])) if r in m.offers else nobody for r in ROLES},
                "constitution_hash": bytes.fromhex(digest(m.constitution)),
                "total_weight": m.total_weight,
                "voting_period": m.rules.voting_period,
                "frozen_until": m.frozen_until,
                "proposal_count": len(m.proposals),
                "open_proposals": m.open_proposals,
                "emergency_count": len(m.emergencies),
                "parameters_open_to": m.parameters_open_to,
                "constitution_version": m.constitution_version,
                "member_slots": len(m.members),
                "active_members": sum(1 for x in m.members.values() if x.weight),
                "principle_count": len(m.principles),
                "active_principles": sum(1 for x in m.principles if x.active),
                "threshold_bp": m.rules.threshold_bp,
                "quorum_bp": m.rules.quorum_bp,
                "ratified": m.ratified,
                "vote_change_allowed": m.rules.vote_change_allowed,
            },
            rig.at.anchor: {
                "tree_size": m.anchor.tree_size,
                "root": nobody if m.anchor.root is None else bytes.fromhex(digest(m.anchor.root)),
                "anchored_at": m.anchor.anchored_at,
                "count": m.anchor.count,
            },
        }
        for i, principle in enumerate(m.principles):
            title = principle.title.encode()
            state[rig.at.principle(i)] = {
                "content_hash": bytes.fromhex(digest(principle.content)),
                "title": title.ljust(64, b"\0"),
                "updated_at": principle.updated_at,
                "version": principle.version,
                "constitution_version": principle.constitution_version,
                "index": i,
                "title_len": len(title),
                "status": "Active" if principle.active else "Retired",
            }
        for name, member in m.members.items():
            state[rig.at.member(self.key(name))] = {
                "wallet": bytes(self.key(name)),
                "weights": list(member.weights),
                "since": list(member.since),
                "changed_at": list(member.changed_at),
                "open_to": member.open_to,
                "slot": member.slot,
                "active": member.weight > 0,
            }
        for proposal in m.proposals:
            if proposal is not None:
                state[rig.at.proposal(proposal.index)] = self.expected_proposal(proposal)
        for content, (index, version) in m.policies.items():
            state[rig.at.policy(digest(content))] = {
                "content_hash": bytes.fromhex(digest(content)),
                "proposal": index,
                "suspended_until": m.suspended.get(content, 0),
                "constitution_version": version,
            }
        for certificate, (content, version) in m.attestations.items():
            state[rig.at.attestation(digest(certificate))] = {
                "certificate_hash": bytes.fromhex(digest(certificate)),
                "content_hash": bytes.fromhex(digest(content)),
                "constitution_version": version,
            }
        for action in m.emergencies:
            if action is not None:
                state[self.account_of(action.index)] = {
                    "index": action.index,
                    "issued_at": action.issued_at,
                    "expires_at": action.expires_at,
                    "open_to": action.open_to,
                    "target": nobody if action.target is None else bytes.fromhex(digest(action.target)),
                    "issuer": bytes(self.key(action.issuer)),
                    "kind": action.kind,
                    "status": action.status,
                }
        return state

    def expected_proposal(self, proposal) -> dict:
        slots = self.slots_at.setdefault(proposal.index, len(self.model.members)) if proposal.status == "active" else 0
        ballots = bytearray((slots + 3) // 4)
        if proposal.status == "active":
            for slot, choice in proposal.ballots.items():
                ballots[slot // 4] |= BALLOT[choice] << slot % 4 * 2
        return {
            "index": proposal.index,
            "total_weight": proposal.total_weight,
            "votes_for": proposal.sides["for"],
            "votes_against": proposal.sides["against"],
            "votes_abstain": proposal.sides["abstain"],
            "starts_at": proposal.starts_at,
            "ends_at": proposal.ends_at,
            "proposer": bytes(self.key(proposal.proposer)),
            "certificate_hash": bytes.fromhex(digest(proposal.certificate)) if proposal.certificate else bytes(32),
            "threshold_bp": proposal.threshold_bp,
            "quorum_bp": proposal.quorum_bp,
            "kind": proposal.kind,
            "status": proposal.status,
            "vote_change_allowed": proposal.vote_change_allowed,
            "constitution_version": proposal.constitution_version,
            "ballots": bytes(ballots),
        }

    @property
    def slots_at(self) -> dict[int, int]:
        """Member slots when a proposal was first seen, which is right after it was made."""
        return self.__dict__.setdefault("_slots_at", {})

    def seen(self) -> dict:
        """Every account of the program, decoded."""
        result: dict = {}
        for address, (_, data, _) in self.rig.state().items():
            decoded = IDL.decode_account(data)
            assert decoded is not None
            name, fields = decoded
            for padding in ("bump", "reserved"):
                fields.pop(padding, None)
            if name == "Proposal":
                del fields["content_hash"]  # `enact` and `carry_out` compare it
            if name == "Attestation":
                del fields["attested_at"]
            for key, value in fields.items():
                if key in ("kind", "status") and name != "Principle":
                    fields[key] = snake_case(value)
                elif type(value).__name__ == "Pubkey":
                    fields[key] = bytes(value)
            result[address] = fields
        return result


QUICK = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
Ledger.TestCase.settings = QUICK
TestLedger = Ledger.TestCase


class Fixed:
    """Draws what it was given."""

    def __init__(self, value: int) -> None:
        self.value = value

    def draw(self, _: object) -> int:
        return self.value


def walk() -> None:
    """Every instruction, and what random sequences seldom get to."""
    m = Ledger()
    m.start(6_000, 5_000, False, False)
    steps = [
        lambda: m.bootstrap("council", ("amend_principle", 0, "b", "b", "Harm nobody")),
        lambda: m.bootstrap("council", ("add_principle", "c", "c", "x" * 64)),
        lambda: m.bootstrap("council", ("retire_principle", 1, "b")),
        lambda: m.bootstrap("council", ("set_parameters", Rules(3600, 6_000, 4_000, False))),
        lambda: m.bootstrap("council", ("register_member", NAMES[3], 1)),
        lambda: m.bootstrap("council", ("set_weight", NAMES[3], 7)),
        lambda: m.bootstrap("council", ("remove_member", NAMES[3])),
        lambda: m.bootstrap("council", ("register_member", NAMES[3], 3)),
        lambda: m.ratify("council", "b"),
        *(
            lambda change=change: m.change_by_vote(change, True, True)
            for change in (
                ("add_principle", "a", "c", "Another"),
                ("amend_principle", 2, "b", "a", "Yet another"),
                ("retire_principle", 2, "b"),
                ("set_weight", NAMES[3], 5),
                ("remove_member", NAMES[3]),
                ("register_member", NAMES[4], 4),
                ("set_parameters", Rules(DAY, 5_001, 1, False)),
            )
        ),
        *(lambda w=w: m.propose_change(NAMES[0], ("set_weight", NAMES[1], w)) for w in (3, 2)),
        *(lambda back=back: m.all_vote(Fixed(m.index - back), "for") for back in (2, 1)),
        *(lambda back=back: m.carry_out(Fixed(m.index - back), None) for back in (1, 2)),
        lambda: m.policy_by_vote("a", False),
        lambda: m.policy_by_vote("b", True),
        lambda: m.attest(None, "c", "c", False),
        lambda: m.revoke_attestation(None, "c"),
        lambda: m.propose(NAMES[0], "constitution", "a", DAY),
        lambda: m.all_vote(Fixed(m.index - 1), "for"),
        lambda: m.enact(Fixed(m.index - 1)),
        lambda: m.propose(NAMES[0], "policy", "a", DAY),
        lambda: m.cancel(NAMES[1], Fixed(m.index - 1)),
        lambda: m.cancel(None, Fixed(m.index - 1)),
        lambda: m.close(None, Fixed(m.index - 1)),
        lambda: m.propose(NAMES[0], "policy", "a", DAY),
        lambda: m.vote(NAMES[1], Fixed(m.index - 1), "abstain"),
        lambda: m.cancel(None, Fixed(m.index - 1)),
        lambda: m.emergency_action(None, "suspend_policy", "a", MAX_EMERGENCY),
        lambda: m.emergency_action(None, "suspend_policy", "a", DAY),
        lambda: m.propose_ratification(NAMES[0], 0, MAX_EMERGENCY - RATIFICATION_PERIOD),
        lambda: m.vote_on_emergency(Fixed(0), "for"),
        lambda: m.end_emergency(None, 0),
        lambda: m.wait(MAX_VOTING_PERIOD),
        lambda: m.close_emergency(None, 0, ""),
        lambda: m.vote_on_emergency(Fixed(0), "against"),
        lambda: m.emergency_action(None, "suspend_policy", "a", DAY),
        lambda: m.propose_ratification(NAMES[0], 0, 0),
        lambda: m.close_emergency(None, 0, ""),
        lambda: m.close_emergency(None, 0, "forgotten"),
        lambda: m.emergency_action(None, "freeze_activation", "a", DAY),
        lambda: m.policy_by_vote("a", False),
        lambda: m.end_emergency(None, 1),
        lambda: m.enact(Fixed(m.index - 1)),
        lambda: m.emergency_action(None, "freeze_activation", "a", DAY),
        lambda: m.emergency_action(None, "revoke_agent", "a", MAX_EMERGENCY),
        lambda: m.emergency_action(None, "revoke_agent", "a", 1),
        lambda: m.propose_ratification(NAMES[0], 2, 0),
        lambda: m.end_emergency(None, 2),
        lambda: m.emergency_action(None, "revoke_agent", "a", 1),
        lambda: m.propose_ratification(NAMES[0], 2, -3600),
        lambda: m.close_emergency(None, 2, "almost"),
        lambda: m.wait(1),
        lambda: m.emergency_action(None, "revoke_agent", "a", 1),
        lambda: m.close_emergency("verifier", 2, ""),
        lambda: m.close_emergency(None, 2, "forgotten"),
        lambda: m.emergency_action(None, "revoke_agent", "a", MAX_EMERGENCY),
        lambda: m.enact(Fixed(m.index - 1)),
        lambda: m.vote_on_emergency(Fixed(3), "for"),
        lambda: m.anchor_root(None, 5, "a"),
        lambda: m.anchor_root(None, 0, "a"),
        *(lambda role=role: m.offer(role, None, NAMES[2]) for role in ROLES),
        *(lambda role=role: m.accept(role, None) for role in ROLES),
        lambda: m.offer("log", "log", "log"),
        lambda: m.offer("log", None, "log"),
        lambda: m.accept("log", NAMES[1]),
    ]
    for step in steps:
        step()
        m.equal()


def test_a_walk_through_every_instruction_agrees_too() -> None:
    assert SHIPPED is not None
    Ledger.reached.clear()
    walk()
    done = {name for name in Ledger.reached if ":" not in name}
    every = {i["name"] for i in SHIPPED.idl["instructions"]} - {"initialize", "exclude_bumps"}
    assert every - {name.split()[0] for name in done} == set()
    assert done >= {"enact policy", "enact constitution", "enact emergency_ratification"}
    assert Ledger.reached >= {
        "enact policy: StaleAttestation", "enact policy: ActivationFrozen", "emergency_action suspend_policy: EmergencyAlreadyActive",
        "end_emergency: EmergencyNotActive", "close_emergency: EmergencyStillActive", "anchor_root: AnchorNotGrowing",
        "accept_authority: NoOffer", "cancel: VotingHasBegun",
        "set_weight: ProposalOutdated", "propose: InvalidVotingPeriod", "propose: EmergencyNotActive",
        "emergency_action suspend_policy: EmergencyCoolingDown", "emergency_action freeze_activation: EmergencyCoolingDown",
        "emergency_action revoke_agent: EmergencyAlreadyActive", "emergency_action revoke_agent: EmergencyCoolingDown",
        "emergency_action revoke_agent: AlreadyExists", "close_emergency: EmergencyCoolingDown",
        "close_emergency: WrongRentRecipient", "offer_authority: Unauthorized", "set_weight: ProposalNotAccepted",
    }  # fmt: skip


@pytest.mark.slow
def test_long_sequences_agree_as_well() -> None:
    run_state_machine_as_test(Ledger, settings=settings(QUICK, max_examples=400, stateful_step_count=80))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("MAX_EMERGENCY", 71 * 3_600),
        ("COOL_DOWN", 71 * 3_600),
        ("RATIFICATION_PERIOD", 23 * 3_600),
        ("FOR_EVER", 2**62),
        ("MAX_TITLE", 63),
        ("MAX_VOTING_PERIOD", DAY),
    ],
)
def test_rules_that_differ_are_noticed(name: str, wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, name, wrong)
    with pytest.raises(AssertionError):
        walk()
