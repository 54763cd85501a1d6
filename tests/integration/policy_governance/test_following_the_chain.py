"""Following the chain: whatever is killed or away, nothing is lost and nothing counts twice."""

import asyncio
import dataclasses
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from solders.keypair import Keypair

from acgs1.contracts.policy_governance import NewBallot, NewEmergency, NewProposal, NewRatification
from acgs1.core.hashing import text_hash
from acgs1.kit.errors import DependencyUnavailable
from acgs1.ledger.keys import load_or_create_keypair
from acgs1.ledger.model import COOL_DOWN
from acgs1.services.policy_governance.domain import Chapter, Snapshot
from acgs1.services.policy_governance.errors import LedgerConflict
from acgs1.services.policy_governance.service.chronicle import Chronicle
from chamber import Chamber, chamber_at
from governance import AGENT, OPERATOR, FakeReaders
from polling import eventually_async


class Killed(Exception):
    """Stands for SIGKILL at this very place."""


def killed_after(chamber: Chamber, method: str) -> None:
    """The process dies when the ledger has done `method` and before anybody here has noted it."""
    done = getattr(chamber.ledger, method)

    async def then_dies(*arguments: object) -> object:
        await done(*arguments)
        raise Killed

    setattr(chamber.ledger, method, then_dies)


async def log(chamber: Chamber) -> Counter[str]:
    return Counter(entry["type"] for entry in await chamber.entries("proposal.", "ballot.", "member.", "emergency."))


async def test_a_kill_after_each_step_of_a_vote_loses_and_repeats_nothing(chamber: Chamber):
    await chamber.found(ines=3, jonas=2)
    ines, jonas = chamber.names["ines"], chamber.names["jonas"]
    bundle = await chamber.built()
    killed_after(chamber, "propose")
    with pytest.raises(Killed):
        await chamber.voting.propose(NewProposal(bundle_hash=bundle.hash, title="Once", voting_seconds=3600), ines)
    chamber.restart()
    await chamber.watch.once()
    await chamber.voting.resume()
    (proposal,) = (await chamber.voting.proposals(None, 10)).items
    assert (proposal.status, proposal.title) == ("open", "Once"), "its own, not a stranger's"

    killed_after(chamber, "vote")
    with pytest.raises(Killed):
        await chamber.voting.vote(proposal.id, NewBallot(choice="for"), ines)
    chamber.restart()
    await chamber.watch.once()
    assert (await chamber.voting.proposal(proposal.id)).for_weight == 3
    await chamber.voting.vote(proposal.id, NewBallot(choice="for"), jonas)

    killed_after(chamber, "finalize")
    with pytest.raises(Killed):
        await chamber.voting.finalize(proposal.id, ines)
    chamber.restart()
    await chamber.watch.once()
    assert (await chamber.voting.proposal(proposal.id)).status == "accepted"
    killed_after(chamber, "enact")
    with pytest.raises(Killed):
        await chamber.voting.resume()
    chamber.restart()
    await chamber.watch.once()
    await chamber.voting.resume()
    final = await chamber.voting.proposal(proposal.id)
    assert (final.status, final.enacting) == ("enacted", False)
    assert (await chamber.bundles.bundle(bundle.hash)).status == "adopted"
    assert await log(chamber) == Counter(
        {
            "member.registration_asked": 2,
            "member.changed": 2,
            "proposal.made": 1,
            "proposal.opened": 1,
            "ballot.cast": 2,
            "proposal.finalization_asked": 1,
            "proposal.finalized": 1,
            "proposal.enacted": 1,
        }
    )
    assert (await chamber.voting.state()).proposals == 1


async def test_a_second_proposal_of_the_same_bundle_is_a_proposal_of_its_own(chamber: Chamber):
    await chamber.found(ines=3, jonas=2)
    bundle = await chamber.built()
    first, second = await chamber.proposed("ines", bundle), await chamber.proposed("ines", bundle)
    assert (first.index, second.index) == (0, 1)
    assert first.id != second.id


