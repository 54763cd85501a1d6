"""Everything that members can decide, decided on the real program."""

from collections.abc import Callable

import pytest

from acgs1.contracts.auth import Role
from acgs1.contracts.constitution import Constitution, Never
from acgs1.contracts.policy_governance import (
    NewAmendment,
    NewBallot,
    NewEmergency,
    NewMember,
    NewMembershipChange,
    NewParameters,
    NewRatification,
    Proposal,
)
from acgs1.core.hashing import content_hash, text_hash
from acgs1.ledger.errors import ProgramError
from acgs1.ledger.keys import parse_address
from acgs1.services.policy_governance.errors import (
    AmendmentTooWide,
    ConstitutionNotInForce,
    ConstitutionUnknown,
    EmergencyNotFound,
    NotAMember,
    NothingToChange,
    NotTheProposer,
)
from chamber import Chamber
from governance import AGENT, OPERATOR, airline, request

Amended = Callable[..., Constitution]


async def propose_amendment(chamber: Chamber, new: Constitution, by: str = "ines") -> Proposal:
    chamber.texts.keep(new)
    body = NewAmendment(constitution_hash=new.hash, title="Amend", voting_seconds=3600)
    return await chamber.voting.propose_amendment(body, chamber.names[by])


async def test_an_amended_principle_is_in_force_on_the_ledger_and_older_proofs_are_stale(
    chamber: Chamber, amended: Amended
):
    await chamber.found(ines=3, jonas=2)
    waiting = await chamber.proposed("jonas", await chamber.built())
    new = amended("Nothing is paid to strangers")
    proposal = await propose_amendment(chamber, new)
    assert (proposal.kind, proposal.status, proposal.constitution_version) == ("principle", "open", 1)
    done = await chamber.carried(proposal, ines="for", jonas="for")
    assert done.status == "enacted"
    state = await chamber.voting.state()
    assert (state.constitution_hash, state.constitution_version) == (new.hash, 2)
    principle = await chamber.client.get_principle(0)
    assert principle is not None
    assert (principle.title, principle.version) == ("Nothing is paid to strangers", 2)
    assert principle.content_hash == content_hash(new.principles[0].model_dump(mode="json"))
    followed = await chamber.chronicle.constitution()
    assert (followed.constitution_hash, followed.constitution_version) == (new.hash, 2)
    assert followed.signature == done.signatures["enact"]

    with pytest.raises(ProgramError) as refusal:
        await chamber.carried(waiting, ines="for", jonas="for")
    assert refusal.value.code == "ledger_stale_attestation"
    kept = await chamber.voting.proposal(waiting.id)
    assert (kept.status, kept.refusal, kept.enacting) == ("accepted", "ledger_stale_attestation", False)
    assert waiting.bundle_hash is not None
    assert (await chamber.bundles.bundle(waiting.bundle_hash)).status == "built"
    with pytest.raises(ConstitutionNotInForce):
        await chamber.bundles.activate(waiting.bundle_hash, OPERATOR)
    with pytest.raises(ConstitutionNotInForce):
        await chamber.proposed("ines", await chamber.built())

    proved_anew = await chamber.proposed("ines", await chamber.built(constitution=new))
    assert (await chamber.carried(proved_anew, ines="for", jonas="for")).status == "enacted"
    assert proved_anew.bundle_hash is not None
    await chamber.bundles.activate(proved_anew.bundle_hash, OPERATOR)
    assert chamber.point.serving == proved_anew.bundle_hash


async def test_principles_are_added_and_retired_and_the_text_around_them_amended_by_vote(chamber: Chamber):
    await chamber.found(ines=1)
    founding = airline()
    extra = founding.principles[0].model_copy(update={"id": "extra-care", "title": "Extra care", "invariants": ()})
    larger = founding.model_copy(update={"principles": (*founding.principles, extra)})
    done = await chamber.carried(await propose_amendment(chamber, larger), ines="for")
    assert done.status == "enacted"
    added = await chamber.client.get_principle(len(founding.principles))
    assert added is not None
    assert (added.title, added.status) == ("Extra care", "active")

    retired = larger.model_copy(update={"principles": larger.principles[1:]})
    assert (await chamber.carried(await propose_amendment(chamber, retired), ines="for")).status == "enacted"
    first = await chamber.client.get_principle(0)
    assert first is not None
    assert first.status == "retired"

    renamed = retired.model_copy(update={"preamble": "Why we are here."})
    proposal = await propose_amendment(chamber, renamed)
    assert proposal.kind == "constitution"
    assert (await chamber.carried(proposal, ines="for")).status == "enacted"
    state = await chamber.voting.state()
    assert (state.constitution_hash, state.constitution_version) == (renamed.hash, 4)
    kinds = [e["type"] for e in await chamber.entries("ledger.constitution")]
    assert kinds == ["ledger.constitution_ratified"] + ["ledger.constitution_amended"] * 3


