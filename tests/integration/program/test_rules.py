"""What the program promises, on the machine that it runs on."""

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM
from solders.system_program import TransferParams, transfer

from acgs1.ledger.instructions import Instructions, Parameters, content_hash
from acgs1.ledger.model import MAX_WEIGHT
from program.rig import DAY, START, Rig, digest, keypair

HOUR = 3_600


@pytest.mark.parametrize("mainnet", [False, True], ids=["all features", "the features of mainnet"])
def test_a_policy_takes_effect_by_proof_and_vote_and_the_rent_comes_back(mainnet: bool) -> None:
    rig = Rig(mainnet=mainnet)
    members = rig.ready((1, 1, 1, 1, 1))
    before = rig.lamports(members[0].pubkey())
    proposal = rig.propose(members[0])
    rig.attest()
    for member in members[:2]:
        assert rig.vote(member, proposal).ok
    assert rig.vote(members[3], proposal, "against").ok
    assert rig.finalize(proposal).error == "VotingPeriodNotEnded"  # 2 of 5; the other two can turn it either way
    assert rig.vote(members[2], proposal).ok  # 3 of 5: even if the last is against, it is 60 %
    finalized = rig.finalize(proposal)
    assert [name for name, _ in finalized.events] == ["ProposalFinalized"]
    assert finalized.events[0][1]["early"] is True
    enacted = rig.enact_policy(proposal)
    assert [name for name, _ in enacted.events] == ["ProposalEnacted", "PolicyEnacted"]
    policy = rig.read(rig.at.policy(digest("policy")))
    assert (policy["proposal"], policy["constitution_version"], policy["suspended_until"]) == (proposal, 1, 0)
    rig.must(rig.ix.close_proposal(members[0].pubkey(), proposal), members[0])
    assert not rig.exists(rig.at.proposal(proposal))
    assert rig.lamports(members[0].pubkey()) == before
    assert rig.enact_policy(proposal).error == "WrongOwner"


def test_a_weight_change_never_reaches_an_open_vote() -> None:
    rig = Rig()
    members = rig.ready((10, 10, 1))
    open_vote = rig.propose(members[0], content=digest("open"))
    ix = rig.ix.set_weight(rig.payer.pubkey(), members[2].pubkey(), 1_000, open_vote + 1)
    change = rig.propose(members[0], "membership", content_hash(ix))
    rig.carry(members[:2], change)
    rig.must(ix)
    removal = rig.ix.remove_member(rig.payer.pubkey(), members[1].pubkey(), open_vote + 2)
    second = rig.propose(members[0], "membership", content_hash(removal))
    assert rig.read(rig.at.proposal(second))["total_weight"] == 1_020
    assert rig.vote(members[2], second).ok
    assert rig.finalize(second).ok
    rig.must(removal)
    # The open vote still has the weights of its beginning: 10 of the removed member, 1 of the promoted one.
    assert rig.vote(members[2], open_vote).events[0][1]["weight"] == 1
    assert rig.vote(members[1], open_vote).events[0][1]["weight"] == 10
    later = rig.propose(members[0], content=digest("later"))
    assert rig.vote(members[1], later).error == "NotAMember"
    assert rig.vote(members[2], later).events[0][1]["weight"] == 1_000


def test_one_who_joins_during_a_vote_has_no_part_in_it() -> None:
    rig = Rig()
    members = rig.ready()
    new = rig.key("new")
    ix = rig.ix.register_member(rig.payer.pubkey(), new.pubkey(), 7, 1)
    running = rig.propose(members[0])
    joining = rig.propose(members[0], "membership", content_hash(ix))
    rig.carry(members[:2], joining)
    rig.must(ix)
    assert rig.vote(new, running).error == "NotAMember"
    assert rig.send(ix).error == "ProposalNotAccepted"  # once only


def test_votes_are_changed_where_the_parameters_allow_it_and_then_nothing_ends_early() -> None:
    rig = Rig()
    members = rig.ready((5, 5), Parameters(voting_period=DAY, vote_change_allowed=True))
    proposal = rig.propose(members[0])
    assert rig.vote(members[0], proposal).ok
    assert rig.vote(members[1], proposal).ok
    assert rig.vote(members[0], proposal).error == "AlreadyVoted"
    assert rig.finalize(proposal).error == "VotingPeriodNotEnded"
    assert rig.vote(members[0], proposal, "against").events[0][1]["changed"] is True
    state = rig.read(rig.at.proposal(proposal))
    assert (state["votes_for"], state["votes_against"], state["ballots"]) == (5, 5, bytes([0b0110]))
    rig.set_time(START + DAY)
    assert rig.finalize(proposal).events[0][1]["status"] == "Rejected"


