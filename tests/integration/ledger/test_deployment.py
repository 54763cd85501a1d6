import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from acgs1.core.clock import ManualClock, SystemClock
from acgs1.ledger.deployment import abandon, deploy_program, deployed_elf
from acgs1.ledger.errors import LedgerError, LedgerUnavailableError
from acgs1.ledger.instructions import Authorities, Parameters
from acgs1.ledger.program import shipped


async def test_the_embedded_program_is_the_shipped_one(node):
    assert await deployed_elf(node.client.rpc, node.client.program) == shipped().elf


async def test_a_deployed_program_is_read_back_byte_for_byte_also_after_a_restart(tmp_path, start):
    clock, program = ManualClock(), Keypair()
    async with start(tmp_path, clock) as node:
        payer = Keypair()
        await node.client.airdrop(payer.pubkey(), 10**10)
        await deploy_program(node.client, payer, program, shipped().elf, Keypair())
        assert (await deployed_elf(node.client.rpc, program.pubkey()))[: len(shipped().elf)] == shipped().elf
    async with start(tmp_path, clock) as node:
        address: Pubkey = program.pubkey()
        assert (await deployed_elf(node.client.rpc, address))[: len(shipped().elf)] == shipped().elf


TOKEN = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")


async def funded(node):
    payer = Keypair()
    await node.client.airdrop(payer.pubkey(), 10**10)
    return payer


async def in_place(node, program):
    return (await deployed_elf(node.client.rpc, program.pubkey())).rstrip(b"\0")


class Cut(LedgerUnavailableError):
    """The connection is gone."""


def cut_after(client, sends, monkeypatch):
    """The client reaches the ledger for so many transactions more; returns the list of those that it sends."""
    sent, real = [], client.send

    async def send(*arguments):
        if len(sent) >= sends:
            raise Cut("cut off")
        sent.append(arguments)
        return await real(*arguments)

    monkeypatch.setattr(client, "send", send)
    return sent


async def test_an_older_program_is_upgraded_also_to_a_longer_and_to_a_shorter_one(tmp_path, start):
    clock, program, ours = SystemClock(), Keypair(), shipped().elf  # time has to go on: one change of a program a slot
    async with start(tmp_path, clock) as node:
        other, payer = await deployed_elf(node.client.rpc, TOKEN), await funded(node)
        short, long = sorted((other, ours), key=len)
        assert len(short) < len(long)
        await deploy_program(node.client, payer, program, short, Keypair())
        for elf in (long, short, ours):
            if (await in_place(node, program)) == elf.rstrip(b"\0"):
                continue
            before = await node.client.balance(payer.pubkey())
            buffer = await node.client.rpc.read("getMinimumBalanceForRentExemption", len(elf) + 37)
            await deploy_program(node.client, payer, program, elf, Keypair())
            assert (await in_place(node, program)) == elf.rstrip(b"\0")
            assert before - await node.client.balance(payer.pubkey()) < 1.5 * buffer, "the buffer's rent came back"
        with pytest.raises(LedgerError, match="is this one already"):
            await deploy_program(node.client, payer, program, ours, Keypair())
    async with start(tmp_path, clock) as node:
        assert (await in_place(node, program)) == ours.rstrip(b"\0")
        client = type(node.client)("http://node/", program_id=str(program.pubkey()), http=node.http)
        who = Authorities(*(payer.pubkey() for _ in range(4)))
        await client.ensure_initialized(payer, who, Parameters(voting_period=60), "a" * 64)
        assert (await client.governance()).council == str(payer.pubkey()), "it is the upgraded program that runs"


async def test_a_program_of_another_authority_is_not_upgraded(node):
    payer, stranger, program = await funded(node), await funded(node), Keypair()
    await deploy_program(node.client, payer, program, shipped().elf, Keypair())
    with pytest.raises(LedgerError, match=f"may be upgraded by `{payer.pubkey()}`"):
        await deploy_program(node.client, stranger, program, shipped().elf, Keypair())
    with pytest.raises(LedgerError, match="is taken"):
        await deploy_program(node.client, stranger, stranger, shipped().elf, Keypair())


async def test_a_deployment_that_was_cut_off_goes_on_where_it_stopped(node, monkeypatch):
    payer, program, buffer = await funded(node), Keypair(), Keypair()
    with monkeypatch.context() as patched:
        first = cut_after(node.client, 50, patched)
        with pytest.raises(Cut):
            await deploy_program(node.client, payer, program, shipped().elf, buffer)
    with monkeypatch.context() as patched:
        rest = cut_after(node.client, 10_000, patched)
        await deploy_program(node.client, payer, program, shipped().elf, buffer)
    assert (await in_place(node, program)) == shipped().elf.rstrip(b"\0")
    chunks = -(-len(shipped().elf) // 900)
    assert len(first) + len(rest) <= chunks + 2, "no chunk was sent twice"


async def test_the_rent_of_a_deployment_that_was_given_up_comes_back(node, monkeypatch):
    payer, stranger, buffer = await funded(node), await funded(node), Keypair()
    before = await node.client.balance(payer.pubkey())
    with monkeypatch.context() as patched:
        cut_after(node.client, 5, patched)
        with pytest.raises(Cut):
            await deploy_program(node.client, payer, Keypair(), shipped().elf, buffer)
    assert before - await node.client.balance(payer.pubkey()) > 10**8
    with pytest.raises(LedgerError, match="is no buffer of"):
        await abandon(node.client, stranger, buffer.pubkey())
    returned = await abandon(node.client, payer, buffer.pubkey())
    assert returned > 10**8
    assert before - await node.client.balance(payer.pubkey()) < 100_000, "only fees are lost"
    assert await abandon(node.client, payer, buffer.pubkey()) == 0


async def test_a_buffer_of_another_program_is_not_gone_on_with(node, monkeypatch):
    payer, program, buffer = await funded(node), Keypair(), Keypair()
    other = await deployed_elf(node.client.rpc, TOKEN)
    with monkeypatch.context() as patched:
        cut_after(node.client, 20, patched)
        with pytest.raises(Cut):
            await deploy_program(node.client, payer, program, other, buffer)
    await deploy_program(node.client, payer, program, shipped().elf, buffer)
    assert (await in_place(node, program)) == shipped().elf.rstrip(b"\0")