async def test_what_is_no_amendment_is_refused_before_the_vote(chamber: Chamber, amended: Amended):
    await chamber.found(ines=1)
    with pytest.raises(AmendmentTooWide, match="preamble"):
        await propose_amendment(chamber, amended("Two things at once", preamble="Another."))
    with pytest.raises(NothingToChange):
        await propose_amendment(chamber, airline())
    body = NewAmendment(constitution_hash="0" * 64, title="Nothing")
    with pytest.raises(ConstitutionUnknown):
        await chamber.voting.propose_amendment(body, chamber.names["ines"])
    assert (await chamber.voting.proposals(None, 10)).items == []


async def test_of_two_amendments_of_one_text_the_second_is_refused_with_the_ledgers_code(
    chamber: Chamber, amended: Amended
):
    await chamber.found(ines=1)
    first = await propose_amendment(chamber, amended("The first"))
    second = await propose_amendment(chamber, amended("The second"))
    await chamber.carried(first, ines="for")
    with pytest.raises(ProgramError) as refusal:
        await chamber.carried(second, ines="for")
    assert refusal.value.code == "ledger_wrong_constitution_version"
    assert (await chamber.voting.state()).constitution_hash == amended("The first").hash


async def test_the_active_bundle_obeys_a_new_prohibition_at_once_also_after_a_restart(chamber: Chamber):
    await chamber.found(ines=1)
    bundle = await chamber.built()
    await chamber.carried(await chamber.proposed("ines", bundle), ines="for")
    await chamber.bundles.activate(bundle.hash, OPERATOR)
    assert (await chamber.point.decide(request("hand_over"), AGENT)).decision
    assert (await chamber.point.decide(request("look_up_booking"), AGENT)).decision
    founding = airline()
    closed = founding.principles[0].model_copy(
        update={
            "id": "desk-closed",
            "title": "The desk is closed",
            "invariants": (Never(actions=("hand_over",), when="true"),),
        }
    )
    new = founding.model_copy(update={"principles": (*founding.principles, closed)})
    await chamber.carried(await propose_amendment(chamber, new), ines="for")
    await chamber.watch.once()
    for _ in range(2):
        denied = await chamber.point.decide(request("hand_over"), AGENT)
        assert (denied.decision, denied.context["reason"]) == (False, "constitution_forbids")
        assert denied.context["principles"] == ["desk-closed"]
        assert (await chamber.point.decide(request("look_up_booking"), AGENT)).decision
        await chamber.spool.close()
        chamber.restart()
        await chamber.bundles.load_active()
    assert chamber.point.serving == bundle.hash, "it decides until one proved against the new text is activated"


async def test_under_a_constitution_whose_text_nobody_here_has_everything_is_denied(chamber: Chamber):
    await chamber.found(ines=1)
    bundle = await chamber.built()
    await chamber.carried(await chamber.proposed("ines", bundle), ines="for")
    await chamber.bundles.activate(bundle.hash, OPERATOR)
    elsewhere = airline().model_copy(update={"preamble": "Written elsewhere."})
    wallet = chamber.ledger._wallet(chamber.names["ines"].id)
    made = await chamber.client.propose(wallet, "constitution", elsewhere.hash)
    await chamber.client.vote(wallet, made.index, "for")
    await chamber.client.finalize(wallet, made.index)
    await chamber.client.enact(wallet, made.index)
    await chamber.watch.once()
    denied = await chamber.point.decide(request("hand_over"), AGENT)
    assert (denied.decision, denied.context["reason"]) == (False, "evaluation_error")
    assert elsewhere.hash in str(denied.context["detail"])
    chamber.texts.keep(elsewhere)
    await chamber.watch.once()
    assert (await chamber.point.decide(request("hand_over"), AGENT)).decision


async def test_members_come_change_and_go_by_vote(chamber: Chamber):
    await chamber.found(ines=3, jonas=2)
    mei = chamber.people.add(Role.MEMBER)
    with pytest.raises(ProgramError) as refusal:
        await chamber.members.register(NewMember(user_id=mei.id, weight=5), OPERATOR)
    assert refusal.value.code == "ledger_proposal_required"

    async def change(action: str, user_id: str, weight: int | None = None) -> Proposal:
        body = {"action": action, "user_id": user_id, "weight": weight, "title": action, "voting_seconds": 3600}
        proposal = await chamber.voting.propose_membership(
            NewMembershipChange.model_validate(body), chamber.names["ines"]
        )
        return await chamber.carried(proposal, **dict.fromkeys(chamber.names, "for"))

    assert (await change("register", mei.id, 5)).status == "enacted"
    chamber.names["mei"] = mei
    assert {m.user_id: m.weight for m in (await chamber.members.page(None, 50)).items}[mei.id] == 5
    before = await chamber.proposed("ines", await chamber.built())
    with pytest.raises(NothingToChange):
        await change("set_weight", mei.id, 5)
    assert (await change("set_weight", mei.id, 1)).status == "enacted"
    await chamber.ballots(before, mei="against")
    assert (await chamber.voting.proposal(before.id)).against_weight == 5, "the weight of when it was opened"
    assert (await change("remove", mei.id)).status == "enacted"
    del chamber.names["mei"]
    with pytest.raises(NotAMember):
        await chamber.voting.vote(before.id, NewBallot(choice="for"), mei)
    assert (await chamber.voting.state()).total_weight == 5
    assert (await chamber.voting.finalize(before.id, chamber.names["ines"])).status == "rejected"
    assert (await change("register", mei.id, 7)).status == "enacted", "and may come back"
    assert (await chamber.members.member(mei)).weight == 7


