"""The vote: who may, how often, on what, and what a crash leaves."""

import pytest

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.policy_governance import NewBallot, NewMember, NewProposal, Proposal
from acgs1.kit.errors import DependencyUnavailable
from acgs1.ledger.errors import ProgramError
from acgs1.services.policy_governance.errors import (
    BundleNotFound,
    ConstitutionNotInForce,
    MemberExists,
    NotAMember,
    NotAPerson,
    ProposalNotFound,
    ProposalNotOpen,
)
from governance import OPERATOR, Room, airline, person


async def member(room: Room, weight: int = 1) -> Identity:
    who = room.people.add(Role.MEMBER)
    await room.members.register(NewMember(user_id=who.id, weight=weight), OPERATOR)
    return who


async def proposed(room: Room, by: Identity) -> Proposal:
    room.ledger.constitution = airline().hash
    bundle = await room.bundles.build(room.new_bundle(), OPERATOR)
    return await room.voting.propose(NewProposal(bundle_hash=bundle.hash, title="First"), by)


async def events(room: Room) -> list[str]:
    import sqlalchemy as sa

    async with room.database.reading() as session:
        rows = await session.execute(sa.text("SELECT event FROM outbox ORDER BY sequence"))
        import json

        return [json.loads(row.event)["type"] for row in rows]


async def test_a_proposal_goes_from_open_to_enacted_and_its_bundle_is_adopted(room: Room):
    ines, jonas = await member(room, 3), await member(room, 2)
    proposal = await proposed(room, ines)
    assert (proposal.status, proposal.index) == ("open", 0)
    assert proposal.signatures["attest"] == "attested"
    for who, choice in ((ines, "for"), (jonas, "against")):
        ballot = await room.voting.vote(proposal.id, NewBallot.model_validate({"choice": choice}), who)
        assert ballot.weight == {ines.id: 3, jonas.id: 2}[who.id]
    assert "bundles changed" not in room.readers.told
    final = await room.voting.finalize(proposal.id, ines)
    assert (final.status, final.for_weight, final.against_weight) == ("enacted", 3, 2)
    assert "bundles changed" in room.readers.told
    assert (await room.bundles.bundle(proposal.bundle_hash)).status == "adopted"
    assert await room.voting.finalize(proposal.id, ines) == final, "repeating it changes nothing"
    assert [e for e in await events(room) if e.startswith(("proposal", "ballot"))] == [
        "proposal.made",
        "proposal.opened",
        "ballot.cast",
        "ballot.cast",
        "proposal.finalization_asked",
        "proposal.finalized",
        "proposal.enacted",
    ]


async def test_a_proposal_below_the_threshold_is_rejected_and_its_bundle_stays_out_of_force(room: Room):
    ines, jonas = await member(room, 59), await member(room, 41)
    proposal = await proposed(room, ines)
    await room.voting.vote(proposal.id, NewBallot(choice="for"), ines)
    await room.voting.vote(proposal.id, NewBallot(choice="against"), jonas)
    assert (await room.voting.finalize(proposal.id, ines)).status == "rejected"
    assert (await room.bundles.bundle(proposal.bundle_hash)).status == "built"


async def test_a_stranger_can_neither_vote_nor_propose(room: Room):
    proposal = await proposed(room, await member(room))
    stranger = person(Role.MEMBER)
    with pytest.raises(NotAMember):
        await room.voting.vote(proposal.id, NewBallot(choice="for"), stranger)
    with pytest.raises(NotAMember):
        await room.voting.propose(NewProposal(bundle_hash=proposal.bundle_hash, title="Again"), stranger)
    assert not room.ledger.voted


async def test_a_second_vote_is_refused_with_the_ledgers_own_code(room: Room):
    ines = await member(room)
    proposal = await proposed(room, ines)
    await room.voting.vote(proposal.id, NewBallot(choice="for"), ines)
    with pytest.raises(ProgramError) as refusal:
        await room.voting.vote(proposal.id, NewBallot(choice="against"), ines)
    assert refusal.value.code == "ledger_already_voted"
    assert (await room.voting.proposal(proposal.id)).for_weight == 1