def test_weights_up_to_64_bits_are_counted_exactly() -> None:
    rig = Rig()
    members = rig.ready((MAX_WEIGHT - 1, 1), Parameters(voting_period=DAY, threshold_bp=10_000, quorum_bp=10_000))
    proposal = rig.propose(members[0])
    assert rig.vote(members[0], proposal).ok
    assert rig.finalize(proposal).error == "VotingPeriodNotEnded"
    assert rig.vote(members[1], proposal, "against").ok
    event = rig.finalize(proposal).events[0][1]
    assert (event["status"], event["total_weight"]) == ("Rejected", MAX_WEIGHT)


def test_a_vote_among_10_000_members_costs_no_more_than_among_256() -> None:
    """The register is filled the way the program would, 40 members a transaction where it can."""
    rig = Rig()
    rig.initialize()
    rig.add_principle()
    first = rig.register("first")
    for start in range(0, 9_998, 8):
        batch = [
            rig.ix.register_member(rig.council.pubkey(), Pubkey(bytes([7] * 28) + i.to_bytes(4, "big")), 1)
            for i in range(start, min(start + 8, 9_998))
        ]
        rig.must(batch, rig.council)
    last = rig.register("last")
    rig.ratify()
    assert rig.read(rig.at.governance)["active_members"] == 10_000
    proposal = rig.propose(first)
    outcomes = [rig.vote(first, proposal), rig.vote(last, proposal, "against")]
    assert [o.error for o in outcomes] == [None, None]
    assert max(o.units for o in outcomes) <= 5_000
    state = rig.read(rig.at.proposal(proposal))
    assert len(state["ballots"]) == 2_500
    assert (state["ballots"][0], state["ballots"][-1]) == (0b01, 0b10_00_00_00)


def test_an_amendment_makes_older_attestations_stale_and_a_new_proof_helps() -> None:
    rig = Rig()
    members = rig.ready()
    rig.attest()
    policy = rig.propose(members[0])
    amendment = rig.propose(members[0], "constitution", digest("constitution 2"))
    rig.carry(members[:2], policy)
    rig.carry(members[:2], amendment)
    rig.must(rig.ix.enact(rig.payer.pubkey(), amendment))
    governance = rig.read(rig.at.governance)
    assert (governance["constitution_version"], governance["constitution_hash"].hex()) == (2, digest("constitution 2"))
    assert rig.enact_policy(policy).error == "StaleAttestation"
    rig.must(rig.ix.revoke_attestation(rig.verifier.pubkey(), digest("certificate")), rig.verifier)
    assert rig.enact_policy(policy).error == "WrongOwner"
    rig.attest()
    assert rig.enact_policy(policy).ok


def test_a_principle_changes_by_the_very_instruction_that_was_voted_on() -> None:
    rig = Rig()
    members = rig.ready()
    ix = rig.ix.amend_principle(rig.payer.pubkey(), 0, "No harm at all", digest("p2"), digest("c2"), 0)
    proposal = rig.propose(members[0], "principle", content_hash(ix))
    assert rig.send(ix).error == "ProposalNotAccepted"
    rig.carry(members[:2], proposal)
    rig.must(ix)
    principle = rig.read(rig.at.principle(0))
    assert (principle["version"], principle["constitution_version"]) == (2, 2)
    assert principle["title"][: principle["title_len"]] == b"No harm at all"


def test_an_amendment_cannot_undo_one_that_was_enacted_after_it_was_proposed() -> None:
    rig = Rig()
    members = rig.ready()
    whole = rig.propose(members[0], "constitution", digest("one"))
    other = rig.propose(members[0], "constitution", digest("other"))
    ix = rig.ix.amend_principle(rig.payer.pubkey(), 0, "Title", digest("p"), digest("third"), other + 1)
    single = rig.propose(members[0], "principle", content_hash(ix))
    for proposal in (whole, other, single):
        rig.carry(members[:2], proposal)
    rig.must(rig.ix.enact(rig.payer.pubkey(), whole))
    assert rig.send(rig.ix.enact(rig.payer.pubkey(), other)).error == "WrongConstitutionVersion"
    assert rig.send(ix).error == "WrongConstitutionVersion"
    assert rig.read(rig.at.governance)["constitution_hash"].hex() == digest("one")