async def test_what_happened_past_this_service_while_it_was_down_is_followed(chamber: Chamber):
    await chamber.found(ines=3, jonas=2)
    bundle = await chamber.built()
    (certificate,) = chamber.certified.values()
    await chamber.verifier.attest(certificate.hash)
    wallet = chamber.ledger._wallet(chamber.names["ines"].id)
    await chamber.client.airdrop(wallet.pubkey(), 1_000_000_000)
    await chamber.client.airdrop(chamber.ledger._wallet(chamber.names["jonas"].id).pubkey(), 1_000_000_000)
    made = await chamber.client.propose(wallet, "policy", text_hash(bundle.policies), certificate.hash)
    await chamber.client.vote(wallet, made.index, "for")
    await chamber.client.vote(chamber.ledger._wallet(chamber.names["jonas"].id), made.index, "for")
    await chamber.client.finalize(wallet, made.index)
    await chamber.client.enact(wallet, made.index)
    chamber.restart()
    await chamber.watch.once()
    (proposal,) = (await chamber.voting.proposals(None, 10)).items
    assert (proposal.status, proposal.for_weight, proposal.bundle_hash) == ("enacted", 5, bundle.hash)
    assert proposal.proposed_by == chamber.names["ines"].id
    assert (await chamber.bundles.bundle(bundle.hash)).status == "adopted"
    assert {b.user_id for b in (await chamber.voting.ballots(proposal.id, None, 50)).items} == {
        w.id for w in chamber.names.values()
    }


async def test_a_history_that_is_read_again_changes_nothing(chamber: Chamber):
    await chamber.found(ines=3, jonas=2)
    proposal = await chamber.proposed("ines", await chamber.built())
    await chamber.carried(proposal, ines="for", jonas="for")
    before, entries = await chamber.voting.proposal(proposal.id), await chamber.entries()
    async with chamber.store.transaction() as records:
        position = await records.position()
        lost = "5" * 87
        await records.keep_position(type(position)(f"0:{lost}", position.constitution_hash, 1, "s", position.since))
    chamber.restart()
    await chamber.watch.once()
    assert await chamber.voting.proposal(proposal.id) == before
    assert [e for e in await chamber.entries() if e["type"] != "ledger.reconciled"] == entries
    async with chamber.store.reading() as records:
        assert (await records.position()).cursor == position.cursor


async def test_the_accounts_are_right_where_the_database_was_changed_by_hand(chamber: Chamber):
    await chamber.found(ines=3, jonas=2)
    proposal = await chamber.proposed("ines", await chamber.built())
    await chamber.ballots(proposal, ines="for")
    async with chamber.store.transaction() as records:
        kept = await records.proposal(proposal.id)
        assert kept is not None
        await records.keep_proposal(kept.model_copy(update={"for_weight": 99}))
        member = await chamber.members.member(chamber.names["ines"])
        await records.keep_member(member.wallet, member.index, 1000)
    chamber.restart()
    await chamber.watch.once()
    assert (await chamber.voting.proposal(proposal.id)).for_weight == 3
    assert (await chamber.members.member(chamber.names["ines"])).weight == 3
    (entry,) = await chamber.entries("ledger.reconciled")
    assert entry["data"]["differing"] == ["proposal 0", "member 0"]


async def test_an_emergency_action_of_somebody_else_is_obeyed_within_one_interval(chamber: Chamber):
    await chamber.found(ines=1)
    looks = 0
    once = chamber.watch.once

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await once()

    chamber.watch.once = counted  # type: ignore[method-assign]
    running = asyncio.create_task(chamber.watch.run())
    try:
        await chamber.client.ensure_funded(chamber.ledger._emergency.pubkey(), 10_000_000, 1_000_000_000)
        emergency = load_or_create_keypair(chamber.home / "keys" / "emergency.json")
        agent = text_hash(AGENT.id)
        await chamber.client.emergency_action(emergency, "revoke_agent", agent, text_hash("why"), 600)
        before = looks

        async def obeyed() -> bool:
            return agent in chamber.point.emergencies.revoked

        await eventually_async(obeyed, "the agent is stopped")
        assert looks - before <= 2, "the look that was under way, and the one after it"
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_node_that_was_away_is_followed_from_where_it_was_left(tmp_path: Path):
    async with chamber_at(tmp_path) as chamber:
        await chamber.found(ines=3, jonas=2)
        proposal = await chamber.proposed("ines", await chamber.built())
        people, texts, certified, remote = chamber.people, chamber.texts, chamber.certified, chamber.remote
        names = chamber.names

        async def gone(*_: object, **__: object) -> object:
            raise DependencyUnavailable("`ledger` is not available")

        events, chamber.ledger.events = chamber.ledger.events, gone  # type: ignore[method-assign]
        ballot = await chamber.voting.vote(proposal.id, NewBallot(choice="for"), names["ines"])
        assert ballot.weight == 3
        assert (await chamber.voting.proposal(proposal.id)).for_weight == 0
        with pytest.raises(DependencyUnavailable):
            await chamber.watch.once()
        chamber.ledger.events = events  # type: ignore[method-assign]
    # The node stops and starts again from its own disk.
    async with chamber_at(tmp_path) as chamber:
        chamber.people, chamber.texts, chamber.remote, chamber.certified = people, texts, remote, certified
        chamber.names = names
        chamber.restart()
        await chamber.watch.once()
        assert (await chamber.voting.proposal(proposal.id)).for_weight == 3
        assert (await log(chamber))["ballot.cast"] == 1


