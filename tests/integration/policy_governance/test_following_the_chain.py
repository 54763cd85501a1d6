"""Following the chain: whatever is killed or away, nothing is lost and nothing counts twice."""

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from solders.keypair import Keypair

from acgs1.contracts.policy_governance import NewBallot, NewProposal
from acgs1.core.hashing import text_hash
from acgs1.kit.errors import DependencyUnavailable
from acgs1.ledger.keys import load_or_create_keypair
from acgs1.services.policy_governance.errors import LedgerConflict
from chamber import Chamber, chamber_at
from governance import AGENT
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