def test_parameters_change_by_vote_and_open_votes_keep_theirs() -> None:
    rig = Rig()
    members = rig.ready()
    running = rig.propose(members[0])
    ix = rig.ix.set_parameters(rig.payer.pubkey(), Parameters(HOUR, 9_000, 9_000, True), 1)
    rig.carry(members[:2], rig.propose(members[0], "parameters", content_hash(ix)))
    rig.must(ix)
    governance = rig.read(rig.at.governance)
    assert (governance["threshold_bp"], governance["voting_period"]) == (9_000, HOUR)
    assert rig.read(rig.at.proposal(running))["threshold_bp"] == 6_000


def test_a_newer_decision_about_the_parameters_is_not_undone_by_an_older_one() -> None:
    rig = Rig()
    members = rig.ready()
    older, newer = (
        rig.ix.set_parameters(rig.payer.pubkey(), Parameters(HOUR, threshold), index)
        for index, threshold in enumerate((7_000, 8_000))
    )
    for ix in (older, newer):
        rig.carry(members[:2], rig.propose(members[0], "parameters", content_hash(ix)))
    rig.must(newer)
    rig.set_time(START + 25 * DAY)
    assert rig.send(older).error == "ProposalOutdated"
    assert rig.read(rig.at.governance)["threshold_bp"] == 8_000


def test_a_newer_decision_about_a_member_is_not_undone_by_an_older_one() -> None:
    rig = Rig()
    members = rig.ready((10, 10, 1))
    payer, wallet = rig.payer.pubkey(), members[2].pubkey()
    changes = [
        rig.ix.set_weight(payer, wallet, 1_000, 0),
        rig.ix.remove_member(payer, wallet, 1),
        rig.ix.register_member(payer, wallet, 5, 2),
        rig.ix.remove_member(payer, wallet, 3),
    ]
    for ix in changes:
        rig.carry(members[:2], rig.propose(members[0], "membership", content_hash(ix)))
    for ix in changes[1:]:
        rig.must(ix)
    rig.set_time(START + 25 * DAY)
    # Neither the old weight nor the old return comes after the newer removal.
    assert rig.send(changes[0]).error == "ProposalOutdated"
    again = rig.ix.register_member(payer, wallet, 5, 4)
    rig.carry(members[:2], rig.propose(members[0], "membership", content_hash(again)))
    rig.must(again)
    assert rig.read(rig.at.member(wallet))["open_to"] == 5


def test_decisions_about_different_members_do_not_touch_each_other() -> None:
    rig = Rig()
    members = rig.ready((10, 10, 1))
    older, newer = (
        rig.ix.set_weight(rig.payer.pubkey(), members[place].pubkey(), 7, index) for index, place in enumerate((2, 0))
    )
    for ix in (older, newer):
        rig.carry(members[:2], rig.propose(members[0], "membership", content_hash(ix)))
    rig.must(newer)
    rig.must(older)


def test_no_open_vote_keeps_a_member_from_being_removed() -> None:
    rig = Rig()
    members = rig.ready((10, 10, 1))
    payer, wallet = rig.payer.pubkey(), members[2].pubkey()

    def by_vote(build) -> str | None:
        index = rig.read(rig.at.governance)["proposal_count"]
        rig.carry(members[:2], rig.propose(members[0], "membership", content_hash(build(index))))
        outcome = rig.send(build(index))
        rig.propose(members[2], content=digest(f"stays open {index}"), period=30 * DAY)
        return outcome.error

    votes = [rig.propose(members[2], content=digest("stays open"), period=30 * DAY)]
    for weight, refused in ((2, None), (3, None), (4, "WeightChangeLimit")):
        assert by_vote(lambda n, weight=weight: rig.ix.set_weight(payer, wallet, weight, n)) == refused
        votes.append(rig.read(rig.at.governance)["proposal_count"] - 1)
    removal = rig.read(rig.at.governance)["proposal_count"]
    ix = rig.ix.remove_member(payer, wallet, removal)
    rig.carry(members[:2], rig.propose(members[0], "membership", content_hash(ix)))
    rig.must(ix)
    # The votes that are open count what the member weighed when they began.
    weights = [rig.vote(members[2], vote).events[0][1]["weight"] for vote in votes]
    assert weights == [1, 2, 3, 3]
    later = rig.propose(members[0], content=digest("later"))
    assert rig.vote(members[2], later).error == "NotAMember"