async def test_a_program_that_obeys_strangers_is_refused_and_one_whose_authority_was_handed_on_is_not(chamber: Chamber):
    await chamber.found(ines=1)
    successor = Keypair()
    await chamber.client.airdrop(chamber.ledger._emergency.pubkey(), 1_000_000_000)
    await chamber.client.offer_authority(chamber.ledger._emergency, "emergency", successor.pubkey())
    await chamber.client.airdrop(successor.pubkey(), 1_000_000_000)
    await chamber.client.accept_authority(successor, "emergency")
    chamber.restart()
    await chamber.watch.once()
    assert [e["type"] for e in await chamber.entries("authority.")] == ["authority.offered", "authority.accepted"]
    (chamber.home / "keys" / "council.json").unlink()
    chamber.restart()
    with pytest.raises(LedgerConflict):
        await chamber.watch.once()


def unheard(chamber: Chamber, *kinds: str, truncated: bool) -> None:
    """Events of these kinds reach this service no more; with `truncated` it hears that a log was cut."""
    heard = chamber.ledger.events

    async def cut(cursor: str | None) -> Chapter:
        chapter = await heard(cursor)
        kept = [
            dataclasses.replace(e, kind="LogTruncated", data={}) if e.kind in kinds else e
            for e in chapter.events
            if truncated or e.kind not in kinds
        ]
        return Chapter(tuple(kept), chapter.cursor, chapter.caught_up)

    chamber.ledger.events = cut  # type: ignore[method-assign]


async def revoked(chamber: Chamber) -> int:
    await chamber.found(ines=3, jonas=2)
    action = NewEmergency(kind="revoke_agent", target=AGENT.id, reason="It misbehaves", seconds=259_200)
    index = (await chamber.powers.act(action, OPERATOR)).index
    assert chamber.point.emergencies.revoked
    return index


async def test_an_action_whose_end_was_cut_from_the_log_and_whose_account_is_gone_has_ended(chamber: Chamber):
    index = await revoked(chamber)
    await chamber.client.end_emergency(chamber.ledger._emergency, index)
    chamber.clock.advance(COOL_DOWN + 1)
    await chamber.client.close_emergency(chamber.ledger._emergency, index)
    unheard(chamber, "EmergencyResolved", "EmergencyClosed", truncated=True)
    await chamber.watch.once()
    assert not chamber.point.emergencies.revoked
    assert [action.status for action in (await chamber.powers.actions(None, 50)).items] == ["expired"]
    (entry,) = await chamber.entries("ledger.reconciled")
    assert entry["data"]["differing"] == ["emergency 0"]


async def test_the_closing_of_its_account_ends_an_action_whose_end_was_not_heard_of(chamber: Chamber):
    index = await revoked(chamber)
    await chamber.client.end_emergency(chamber.ledger._emergency, index)
    chamber.clock.advance(COOL_DOWN + 1)
    await chamber.client.close_emergency(chamber.ledger._emergency, index)
    unheard(chamber, "EmergencyResolved", truncated=False)
    await chamber.watch.once()
    assert not chamber.point.emergencies.revoked
    assert [entry["type"] for entry in await chamber.entries("emergency.")][-1] == "emergency.closed"


