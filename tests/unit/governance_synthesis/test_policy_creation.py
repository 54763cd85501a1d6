"""Policy creation over fakes of the other parts: killed anywhere it has each effect once; it waits for people where roles do not reach."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import (
    Certificate,
    CertificateBody,
    Obligation,
    RequestEnvironment,
    VerificationProgress,
    VerificationReport,
)
from acgs1.contracts.governance_synthesis import Draft, NewDraft, NewPolicyCreation, RepairRequest
from acgs1.contracts.policy_governance import Bundle, NewBundle, NewProposal, Proposal
from acgs1.core.clock import ManualClock
from acgs1.core.hashing import text_hash
from acgs1.kit.errors import UpstreamRejected
from acgs1.services.governance_synthesis.creation import PolicyCreation
from acgs1.services.governance_synthesis.errors import NotProvable
from acgs1.services.governance_synthesis.ports import Logged, Waiting

STARTER = Identity(id="usr_ines", name="ines", roles=(Role.LEGISLATOR,))
REQUEST = NewPolicyCreation(name="heavy parcels", instructions=("A rule.",))
CONSTITUTION = Constitution.model_validate(
    {
        "name": "c",
        "schema_text": "entity A;",
        "principles": [{"id": "p", "title": "t", "text": "t", "category": "c", "priority": 1}],
    }
)


class Killed(BaseException):
    """The process is gone: nothing of it can catch this."""


class Kept:
    """Steps whose results are kept, in a process that dies at `point` ("<step>:before" or "<step>:after") once."""

    def __init__(self) -> None:
        self.results: dict[str, JsonValue] = {}
        self.points: list[str] = []
        self.die_at: str | None = None

    async def __call__(self, name: str, work: Callable[[], Awaitable[JsonValue]]) -> Any:
        if name not in self.results:
            self._reach(f"{name}:before")
            while True:
                try:
                    result = await work()
                    break
                except Waiting:
                    self.waiting()
            self._reach(f"{name}:after")
            self.results[name] = result
        return self.results[name]

    def waiting(self) -> None:
        """What happens while a step waits; by default nothing ever will."""
        raise AssertionError("nobody does what it waits for")

    def _reach(self, point: str) -> None:
        self.points.append(point)
        if point == self.die_at:
            self.die_at = None
            raise Killed


class World:
    """Synthesis and the other parts. Everything made is counted under what identifies it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.drafts: dict[str, Draft] = {}
        self.made: list[str] = []
        self.verdicts = ["proved"]
        self.verifications: dict[str, VerificationReport] = {}
        self.bundles: dict[str, Bundle] = {}
        self.proposals: list[Proposal] = []
        self.keys: dict[str, Any] = {}
        self.may_propose = self.may_activate = True
        self.answers_lost = 0
        self.frozen = 0

    # synthesis

    async def draft(self, request: NewDraft, by: Identity, draft_id: str) -> Draft:
        return self._draft(draft_id, None, by)

    async def repair(self, draft_id: str, request: RepairRequest, by: Identity, repaired_id: str) -> Draft:
        assert request.report.policies_hash == self.drafts[draft_id].policies_hash
        return self._draft(repaired_id, draft_id, by)

    async def get(self, draft_id: str) -> Draft:
        return self.drafts[draft_id]

    def _draft(self, draft_id: str, parent: str | None, by: Identity) -> Draft:
        if draft_id not in self.drafts:
            policies = f"permit(principal, action, resource); // {len(self.drafts)}"
            self.made.append(f"draft {draft_id}")
            self.drafts[draft_id] = Draft(
                id=draft_id,
                constitution_hash=CONSTITUTION.hash,
                policies=policies,
                policies_hash=text_hash(policies),
                author="test",
                strategy="literal",
                parent_id=parent,
                sentences=[],
                created_by=by.id,
                created_at=self.clock.now(),
            )
        return self.drafts[draft_id]

    # the other parts

    async def in_force(self) -> Constitution:
        return CONSTITUTION

    async def constitution(self, digest: str) -> Constitution:
        assert digest == CONSTITUTION.hash
        return CONSTITUTION

    async def verify(self, policies: str, constitution: Constitution, key: str) -> str:
        if key not in self.keys:
            self.made.append(f"verification of {key}")
            verdict = self.verdicts.pop(0)
            number = len(self.verifications)
            obligation = Obligation(
                id="o1",
                kind="never",
                principle_id="p",
                invariant_index=0,
                environment=RequestEnvironment(principal="A", action="a", resource="A"),
                verdict=verdict,  # pyright: ignore[reportArgumentType]
                reason="too hard" if verdict == "unknown" else None,
                solver="cvc5",
                milliseconds=1,
            )
            report = VerificationReport(
                id=f"ver_{number}",
                policies_hash=text_hash(policies),
                schema_hash="0" * 64,
                constitution_hash=constitution.hash,
                verdict=verdict,  # pyright: ignore[reportArgumentType]
                obligations=[obligation],
                principles_without_invariants=[],
                certificate_hash="c" * 64 if verdict == "proved" else None,
                started_at=self.clock.now(),
                milliseconds=1,
            )
            self.verifications[report.id] = report
            self.keys[key] = report.id
        return self.keys[key]

    async def verification(self, verification_id: str) -> VerificationReport | VerificationProgress:
        return self.verifications[verification_id]

    async def certificate(self, digest: str) -> Certificate:
        body = CertificateBody(
            policies_hash="0" * 64,
            schema_hash="0" * 64,
            constitution_hash=CONSTITUTION.hash,
            obligations=[],
            kernel="k",
            solver="s",
            issued_at=self.clock.now(),
        )
        return Certificate(body=body, hash=digest, key_id="k", signature="s")

    async def build(self, bundle: NewBundle, by: str, key: str) -> Bundle:
        assert by == STARTER.id
        digest = text_hash(bundle.policies)
        if digest not in self.bundles:
            self.made.append(f"bundle {digest}")
            self.bundles[digest] = Bundle(
                hash=digest,
                name=bundle.name,
                status="built",
                policies=bundle.policies,
                schema_text="",
                guards="",
                guard_principles={},
                constitution_hash=CONSTITUTION.hash,
                certificate_hash=bundle.certificate.hash,
                signature="s",
                created_at=self.clock.now(),
                activated_at=None,
            )
        return self.bundles[digest]

    async def bundle(self, digest: str) -> Bundle:
        return self.bundles[digest]

    async def proposal_of(self, bundle_hash: str) -> Proposal | None:
        live = [p for p in self.proposals if p.bundle_hash == bundle_hash and p.status not in {"rejected", "cancelled"}]
        return live[-1] if live else None

    async def propose(self, proposal: NewProposal, by: str, key: str) -> Proposal:
        if not self.may_propose:
            raise _refused("forbidden", 403)
        if key in self.keys:
            raise _refused("outcome_unknown", 409)
        self.keys[key] = made = self.propose_as(by, proposal)
        if self.answers_lost:
            self.answers_lost -= 1
            raise _refused("outcome_unknown", 409)
        return made

    def propose_as(self, member: str, proposal: NewProposal) -> Proposal:
        self.made.append(f"proposal of {proposal.bundle_hash}")
        made = Proposal.model_validate(
            {
                "id": f"prp_{len(self.proposals)}",
                "title": proposal.title,
                "bundle_hash": proposal.bundle_hash,
                "certificate_hash": "c" * 64,
                "status": "open",
                "index": len(self.proposals),
                "address": "a",
                "for_weight": 0,
                "against_weight": 0,
                "abstain_weight": 0,
                "closes_at": self.clock.now() + timedelta(seconds=proposal.voting_seconds),
                "voting_seconds": proposal.voting_seconds,
                "proposed_by": member,
                "created_at": self.clock.now(),
            }
        )
        self.proposals.append(made)
        return made

    def change(self, **values: Any) -> None:
        """The newest proposal, on the ledger."""
        self.proposals[-1] = self.proposals[-1].model_copy(update=values)

    async def proposal(self, proposal_id: str) -> Proposal:
        return next(p for p in self.proposals if p.id == proposal_id)

    async def finalize(self, proposal_id: str) -> Proposal:
        proposal = await self.proposal(proposal_id)
        decided = proposal.for_weight >= 5 or proposal.against_weight >= 5
        if proposal.status == "open" and not decided and proposal.closes_at > self.clock.now():
            raise _refused("ledger_voting_period_not_ended", 409)
        if proposal.status == "open" and proposal.for_weight <= proposal.against_weight:
            self.change(status="rejected")
        elif proposal.status in {"open", "accepted"}:
            self.made.append(f"enactment of {proposal_id}")
            self.change(status="enacted")
            self._adopt(proposal.bundle_hash)
        return await self.proposal(proposal_id)

    def _adopt(self, digest: str | None) -> None:
        assert digest is not None
        self.bundles[digest] = self.bundles[digest].model_copy(update={"status": "adopted"})

    async def activate(self, bundle_hash: str, by: str) -> Bundle:
        if self.frozen:
            self.frozen -= 1
            raise _refused("activation_frozen", 409)
        if not self.may_activate:
            raise _refused("forbidden", 403)
        return self.activate_as(by, bundle_hash)

    def activate_as(self, operator: str, bundle_hash: str) -> Bundle:
        assert self.bundles[bundle_hash].status in {"adopted", "retired"}
        self.made.append(f"activation of {bundle_hash}")
        active = {"status": "active", "activated_at": self.clock.now()}
        self.bundles[bundle_hash] = self.bundles[bundle_hash].model_copy(update=active)
        return self.bundles[bundle_hash]

    async def logged(self, kind: str, subject: str, since: datetime) -> Logged | None:
        assert self.bundles[subject].activated_at == since
        return Logged("evt_1", 7, 9)