def test_authorities_move_in_two_steps() -> None:
    rig = Rig()
    rig.initialize()
    heir = rig.key("heir")
    assert rig.send(rig.ix.offer_authority(heir.pubkey(), "log", heir.pubkey()), heir).error == "Unauthorized"
    rig.must(rig.ix.offer_authority(rig.log.pubkey(), "log", heir.pubkey()), rig.log)
    rig.must(rig.ix.anchor_root(rig.log.pubkey(), 1, digest("r")), rig.log)  # until it is accepted
    rig.must(rig.ix.accept_authority(heir.pubkey(), "log"), heir)
    assert rig.send(rig.ix.anchor_root(rig.log.pubkey(), 2, digest("r")), rig.log).error == "Unauthorized"
    rig.must(rig.ix.anchor_root(heir.pubkey(), 2, digest("r2")), heir)
    assert rig.send(rig.ix.accept_authority(heir.pubkey(), "log"), heir).error == "NoOffer"
    anchor = rig.read(rig.at.anchor)
    assert (anchor["tree_size"], anchor["count"], anchor["root"].hex()) == (2, 2, digest("r2"))


class TestEmergencies:
    def suspended(self) -> tuple[Rig, list, Pubkey]:
        rig = Rig()
        members = rig.ready()
        proposal = rig.propose(members[0])
        rig.carry(members[:2], proposal)
        rig.attest()
        assert rig.enact_policy(proposal).ok
        rig.must(
            rig.ix.emergency_action(
                rig.emergency.pubkey(), 0, "suspend_policy", digest("policy"), digest("why"), 48 * HOUR
            ),
            rig.emergency,
        )
        return rig, members, rig.at.policy(digest("policy"))

    def ballot(self, rig: Rig, members: list, choice: str, agent: str | None = None) -> int:
        subject = bytes(rig.at.emergency(0, agent)).hex()
        proposal = rig.propose(members[0], "emergency_ratification", subject)
        rig.carry(members[:2], proposal, choice)
        return proposal

    def test_a_suspension_holds_until_it_expires(self) -> None:
        rig, _, policy = self.suspended()
        assert rig.read(policy)["suspended_until"] == START + 48 * HOUR

    def test_the_authority_ends_it_early_and_gets_the_rent_back_after_the_cool_down(self) -> None:
        rig, _, policy = self.suspended()
        rig.must(rig.ix.end_emergency(rig.emergency.pubkey(), 0, policy), rig.emergency)
        assert rig.read(policy)["suspended_until"] == START
        before = rig.lamports(rig.emergency.pubkey())
        rent = rig.lamports(rig.at.emergency(0))
        close = rig.ix.close_emergency(rig.emergency.pubkey(), 0)
        assert rig.send(close).error == "EmergencyCoolingDown"
        rig.set_time(START + 72 * HOUR)
        assert rig.send(rig.ix.close_emergency(rig.payer.pubkey(), 0)).error == "WrongRentRecipient"
        rig.must(close)  # anybody may
        assert rig.lamports(rig.emergency.pubkey()) == before + rent

    def act(self, rig: Rig, kind: str, target: str | None = None, hours: int = 72) -> str | None:
        index = rig.read(rig.at.governance)["emergency_count"]
        ix = rig.ix.emergency_action(rig.emergency.pubkey(), index, kind, target, digest("why"), hours * HOUR)  # pyright: ignore[reportArgumentType]
        return rig.send(ix, rig.emergency).error

    @pytest.mark.parametrize("how", ["expired", "lifted", "voted down"])
    @pytest.mark.parametrize("kind", ["suspend_policy", "freeze_activation", "revoke_agent"])
    def test_an_effect_that_ended_is_not_there_again_within_72_hours(self, kind: str, how: str) -> None:
        rig, members, policy = self.suspended()
        rig.set_time(START + 48 * HOUR + 72 * HOUR)  # when that suspension is forgotten
        target = {"suspend_policy": digest("policy"), "freeze_activation": None, "revoke_agent": digest("agent")}[kind]
        agent = target if kind == "revoke_agent" else None
        held = policy if kind == "suspend_policy" else None
        assert self.act(rig, kind, target) is None
        assert self.act(rig, kind, target) == "EmergencyAlreadyActive"
        action = rig.at.emergency(1, agent)
        if how == "expired":
            rig.set_time(rig.now + 72 * HOUR)
        elif how == "lifted":
            rig.must(rig.ix.end_emergency(rig.emergency.pubkey(), 1, held, agent), rig.emergency)
        else:
            proposal = rig.propose(members[0], "emergency_ratification", bytes(action).hex())
            rig.carry(members[:2], proposal, "against")
            ended = rig.ix.enact(rig.payer.pubkey(), proposal, policy=held, emergency=action)
            again = rig.ix.emergency_action(rig.emergency.pubkey(), 2, kind, target, digest("why"), HOUR)  # pyright: ignore[reportArgumentType]
            assert rig.send([ended, again], rig.emergency).error == "EmergencyCoolingDown"
            rig.must(ended)
        ended_at = rig.now
        assert self.act(rig, kind, target, 1) == "EmergencyCoolingDown"
        rig.set_time(ended_at + 72 * HOUR - 1)
        assert self.act(rig, kind, target, 1) == "EmergencyCoolingDown"
        close = rig.ix.close_emergency(rig.emergency.pubkey(), 1, agent)
        assert rig.send(close).error == "EmergencyCoolingDown"
        rig.set_time(ended_at + 72 * HOUR)
        if kind == "revoke_agent":
            assert self.act(rig, kind, target, 1) == "AlreadyExists"
            rig.must(close)
        assert self.act(rig, kind, target, 1) is None

    def test_another_target_does_not_wait_for_the_cool_down(self) -> None:
        rig, _, policy = self.suspended()
        rig.must(rig.ix.end_emergency(rig.emergency.pubkey(), 0, policy), rig.emergency)
        assert self.act(rig, "suspend_policy", digest("policy")) == "EmergencyCoolingDown"
        assert self.act(rig, "freeze_activation") is None
        assert self.act(rig, "revoke_agent", digest("agent")) is None
        assert self.act(rig, "revoke_agent", digest("another agent")) is None

    def test_a_revocation_is_confirmed_and_ended_by_vote_at_its_agents_address(self) -> None:
        rig = Rig()
        members = rig.ready()
        agent = digest("agent")
        assert self.act(rig, "revoke_agent", agent) is None
        action = rig.at.emergency(0, agent)
        assert rig.read(action)["index"] == 0
        for choice, status in (("for", "Confirmed"), ("against", "Ended")):
            proposal = rig.propose(members[0], "emergency_ratification", bytes(action).hex())
            rig.carry(members[:2], proposal, choice)
            rig.must(rig.ix.enact(rig.payer.pubkey(), proposal, emergency=action))
            assert rig.read(action)["status"] == status

    def test_no_other_account_stands_for_an_agents_last_revocation(self) -> None:
        rig, *_ = self.suspended()
        for name in ("agent", "other"):
            assert self.act(rig, "revoke_agent", digest(name)) is None
        ix = rig.ix.emergency_action(rig.emergency.pubkey(), 3, "revoke_agent", digest("agent"), digest("why"), HOUR)
        for wrong in (rig.at.emergency(0), rig.at.emergency(3), rig.at.emergency(0, digest("other"))):
            metas = list(ix.accounts)
            metas[2] = AccountMeta(wrong, False, True)
            assert rig.send(Instruction(rig.program, bytes(ix.data), metas), rig.emergency).error == "InvalidPda"

    def test_a_vote_on_an_action_can_end_before_it_whatever_the_parameters(self) -> None:
        rig = Rig()
        members = rig.ready(rules=Parameters(7 * DAY, vote_change_allowed=True))
        assert self.act(rig, "freeze_activation") is None
        subject = bytes(rig.at.emergency(0)).hex()

        def opened(period: int) -> str | None:
            ix = rig.ix.propose(members[0].pubkey(), 0, "emergency_ratification", subject, None, period)
            return rig.send(ix, members[0]).error

        for wrong in (7 * DAY, 72 * HOUR, DAY - 1):
            assert opened(wrong) == "InvalidVotingPeriod"
        assert opened(DAY) is None
        for member in members:
            assert rig.vote(member, 0).ok
        assert rig.finalize(0).error == "VotingPeriodNotEnded"
        rig.set_time(START + DAY)
        assert rig.finalize(0).ok
        assert self.ended(rig, 0) is None
        assert rig.read(rig.at.governance)["frozen_until"] == 2**63 - 1

    @pytest.mark.parametrize("change", [False, True])
    def test_a_vote_that_cannot_end_in_time_is_opened_only_where_it_can_be_decided_early(self, change: bool) -> None:
        rig = Rig()
        members = rig.ready(rules=Parameters(DAY, vote_change_allowed=change))
        assert self.act(rig, "freeze_activation", hours=24) is None
        subject = bytes(rig.at.emergency(0)).hex()
        ix = rig.ix.propose(members[0].pubkey(), 0, "emergency_ratification", subject, None, DAY)
        assert rig.send(ix, members[0]).error == ("InvalidVotingPeriod" if change else None)

    def test_a_vote_names_an_action_that_is_in_effect(self) -> None:
        rig, members, _ = self.suspended()
        first = members[0]

        def opened(subject: Pubkey, given: Pubkey) -> str | None:
            ix = rig.ix.propose(first.pubkey(), 1, "emergency_ratification", bytes(subject).hex(), None, DAY)
            metas = [*ix.accounts[:-1], AccountMeta(given, False, False)]
            return rig.send(Instruction(rig.program, bytes(ix.data), metas), first).error

        action = rig.at.emergency(0)
        assert opened(rig.at.emergency(1), rig.at.emergency(1)) == "WrongOwner"  # not taken yet
        assert opened(rig.at.emergency(1), action) == "ContentMismatch"
        assert opened(action, rig.program) == "MissingAccount"
        assert opened(rig.at.anchor, rig.at.anchor) == "WrongAccountType"
        policy = rig.ix.propose(first.pubkey(), 1, "policy", digest("p"), digest("c"), DAY)
        metas = [*policy.accounts[:-1], AccountMeta(action, False, False)]
        assert rig.send(Instruction(rig.program, bytes(policy.data), metas), first).error == "UnexpectedAccount"
        rig.set_time(START + 48 * HOUR)
        assert opened(action, action) == "EmergencyNotActive"

    def test_a_vote_confirms_it_and_then_only_a_vote_ends_it(self) -> None:
        rig, members, policy = self.suspended()
        proposal = self.ballot(rig, members, "for")
        enact = rig.ix.enact(rig.payer.pubkey(), proposal, policy=policy, emergency=rig.at.emergency(0))
        assert rig.must(enact).events[-1][1]["status"] == "Confirmed"
        assert rig.read(policy)["suspended_until"] == 2**63 - 1
        assert rig.send(rig.ix.end_emergency(rig.emergency.pubkey(), 0, policy), rig.emergency).error == (
            "EmergencyNotActive"
        )
        against = self.ballot(rig, members, "against")
        rig.must(rig.ix.enact(rig.payer.pubkey(), against, policy=policy, emergency=rig.at.emergency(0)))
        assert rig.read(policy)["suspended_until"] == START

    def test_a_vote_that_too_few_took_part_in_ends_nothing(self) -> None:
        rig, members, policy = self.suspended()
        subject = bytes(rig.at.emergency(0)).hex()
        proposal = rig.propose(members[0], "emergency_ratification", subject)
        assert rig.vote(members[0], proposal, "against").ok
        rig.set_time(START + DAY)
        assert rig.finalize(proposal).ok
        enact = rig.ix.enact(rig.payer.pubkey(), proposal, policy=policy, emergency=rig.at.emergency(0))
        assert rig.send(enact).error == "ProposalNotAccepted"
        assert rig.read(policy)["suspended_until"] == START + 48 * HOUR

    def frozen(self, weights: tuple[int, ...]) -> tuple[Rig, list, int]:
        """A freeze for 72 hours, and the vote on it that the member at 1 has opened."""
        rig = Rig()
        members = rig.ready(weights)
        rig.must(
            rig.ix.emergency_action(rig.emergency.pubkey(), 0, "freeze_activation", None, digest("why"), 72 * HOUR),
            rig.emergency,
        )
        return rig, members, rig.propose(members[1], "emergency_ratification", bytes(rig.at.emergency(0)).hex())

    def ended(self, rig: Rig, proposal: int) -> str | None:
        return rig.send(rig.ix.enact(rig.payer.pubkey(), proposal, emergency=rig.at.emergency(0))).error

    def test_a_rejection_is_not_cut_off_before_its_quorum(self) -> None:
        rig, members, proposal = self.frozen((41, 10, 49))
        assert rig.vote(members[0], proposal, "against").ok
        # It cannot carry any more; but whether the freeze ends is for those to say who have not voted.
        assert rig.finalize(proposal).error == "VotingPeriodNotEnded"
        assert rig.vote(members[2], proposal, "against").ok
        assert rig.finalize(proposal).events[0][1]["early"] is True
        assert self.ended(rig, proposal) is None
        assert rig.read(rig.at.governance)["frozen_until"] == START

    def test_an_old_rejection_does_not_undo_a_newer_confirmation(self) -> None:
        rig, members, older = self.frozen((10, 10, 10))
        newer = rig.propose(members[0], "emergency_ratification", bytes(rig.at.emergency(0)).hex())
        rig.carry(members[:2], older, "against")
        rig.carry(members[:2], newer, "for")
        assert self.ended(rig, newer) is None
        rig.set_time(START + 20 * DAY)
        assert self.ended(rig, older) == "ProposalOutdated"
        assert rig.read(rig.at.governance)["frozen_until"] == 2**63 - 1

    def test_a_vote_of_another_kind_ends_as_soon_as_it_cannot_carry(self) -> None:
        rig, members, _ = self.frozen((41, 10, 49))
        proposal = rig.propose(members[0])
        assert rig.vote(members[0], proposal, "against").ok
        assert rig.finalize(proposal).events[0][1]["quorum_reached"] is False

    def test_the_proposer_cannot_close_a_rejection_that_has_yet_to_act(self) -> None:
        rig, members, proposal = self.frozen((41, 10, 49))
        proposer = members[1]
        for member in (members[0], members[2]):
            assert rig.vote(member, proposal, "against").ok
        close = rig.ix.close_proposal(proposer.pubkey(), proposal)
        both = [rig.ix.finalize(proposal, proposer.pubkey()), close]
        assert rig.send(both, proposer).error == "ProposalNotClosable"
        assert rig.finalize(proposal).ok
        assert rig.send(close, proposer).error == "ProposalNotClosable"
        assert self.ended(rig, proposal) is None
        rig.must(close, proposer)

    def test_a_rejection_that_nobody_carried_out_is_closed_when_it_has_lapsed(self) -> None:
        rig, members, proposal = self.frozen((41, 10, 49))
        for member in (members[0], members[2]):
            assert rig.vote(member, proposal, "against").ok
        assert rig.finalize(proposal).ok
        rig.set_time(START + 31 * DAY)
        assert self.ended(rig, proposal) == "ProposalLapsed"
        rig.must(rig.ix.close_proposal(members[1].pubkey(), proposal), members[1])

    def test_a_rejection_without_a_quorum_is_closed_at_once(self) -> None:
        rig, members, proposal = self.frozen((41, 10, 49))
        assert rig.vote(members[0], proposal, "against").ok
        rig.set_time(START + DAY)
        assert rig.finalize(proposal).ok
        rig.must(rig.ix.close_proposal(members[1].pubkey(), proposal), members[1])

    def test_the_proposer_cannot_take_back_what_members_have_voted_on(self) -> None:
        rig, members, proposal = self.frozen((41, 10, 49))
        cancel = rig.ix.cancel(members[1].pubkey(), proposal)
        assert rig.vote(members[0], proposal, "against").ok
        assert rig.send(cancel, members[1]).error == "VotingHasBegun"
        rig.set_time(START + DAY)
        assert rig.send(cancel, members[1]).error == "VotingPeriodEnded"

    def test_another_emergency_cannot_be_ended_by_that_vote(self) -> None:
        rig, members, policy = self.suspended()
        rig.must(
            rig.ix.emergency_action(rig.emergency.pubkey(), 1, "revoke_agent", digest("agent"), digest("why"), HOUR),
            rig.emergency,
        )
        proposal = self.ballot(rig, members, "against", digest("agent"))
        enact = rig.ix.enact(rig.payer.pubkey(), proposal, policy=policy, emergency=rig.at.emergency(0))
        assert rig.send(enact).error == "ContentMismatch"

    def test_no_vote_can_be_taken_on_an_action_before_there_is_one(self) -> None:
        """An agent's account is the same for its next revocation, and a vote on the one before does not reach that."""
        rig = Rig()
        members = rig.ready()
        agent = digest("agent")
        assert self.act(rig, "revoke_agent", agent, 48) is None
        action = rig.at.emergency(0, agent)
        proposal = rig.propose(members[0], "emergency_ratification", bytes(action).hex())
        rig.carry(members[:2], proposal)
        rig.set_time(START + 48 * HOUR + 72 * HOUR)
        rig.must(rig.ix.close_emergency(rig.emergency.pubkey(), 0, agent))
        assert self.act(rig, "revoke_agent", agent) is None
        enact = rig.ix.enact(rig.payer.pubkey(), proposal, emergency=action)
        assert rig.send(enact).error == "ProposalOutdated"

    def test_a_freeze_stops_activation_until_it_expires(self) -> None:
        rig = Rig()
        members = rig.ready()
        proposal = rig.propose(members[0])
        rig.carry(members[:2], proposal)
        rig.attest()
        rig.must(
            rig.ix.emergency_action(rig.emergency.pubkey(), 0, "freeze_activation", None, digest("why"), HOUR),
            rig.emergency,
        )
        assert rig.enact_policy(proposal).error == "ActivationFrozen"
        rig.set_time(START + HOUR)
        assert rig.enact_policy(proposal).ok