async def test_accounts_older_than_what_was_taken_in_by_another_worker_end_nothing(chamber: Chamber):
    await chamber.found(ines=3, jonas=2)
    chamber.restart()  # which makes it compare
    snapshot, other = chamber.ledger.snapshot, Chronicle(chamber.store, chamber.ledger, FakeReaders(), chamber.clock)
    other._reconcile = False
    looks = 0

    async def overtaken(cursor: str | None) -> Snapshot:
        nonlocal looks
        looks += 1
        accounts = await snapshot(cursor)
        if looks == 1:
            await chamber.client.ensure_funded(chamber.ledger._emergency.pubkey(), 10_000_000, 1_000_000_000)
            target = text_hash(AGENT.id)
            await chamber.client.emergency_action(
                chamber.ledger._emergency, "revoke_agent", target, text_hash("why"), 600
            )
            await other.catch_up()
        return accounts

    chamber.ledger.snapshot = overtaken  # type: ignore[method-assign]
    await chamber.watch.once()
    assert chamber.point.emergencies.revoked
    await chamber.watch.once()
    assert chamber.point.emergencies.revoked
    assert looks == 2, "it looked again"


async def test_a_snapshot_of_an_endpoint_that_lags_behind_the_cursor_is_not_taken(chamber: Chamber):
    await chamber.found(ines=1)
    with pytest.raises(DependencyUnavailable):
        await chamber.ledger.snapshot(f"{10**9}:{'5' * 87}")


async def test_an_action_that_no_vote_confirmed_ends_while_the_ledger_is_away_and_a_confirmed_one_does_not(
    chamber: Chamber,
):
    index = await revoked(chamber)
    body = NewRatification(emergency=index, title="Keep it out?", voting_seconds=3600)
    proposal = await chamber.voting.propose_ratification(body, chamber.names["ines"])
    heard = chamber.ledger.events

    async def gone(*_: object) -> Chapter:
        raise DependencyUnavailable("`ledger` is not available")

    # Confirmed, but nobody here has heard of it.
    chamber.ledger.events = gone  # type: ignore[method-assign]
    for name in ("ines", "jonas"):
        wallet = chamber.ledger._wallet(chamber.names[name].id)
        await chamber.client.vote(wallet, proposal.index, "for", chamber.ledger._council)
    await chamber.client.finalize(chamber.ledger._council, proposal.index)
    await chamber.client.enact(chamber.ledger._council, proposal.index)
    chamber.clock.advance(259_200 + 59)
    with pytest.raises(DependencyUnavailable):
        await chamber.watch.once()
    assert chamber.point.emergencies.revoked
    chamber.clock.advance(1)
    assert not chamber.point.emergencies.revoked, "72 hours are 72 hours"
    chamber.ledger.events = heard  # type: ignore[method-assign]
    await chamber.watch.once()
    assert chamber.point.emergencies.revoked, "a vote has confirmed it"
    chamber.ledger.events = gone  # type: ignore[method-assign]
    chamber.clock.advance(10**7)
    assert chamber.point.emergencies.revoked


async def test_those_who_ask_at_once_are_answered_by_one_look(chamber: Chamber):
    await chamber.found(ines=3, jonas=2)
    heard, looks = chamber.ledger.events, 0

    async def counted(cursor: str | None) -> Chapter:
        nonlocal looks
        looks += 1
        return await heard(cursor)

    chamber.ledger.events = counted  # type: ignore[method-assign]
    await asyncio.gather(*(chamber.chronicle.catch_up() for _ in range(8)))
    assert looks == 2, "the one that was under way, and one for all who came meanwhile"
    looks = 0
    proposal = await chamber.proposed("ines", await chamber.built())
    await asyncio.gather(*(chamber.ballots(proposal, **{name: "for"}) for name in ("ines", "jonas")))
    assert (await chamber.voting.proposal(proposal.id)).for_weight == 5, "and each has seen its own"


async def test_who_asks_while_a_look_fails_is_not_told_that_all_is_well(chamber: Chamber):
    await chamber.found(ines=3)

    async def gone(_: object) -> Chapter:
        raise DependencyUnavailable("`ledger` is not available")

    chamber.ledger.events = gone  # type: ignore[method-assign]
    answers = await asyncio.gather(*(chamber.chronicle.catch_up() for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DependencyUnavailable] * 3
