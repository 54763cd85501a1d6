import pytest
from solders.keypair import Keypair

from acgs1.ledger.anchor_proof import AnchorProofError, verify_anchor_transaction
from acgs1.ledger.errors import ProgramError
from acgs1.ledger.instructions import Authorities, Parameters, content_hash

A, B, C, D, E = (letter * 64 for letter in "abcde")


class World:
    """An initialised, ratified program with three members of weight 10, 11 and 12."""

    def __init__(self, client):
        self.client = client
        self.council, self.emergency, self.log, self.verifier = (Keypair() for _ in range(4))
        self.members = [Keypair() for _ in range(3)]

    async def found(self):
        client = self.client
        for key in (self.council, self.emergency, self.log, self.verifier, *self.members):
            await client.airdrop(key.pubkey(), 10**9)
        who = Authorities(*(k.pubkey() for k in (self.council, self.emergency, self.log, self.verifier)))
        await client.ensure_initialized(self.council, who, Parameters(voting_period=60), A)
        await client.add_principle(self.council, "Tell the truth", C, B)
        for weight, member in enumerate(self.members, 10):
            await client.register_member(self.council, member.pubkey(), weight)
        await client.ratify(self.council, B)
        return self


@pytest.fixture
async def world(node):
    return await World(node.client).found()


async def test_a_policy_goes_from_proposal_to_force(world):
    client, (ann, bob, _) = world.client, world.members
    proposed = await client.propose(ann, "policy", C, D)
    await client.vote(ann, proposed.index, "for")
    await client.vote(bob, proposed.index, "for", payer=world.council)
    done = await client.finalize(world.council, proposed.index)
    assert (done.status, done.votes_for, done.total_weight) == ("accepted", 21, 33)
    with pytest.raises(ProgramError) as refused:
        await client.enact(world.council, proposed.index)
    assert refused.value.name == "AttestationMissing"
    await client.attest(world.verifier, D, C, 1)
    await client.enact(world.council, proposed.index)
    policy = await client.get_policy(C)
    assert policy is not None
    assert policy.proposal == proposed.index
    await client.close_proposal(ann, proposed.index)
    assert await client.get_proposal(proposed.index) is None


async def test_a_second_vote_and_a_strangers_vote_are_named_for_what_they_are(world):
    client = world.client
    proposed = await client.propose(world.members[0], "policy", C, D)
    await client.vote(world.members[0], proposed.index, "for")
    with pytest.raises(ProgramError) as second:
        await client.vote(world.members[0], proposed.index, "for")
    assert (second.value.name, second.value.code) == ("AlreadyVoted", "ledger_already_voted")
    with pytest.raises(ProgramError) as stranger:
        await client.vote(world.council, proposed.index, "for")
    assert stranger.value.name == "NotAMember"


async def test_a_vote_ends_with_its_window(world, node):
    client = world.client
    proposed = await client.propose(world.members[0], "policy", C, D)
    with pytest.raises(ProgramError) as early:
        await client.finalize(world.council, proposed.index)
    assert early.value.name == "VotingPeriodNotEnded"
    node.clock.advance(61)
    with pytest.raises(ProgramError) as late:
        await client.vote(world.members[0], proposed.index, "for")
    assert late.value.name == "VotingPeriodEnded"
    assert (await client.finalize(world.council, proposed.index)).status == "rejected"


async def test_a_member_is_registered_by_vote_after_ratification(world):
    client, new = world.client, Keypair().pubkey()
    with pytest.raises(ProgramError) as refused:
        await client.register_member(world.council, new, 5)
    assert refused.value.name == "ProposalRequired"
    carried_out = client.build.register_member(world.council.pubkey(), new, 5, proposal=0)
    proposed = await client.propose(world.members[0], "membership", content_hash(carried_out))
    for member in world.members[:2]:
        await client.vote(member, proposed.index, "for")
    await client.finalize(world.council, proposed.index)
    await client.register_member(world.council, new, 5, proposal=proposed.index)
    member = await client.get_member(new)
    assert member is not None
    assert (member.weight, member.weight_for(0), member.weight_for(1)) == (5, 0, 5)


async def test_an_anchored_root_is_verified_offline_from_the_transaction(world):
    client = world.client
    receipt = await client.anchor_root(world.log, 5, E)
    landed = await client.transaction(receipt.signature)
    authority, program = str(world.log.pubkey()), str(client.program)
    proved = verify_anchor_transaction(landed.raw, authority, program)
    assert (proved.tree_size, proved.root, proved.signature) == (5, E, receipt.signature)
    with pytest.raises(AnchorProofError):
        verify_anchor_transaction(landed.raw, str(world.council.pubkey()), program)
    for position in range(len(landed.raw)):
        forged = bytearray(landed.raw)
        forged[position] ^= 1
        with pytest.raises(AnchorProofError):
            verify_anchor_transaction(bytes(forged), authority, program)
    with pytest.raises(ProgramError) as shrinking:
        await client.anchor_root(world.log, 5, E)
    assert shrinking.value.name == "AnchorNotGrowing"