async def test_the_weight_is_the_registers_and_no_ballot_can_say_otherwise(room: Room):
    with pytest.raises(ValueError, match="weight"):
        NewBallot.model_validate({"choice": "for", "weight": 1000})


async def test_only_an_active_person_with_the_role_becomes_a_member_and_once(room: Room):
    for who in (person(Role.MEMBER), room.people.add(Role.OPERATOR), room.people.add(Role.MEMBER, active=False)):
        with pytest.raises(NotAPerson):
            await room.members.register(NewMember(user_id=who.id, weight=1), OPERATOR)
    ines = await member(room)
    with pytest.raises(MemberExists):
        await room.members.register(NewMember(user_id=ines.id, weight=9), OPERATOR)
    assert [m.weight for m in (await room.members.page(None, 50)).items] == [1]


async def test_a_bundle_proved_against_another_constitution_cannot_be_proposed(room: Room):
    ines = await member(room)
    bundle = await room.bundles.build(room.new_bundle(), OPERATOR)
    for in_force in (None, "f" * 64):
        room.ledger.constitution = in_force
        with pytest.raises(ConstitutionNotInForce):
            await room.voting.propose(NewProposal(bundle_hash=bundle.hash, title="Stale"), ines)
    assert (await room.voting.proposals(None, 10)).items == []


async def test_what_is_not_there_cannot_be_proposed_or_voted_on(room: Room):
    ines = await member(room)
    with pytest.raises(BundleNotFound):
        await room.voting.propose(NewProposal(bundle_hash="0" * 64, title="Nothing"), ines)
    with pytest.raises(ProposalNotFound):
        await room.voting.vote("prp_none", NewBallot(choice="for"), ines)


async def test_a_closed_proposal_takes_no_vote(room: Room):
    ines, jonas = await member(room), await member(room)
    proposal = await proposed(room, ines)
    await room.voting.vote(proposal.id, NewBallot(choice="for"), ines)
    await room.voting.finalize(proposal.id, ines)
    with pytest.raises(ProposalNotOpen, match="enacted"):
        await room.voting.vote(proposal.id, NewBallot(choice="for"), jonas)


async def test_a_ballot_that_the_ledger_took_before_it_died_is_recorded_and_counted_later(room: Room):
    ines = await member(room)
    proposal = await proposed(room, ines)
    cast = room.ledger.vote

    async def then_dies(*arguments: object) -> str:
        signature = await cast(*arguments)
        room.ledger.away = True
        return signature

    room.ledger.vote = then_dies  # type: ignore[method-assign]
    assert (await room.voting.vote(proposal.id, NewBallot(choice="for"), ines)).weight == 1
    room.ledger.away = False
    await room.powers.watch()
    assert (await room.voting.proposal(proposal.id)).for_weight == 1
    assert [b.user_id for b in (await room.voting.ballots(proposal.id, None, 50)).items] == [ines.id]


async def test_a_proposal_made_while_the_ledger_dies_is_submitted_once_it_is_back(room: Room):
    ines = await member(room)
    room.ledger.constitution = airline().hash
    bundle = await room.bundles.build(room.new_bundle(), OPERATOR)
    ledger_state = room.ledger.state

    async def then_dies():
        answer = await ledger_state()
        room.ledger.away = True
        return answer

    room.ledger.state = then_dies  # type: ignore[method-assign]
    with pytest.raises(DependencyUnavailable):
        await room.voting.propose(NewProposal(bundle_hash=bundle.hash, title="First"), ines)
    (kept,) = (await room.voting.proposals(None, 10)).items
    assert kept.status == "submitting"
    after = room.restarted()
    room.ledger.away = False
    await after.voting.resume()
    assert room.ledger.proposals == [], "what was sent before the crash may still land"
    room.ledger.away = True
    room.clock.advance(90)
    with pytest.raises(DependencyUnavailable):
        await after.voting.resume()
    room.ledger.away = False
    room.clock.advance(90)
    await after.voting.resume()
    room.clock.advance(90)
    await after.voting.resume()
    assert (await after.voting.proposal(kept.id)).status == "open"
    assert len(room.ledger.proposals) == 1