def _refused(code: str, status: int) -> UpstreamRejected:
    return UpstreamRejected("no", upstream="policy_governance", upstream_code=code, status=status)


@pytest.fixture
def world() -> World:
    return World(ManualClock())


class Story(Kept):
    """What people do while the workflow waits, one thing after another."""

    def __init__(self, *chapters: Callable[[], object]) -> None:
        super().__init__()
        self._chapters = list(chapters)

    def waiting(self) -> None:
        assert self._chapters, "it waits for something that nobody will do"
        self._chapters.pop(0)()


async def run(world: World, step: Kept, request: NewPolicyCreation = REQUEST) -> str:
    """Until it ends; a process that was killed is followed by another one."""
    for _ in range(100):
        # Nothing but what is kept survives.
        creation = PolicyCreation(world, world, world.clock)  # pyright: ignore[reportArgumentType]
        try:
            return await creation.run("wfl_1", request, STARTER, step)
        except Killed:
            continue
    raise AssertionError("it never ends")


async def test_a_sentence_becomes_a_policy_in_force(world: World):
    step = Story(lambda: world.change(for_weight=5))
    assert await run(world, step) == "activated"
    (bundle,) = world.bundles.values()
    assert bundle.status == "active"
    assert step.results["evidence"] == {"event": "evt_1", "leaf_index": 7, "tree_size": 9}
    assert step.results["vote"] == {"status": "enacted", "for": 5, "against": 0, "abstain": 0}