async def test_the_rules_of_votes_are_changed_by_vote(chamber: Chamber):
    await chamber.found(ines=3, jonas=2)
    body = NewParameters(threshold_bp=7500, vote_change_allowed=True, title="Stricter", voting_seconds=3600)
    proposal = await chamber.voting.propose_parameters(body, chamber.names["ines"])
    assert (await chamber.carried(proposal, ines="for", jonas="for")).status == "enacted"
    state = await chamber.voting.state()
    assert (state.threshold_bp, state.quorum_bp, state.voting_seconds) == (7500, 5000, 60)
    assert state.vote_change_allowed
    with pytest.raises(NothingToChange):
        await chamber.voting.propose_parameters(body, chamber.names["ines"])
    later = await chamber.proposed("ines", await chamber.built())
    await chamber.ballots(later, ines="against")
    await chamber.ballots(later, ines="for")
    assert (await chamber.voting.proposal(later.id)).for_weight == 3
    (ballot,) = (await chamber.voting.ballots(later.id, None, 50)).items
    assert ballot.choice == "for"


@pytest.mark.parametrize(("choice", "status"), [("for", "confirmed"), ("against", "ended")])
async def test_an_emergency_action_is_confirmed_or_ended_by_vote(chamber: Chamber, choice: str, status: str):
    await chamber.found(ines=3, jonas=2)
    action = NewEmergency(kind="revoke_agent", target=AGENT.id, reason="It misbehaves", seconds=600)
    index = (await chamber.powers.act(action, OPERATOR)).index
    assert chamber.point.emergencies.revoked == {text_hash(AGENT.id)}
    body = NewRatification(emergency=index, title="Keep it out?", voting_seconds=3600)
    proposal = await chamber.voting.propose_ratification(body, chamber.names["ines"])
    done = await chamber.carried(proposal, ines=choice, jonas=choice)
    assert done.status == "enacted"
    await chamber.watch.once()
    (known,) = (await chamber.powers.actions(None, 50)).items
    assert known.status == status
    chamber.clock.advance(100 * 3600)
    await chamber.watch.once()
    assert bool(chamber.point.emergencies.revoked) == (status == "confirmed"), "what is confirmed does not lapse"
    if status == "confirmed":
        with pytest.raises(ProgramError) as refusal:
            await chamber.powers.end(index, OPERATOR)
        assert refusal.value.code == "ledger_emergency_not_active"
    else:
        with pytest.raises(EmergencyNotFound):
            await chamber.voting.propose_ratification(body, chamber.names["ines"])


async def test_the_emergency_authority_ends_an_action_before_its_time(chamber: Chamber):
    await chamber.found(ines=1)
    action = NewEmergency(kind="freeze_activation", reason="Look first", seconds=600)
    index = (await chamber.powers.act(action, OPERATOR)).index
    assert chamber.point.emergencies.frozen
    assert (await chamber.powers.end(index, OPERATOR)).status == "ended"
    assert not chamber.point.emergencies.frozen
    with pytest.raises(EmergencyNotFound):
        await chamber.powers.end(index, OPERATOR)


async def test_a_proposer_takes_back_and_closes_and_gets_the_rent(chamber: Chamber):
    await chamber.found(ines=3, jonas=2)
    proposal = await chamber.proposed("ines", await chamber.built())
    ines, jonas = chamber.names["ines"], chamber.names["jonas"]
    with pytest.raises(NotTheProposer):
        await chamber.voting.cancel(proposal.id, jonas)
    with pytest.raises(ProgramError) as refusal:
        await chamber.voting.close(proposal.id, ines)
    assert refusal.value.code == "ledger_proposal_not_closable"
    assert (await chamber.voting.cancel(proposal.id, ines)).status == "cancelled"
    assert proposal.wallet is not None
    wallet = parse_address(proposal.wallet)
    before = await chamber.client.balance(wallet)
    closed = await chamber.voting.close(proposal.id, ines)
    assert closed.closed
    assert closed.rent_lamports is not None
    assert await chamber.client.balance(wallet) - before == closed.rent_lamports > 1_000_000
    assert await chamber.voting.close(proposal.id, ines) == closed, "repeating it changes nothing"
    assert proposal.index is not None
    assert await chamber.client.get_proposal(proposal.index) is None