class TestAttacks:
    def test_a_closed_proposal_cannot_be_revived_in_the_same_transaction(self) -> None:
        rig = Rig()
        members = rig.ready()
        proposal = rig.propose(members[0])
        rig.must(rig.ix.cancel(members[0].pubkey(), proposal), members[0])
        address = rig.at.proposal(proposal)
        close = rig.ix.close_proposal(members[0].pubkey(), proposal)
        refund = transfer(TransferParams(from_pubkey=rig.payer.pubkey(), to_pubkey=address, lamports=5_000_000))
        rig.must([close, refund], members[0])
        account = rig.svm.get_account(address)
        assert account is not None
        assert (account.owner, bytes(account.data)) == (SYSTEM, b"")
        assert rig.send([close, refund, close], members[0]).error == "WrongOwner"

    def test_a_closed_proposals_index_is_never_used_again(self) -> None:
        rig = Rig()
        members = rig.ready()
        proposal = rig.propose(members[0])
        rig.must(rig.ix.cancel(members[0].pubkey(), proposal), members[0])
        rig.must(rig.ix.close_proposal(members[0].pubkey(), proposal), members[0])
        again = rig.ix.propose(members[0].pubkey(), proposal, "policy", digest("x"), digest("c"), DAY)
        assert rig.send(again, members[0]).error == "InvalidPda"

    def test_lamports_sent_to_an_address_beforehand_do_not_block_it(self) -> None:
        rig = Rig()
        members = rig.ready()
        for lamports in (1, 10_000_000):
            index = rig.read(rig.at.governance)["proposal_count"]
            rig.svm.airdrop(rig.at.proposal(index), lamports)
            assert rig.propose(members[0]) == index

    @pytest.mark.parametrize("position", [0, 2, 3, 4, 5, 6, 7])
    def test_the_same_account_twice_is_refused(self, position: int) -> None:
        """The governance account stands in every other place of `enact` in turn."""
        rig = Rig()
        members = rig.ready()
        proposal = rig.propose(members[0])
        rig.carry(members[:2], proposal)
        rig.attest()
        ix = rig.ix.enact(
            rig.payer.pubkey(),
            proposal,
            policy=rig.at.policy(digest("policy")),
            attestation=rig.at.attestation(digest("certificate")),
        )
        metas = list(ix.accounts)
        metas[position] = AccountMeta(rig.at.governance, False, True)
        before = rig.state()
        assert rig.send(Instruction(rig.program, bytes(ix.data), metas)).error is not None
        assert rig.state() == before

    def test_a_lower_bump_gives_no_second_account(self) -> None:
        """Each lower bump that gives a valid address is tried in place of the canonical one."""
        rig = Rig()
        rig.initialize()
        wallet = keypair("double")
        ix = rig.ix.register_member(rig.council.pubkey(), wallet.pubkey(), 1)
        canonical = rig.at.member(wallet.pubkey())
        tried = 0
        for bump in range(255, 200, -1):
            try:
                address = Pubkey.create_program_address([b"member", bytes(wallet.pubkey()), bytes([bump])], rig.program)
            except Exception:  # noqa: BLE001 - on the curve
                continue
            if address == canonical:
                continue
            tried += 1
            metas = list(ix.accounts)
            metas[2] = AccountMeta(address, False, True)
            assert rig.send(Instruction(rig.program, bytes(ix.data), metas), rig.council).error == "InvalidPda"
        assert tried > 10

    def test_nobody_votes_with_the_membership_of_another(self) -> None:
        rig = Rig()
        members = rig.ready((1, 1_000_000))
        proposal = rig.propose(members[0])
        ix = rig.ix.vote(members[0].pubkey(), proposal, "for")
        metas = [ix.accounts[0], AccountMeta(rig.at.member(members[1].pubkey()), False, False), ix.accounts[2]]
        assert rig.send(Instruction(rig.program, bytes(ix.data), metas), members[0]).error == "NotAMember"

    def test_the_program_runs_wherever_it_is_deployed(self) -> None:
        elsewhere = Pubkey(bytes([9] * 32))
        rig = Rig(elsewhere)
        members = rig.ready()
        assert isinstance(rig.ix, Instructions)
        rig.carry(members[:2], rig.propose(members[0]))
