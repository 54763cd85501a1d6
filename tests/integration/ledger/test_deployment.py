from solders.keypair import Keypair
from solders.pubkey import Pubkey

from acgs1.core.clock import ManualClock
from acgs1.ledger.deployment import deploy_program, deployed_elf
from acgs1.ledger.program import shipped


async def test_the_embedded_program_is_the_shipped_one(node):
    assert await deployed_elf(node.client.rpc, node.client.program) == shipped().elf


async def test_a_deployed_program_is_read_back_byte_for_byte_also_after_a_restart(tmp_path, start):
    clock, program = ManualClock(), Keypair()
    async with start(tmp_path, clock) as node:
        payer = Keypair()
        await node.client.airdrop(payer.pubkey(), 10**10)
        await deploy_program(node.client, payer, program, shipped().elf)
        assert (await deployed_elf(node.client.rpc, program.pubkey()))[: len(shipped().elf)] == shipped().elf
    async with start(tmp_path, clock) as node:
        address: Pubkey = program.pubkey()
        assert (await deployed_elf(node.client.rpc, address))[: len(shipped().elf)] == shipped().elf