async def test_killed_at_any_step_each_effect_is_there_once():
    def story(world: World) -> Story:
        world.verdicts = ["refuted", "refuted", "proved"]
        return Story(lambda: world.change(for_weight=5))

    undisturbed = World(ManualClock())
    whole = story(undisturbed)
    await run(undisturbed, whole)
    assert len(whole.points) == 2 * len(whole.results) == 2 * 16
    for point in whole.points:
        world = World(ManualClock())
        step = story(world)
        step.die_at = point
        assert await run(world, step) == "activated", point
        assert step.die_at is None, point
        kinds = [made.split()[0] for made in world.made]
        assert kinds == [made.split()[0] for made in undisturbed.made], point
        assert len(set(world.made)) == len(world.made), point


async def test_what_is_refuted_is_repaired_and_proved_again_as_often_as_asked(world: World):
    world.verdicts = ["refuted", "refuted", "proved"]
    await run(world, Story(lambda: world.change(for_weight=5)))
    assert [d.parent_id is not None for d in world.drafts.values()] == [False, True, True]

    again = World(ManualClock())
    again.verdicts = ["refuted", "refuted", "proved"]
    with pytest.raises(NotProvable, match="after 1 repair"):
        await run(again, Kept(), REQUEST.model_copy(update={"repairs": 1}))
    assert not again.bundles