async def test_events_resume_behind_a_cursor(world):
    client = world.client
    before = [event async for event in client.events()]
    assert [type(e.body).__name__ for e in before] == [
        "Initialized", "PrincipleChanged", "MemberChanged", "MemberChanged", "MemberChanged", "Ratified",
    ]  # fmt: skip
    proposed = await client.propose(world.members[0], "policy", C, D)
    await client.vote(world.members[0], proposed.index, "abstain")
    after = [event.body async for event in client.events(before[-1].cursor)]
    assert [type(b).__name__ for b in after] == ["ProposalCreated", "VoteCast"]
    assert (after[1].choice, after[1].weight) == ("abstain", 10)


async def test_an_emergency_suspends_a_policy_until_it_is_ended(world):
    client = world.client
    index = await client.emergency_action(world.emergency, "freeze_activation", None, A, 3600)
    governance = await client.governance()
    action = await client.get_emergency(index)
    assert action.in_effect(action.issued_at)
    assert governance.frozen_until == action.expires_at
    await client.end_emergency(world.emergency, index)
    assert (await client.get_emergency(index)).status == "ended"


async def test_a_revocation_is_found_by_its_number_and_taken_again_after_the_cool_down(node):
    world = await World(node.client).found()
    client, (ann, bob, _) = world.client, world.members
    await client.emergency_action(world.emergency, "freeze_activation", None, A, 60)
    index = await client.emergency_action(world.emergency, "revoke_agent", E, A, 72 * 3600)
    assert (await client.get_emergency(index)).target == E
    content = client.emergency_ratification_hash(index, E)
    proposed = await client.propose(ann, "emergency_ratification", content)
    for member in (ann, bob):
        await client.vote(member, proposed.index, "against")
    assert (await client.finalize(world.council, proposed.index)).status == "rejected"
    await client.enact(world.council, proposed.index)
    assert (await client.get_emergency(index)).status == "ended"
    with pytest.raises(ProgramError) as refused:
        await client.emergency_action(world.emergency, "revoke_agent", E, A, 60)
    assert refused.value.name == "EmergencyCoolingDown"
    node.clock.advance(72 * 3600 + 60)
    again = await client.emergency_action(world.emergency, "revoke_agent", E, A, 60)
    assert again == index + 1
    assert [action.index for action in await client.list_emergencies()] == [0, again]
    await client.end_emergency(world.emergency, again)
    node.clock.advance(72 * 3600 + 60)
    await client.close_emergency(ann, again)
    assert await client.get_emergency(again) is None


async def test_a_transaction_signed_by_a_wallet_is_taken_back(world):
    import base64

    from solders.transaction import VersionedTransaction

    client, voter = world.client, world.members[0]
    proposed = await client.propose(voter, "policy", C, D)
    unsigned = await client.prepare([client.build.vote(voter.pubkey(), proposed.index, "for")], voter.pubkey())
    assert unsigned.signers == (str(voter.pubkey()),)
    message = VersionedTransaction.from_bytes(base64.b64decode(unsigned.transaction)).message
    signed = VersionedTransaction(message, [voter])
    first = await client.submit(bytes(signed), unsigned.last_valid_block_height)
    again = await client.submit(bytes(signed), unsigned.last_valid_block_height)
    assert first == again
    assert (await client.get_proposal(proposed.index)).votes_for == 10


async def test_the_same_content_is_proposed_twice_and_a_repeated_intent_once(world):
    client, (ann, bob, _) = world.client, world.members
    first = await client.propose(ann, "policy", C, D, intent="one")
    assert await client.propose(ann, "policy", C, D, intent="one") == first
    second = await client.propose(ann, "policy", C, D, intent="two")
    assert second.index == first.index + 1
    # Bob's transaction names the same intent; it is not Ann's.
    other = await client.propose(bob, "policy", C, D, intent="one")
    assert other.index == second.index + 1
    assert await client.find_proposed(ann.pubkey(), "one") == first
    assert await client.find_proposed(ann.pubkey(), "three") is None
    await client.cancel(ann, first.index)
    await client.close_proposal(ann, first.index)
    assert await client.propose(ann, "policy", C, D, intent="one") == first
