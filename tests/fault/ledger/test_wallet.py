"""A transaction that a wallet signs elsewhere, while the node is killed or the time for it runs out."""

import base64

import pytest
from solders.keypair import Keypair
from solders.transaction import VersionedTransaction

from acgs1.core.clock import ManualClock
from acgs1.ledger.client import LedgerClient
from acgs1.ledger.errors import TransactionExpiredError, TransactionFailedError
from acgs1.ledger.instructions import Authorities, Parameters
from acgs1.ledger.node.app import create_app, open_chain
from acgs1.ledger.node.settings import NodeSettings
from program.process import Process

A, B, C, D = (letter * 64 for letter in "abcd")


async def governed(client: LedgerClient) -> Keypair:
    """A member who has proposed a policy."""
    voter = Keypair()
    await client.airdrop(voter.pubkey(), 10**9)
    await client.ensure_initialized(voter, Authorities(*[voter.pubkey()] * 4), Parameters(voting_period=3600), A)
    await client.add_principle(voter, "Tell the truth", C, B)
    await client.register_member(voter, voter.pubkey(), 7)
    await client.ratify(voter, B)
    await client.propose(voter, "policy", C, D)
    return voter


def signed(unsigned, wallet: Keypair) -> bytes:
    message = VersionedTransaction.from_bytes(base64.b64decode(unsigned.transaction)).message
    return bytes(VersionedTransaction(message, [wallet]))


async def test_a_signed_transaction_lands_once_whatever_dies_in_between(tmp_path):
    node = Process(tmp_path)
    await node.start()
    url = f"http://127.0.0.1:{node.port}"
    try:
        async with LedgerClient(url) as client:
            voter = await governed(client)
            unsigned = await client.prepare([client.build.vote(voter.pubkey(), 0, "for")], voter.pubkey())
        raw = signed(unsigned, voter)
        await node.kill()
        await node.start()
        receipts = []
        for _ in range(2):  # who handed it in may have died before the answer, and hands it in again
            async with LedgerClient(url) as client:
                receipts.append(await client.submit(raw, unsigned.last_valid_block_height))
            await node.kill()
            await node.start()
        assert receipts[0] == receipts[1]
        async with LedgerClient(url) as client:
            assert (await client.get_proposal(0)).votes_for == 7
    finally:
        await node.stop()


@pytest.fixture
async def chain(tmp_path):
    """A client on a node whose time the test owns."""
    import httpx

    settings, clock = NodeSettings(data_dir=tmp_path), ManualClock()
    app = create_app(settings, open_chain(settings, clock=clock))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        yield LedgerClient("http://node/", http=http), clock


async def test_a_wallet_that_took_too_long_is_told_so_and_may_sign_another(chain):
    client, clock = chain
    voter = await governed(client)
    vote = client.build.vote(voter.pubkey(), 0, "for")
    late = await client.prepare([vote], voter.pubkey())
    clock.advance(151 * 0.4)
    with pytest.raises(TransactionExpiredError, match="build it anew"):
        await client.submit(signed(late, voter), late.last_valid_block_height)
    assert (await client.get_proposal(0)).votes_for == 0
    again = await client.prepare([vote], voter.pubkey())
    await client.submit(signed(again, voter), again.last_valid_block_height)
    assert (await client.get_proposal(0)).votes_for == 7


async def test_what_landed_in_time_is_recognised_long_after_its_blockhash(chain):
    client, clock = chain
    voter = await governed(client)
    unsigned = await client.prepare([client.build.vote(voter.pubkey(), 0, "for")], voter.pubkey())
    raw = signed(unsigned, voter)
    first = await client.submit(raw, unsigned.last_valid_block_height)
    for seconds in (61, 3600):
        clock.advance(seconds)
        await client.airdrop(voter.pubkey(), 1_000_000)  # what is recent is forgotten with the next transaction
        assert await client.submit(raw, unsigned.last_valid_block_height) == first


async def test_what_comes_back_unsigned_or_signed_by_another_is_refused(chain):
    client, _ = chain
    voter = await governed(client)
    unsigned = await client.prepare([client.build.vote(voter.pubkey(), 0, "for")], voter.pubkey())
    empty = base64.b64decode(unsigned.transaction)
    forged = VersionedTransaction.populate(
        VersionedTransaction.from_bytes(empty).message, [Keypair().sign_message(b"another")]
    )
    for raw, reason in (
        (empty, "missing or wrong"),
        (bytes(forged), "missing or wrong"),
        (b"junk", "not a transaction"),
    ):
        with pytest.raises(TransactionFailedError, match=reason):
            await client.submit(raw, unsigned.last_valid_block_height)