async def test_what_is_not_known_to_be_proved_goes_no_further(world: World):
    world.verdicts = ["unknown"]
    with pytest.raises(NotProvable) as refusal:
        await run(world, Kept())
    assert refusal.value.items[0].detail == "unknown: too hard"
    assert not world.bundles


async def test_a_vote_that_says_no_ends_it_and_nothing_is_activated(world: World):
    step = Story(lambda: world.change(against_weight=5))
    assert await run(world, step) == "rejected"
    assert not any("activation" in made or "enactment" in made for made in world.made)


async def test_a_vote_without_enough_ballots_is_closed_when_its_time_is_over(world: World):
    step = Story(lambda: world.change(against_weight=1), lambda: world.clock.advance(3 * 86_400 + 1))
    assert await run(world, step) == "rejected"


async def test_the_ledger_is_asked_to_close_a_vote_only_when_something_has_changed(world: World):
    tries: list[str] = []
    close = world.finalize

    async def counting(proposal_id: str) -> Proposal:
        tries.append(proposal_id)
        return await close(proposal_id)

    world.finalize = counting
    nothing = [lambda: None] * 5
    await run(world, Story(*nothing, lambda: world.change(for_weight=1), *nothing, lambda: world.change(for_weight=5)))
    # Empty at first, one ballot, decided.
    assert len(tries) == 3


async def test_a_proposal_whose_answer_was_lost_is_found_and_not_made_again(world: World):
    world.answers_lost = 1
    step = Story(lambda: world.change(for_weight=5))
    assert await run(world, step) == "activated"
    assert len(world.proposals) == 1


async def test_a_proposal_that_was_refused_and_whose_answer_was_lost_is_made_anew(world: World):
    world.keys["wfl_1.proposal"] = "made by a process that was killed, and refused by the ledger"
    assert await run(world, Story(lambda: world.change(for_weight=5))) == "activated"
    assert len(world.proposals) == 1


async def test_a_starter_who_is_no_member_waits_for_one_to_propose(world: World):
    world.may_propose = False

    def propose() -> None:
        (digest,) = world.bundles
        world.propose_as("usr_mei", NewProposal(bundle_hash=digest, title="hers"))

    step = Story(propose, lambda: world.change(for_weight=5))
    assert await run(world, step) == "activated"
    assert [p.proposed_by for p in world.proposals] == ["usr_mei"]


async def test_a_starter_who_is_no_operator_waits_for_one_to_activate(world: World):
    world.may_activate = False

    def activate() -> None:
        (digest,) = world.bundles
        world.activate_as("usr_olu", digest)

    assert await run(world, Story(lambda: world.change(for_weight=5), activate)) == "activated"
    assert sum("activation" in made for made in world.made) == 1


async def test_an_emergency_that_freezes_activation_is_waited_for(world: World):
    world.frozen = 2
    step = Story(lambda: world.change(for_weight=5), lambda: None, lambda: None)
    assert await run(world, step) == "activated"


@pytest.mark.parametrize(("status", "activations"), [("active", 0), ("adopted", 1), ("retired", 1)])
async def test_a_bundle_that_a_vote_has_accepted_before_is_not_voted_on_again(
    world: World, status: str, activations: int
):
    await run(world, Story(lambda: world.change(for_weight=5)))
    ((digest, bundle),) = world.bundles.items()
    activated_at = None if status == "adopted" else bundle.activated_at
    world.bundles[digest] = bundle.model_copy(update={"status": status, "activated_at": activated_at})
    world.clock.advance(60)
    made = len(world.made)
    # The same sentences under the same constitution give the same policies.
    draft = next(iter(world.drafts.values()))
    original = world._draft  # pyright: ignore[reportPrivateUsage]
    world._draft = lambda draft_id, parent, by: original(draft.id, parent, by)  # pyright: ignore[reportPrivateUsage]
    world.verdicts, world.keys = ["proved"], {}
    again = Kept()
    assert await run(world, again) == "activated"
    assert "proposal" not in again.results
    assert world.bundles[digest].status == "active"
    assert [m.split()[0] for m in world.made[made:]] == ["verification", *["activation"] * activations]