async def test_an_enactment_that_was_cut_off_is_found_on_the_ledger_and_the_bundle_adopted(room: Room):
    ines = await member(room)
    proposal = await proposed(room, ines)
    await room.voting.vote(proposal.id, NewBallot(choice="for"), ines)
    await room.ledger.finalize(proposal)
    await room.ledger.enact(proposal)
    await room.restarted().powers.watch()
    assert (await room.voting.proposal(proposal.id)).status == "enacted"
    assert (await room.bundles.bundle(proposal.bundle_hash)).status == "adopted"


async def test_two_workers_that_carry_a_vote_on_at_once_enact_it_once_and_note_no_refusal(room: Room):
    ines = await member(room)
    proposal = await proposed(room, ines)
    await room.voting.vote(proposal.id, NewBallot(choice="for"), ines)
    finalize = room.ledger.finalize

    async def the_other_is_quicker(asked: Proposal) -> None:
        room.ledger.finalize = finalize  # type: ignore[method-assign]
        await room.restarted().voting.finalize(asked.id, ines)
        raise ProgramError("ProposalNotActive", 6002, "the proposal is not open for votes", {})

    room.ledger.finalize = the_other_is_quicker  # type: ignore[method-assign]
    final = await room.voting.finalize(proposal.id, ines)
    assert (final.status, final.refusal, final.enacting) == ("enacted", None, False)
    assert (await events(room)).count("proposal.enacted") == 1


async def test_a_ledger_that_was_set_up_anew_is_not_taken_for_the_one_before_it(room: Room):
    ines = await member(room)
    old = await proposed(room, ines)
    await room.voting.vote(old.id, NewBallot(choice="for"), ines)
    await room.voting.finalize(old.id, ines)
    room.ledger.amend("a" * 64)
    await room.powers.watch()
    anew = type(room.ledger)()
    anew.known_from, anew.constitution = 0, None
    anew.happen("MemberChanged", wallet="w-new", slot=0, weight=4, total_weight=4, from_proposal=0)
    anew.weights["w-new"] = 4
    anew.constitution = airline().hash
    anew.happen("Ratified", constitution_hash=airline().hash, constitution_version=1, total_weight=4)
    anew.open("policy", "b" * 64, "w-new", "c" * 64)
    room.ledger = anew
    await room.restarted().powers.watch()
    rows = {p.id: p for p in (await room.voting.proposals(None, 10)).items}
    assert (rows[old.id].status, rows[old.id].index) == ("enacted", None)
    (new,) = [p for p in rows.values() if p.id != old.id]
    assert (new.index, new.status, new.proposed_by) == (0, "open", "w-new")
    in_force = await room.chronicle.constitution()
    assert (in_force.constitution_hash, in_force.constitution_version) == (airline().hash, 1)


async def test_readers_hear_of_what_changes_the_ledgers_state_and_not_of_votes(room: Room):
    await room.chronicle.catch_up()
    await room.ledger.ratify(airline())
    await room.chronicle.catch_up()
    assert room.readers.told == ["ledger moved"]
    room.ledger.happen("VoteCast", proposal=7, voter="w", choice="for", weight=1)
    await room.chronicle.catch_up()
    assert room.readers.told == ["ledger moved"]
    room.ledger.amend("a" * 64)
    await room.chronicle.catch_up()
    assert room.readers.told == ["ledger moved", "ledger moved"]
