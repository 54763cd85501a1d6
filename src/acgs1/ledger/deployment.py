"""Putting a program on a cluster through the upgradeable loader, and reading back what is there.

Instructions: `UpgradeableLoaderInstruction` of solana-loader-v3-interface (bincode).
"""

import struct
from base64 import b64decode
from typing import Final

from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import CreateAccountParams, create_account
from solders.sysvar import CLOCK, RENT

from acgs1.ledger.client import LedgerClient
from acgs1.ledger.errors import AccountMissingError, LedgerError
from acgs1.ledger.jsonrpc import JsonRpc

LOADER: Final = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
_FIXED_LOADERS: Final = (
    "BPFLoader2111111111111111111111111111111111",
    "BPFLoader1111111111111111111111111111111111",
)
_PROGRAM_DATA_HEADER: Final = 45
_BUFFER_HEADER: Final = 37
_PROGRAM_SIZE: Final = 36
# A transaction has 1232 bytes; signatures, accounts and the instruction's head take the rest.
_CHUNK: Final = 900


async def deployed_elf(rpc: JsonRpc, program: Pubkey) -> bytes:
    """The bytes of the program at `program`. Raises AccountMissingError where there is none."""
    account = (await rpc.read("getAccountInfo", str(program), {"encoding": "base64"}))["value"]
    if account is None or not account["executable"]:
        raise AccountMissingError(f"there is no program at `{program}`")
    data = b64decode(account["data"][0])
    if account["owner"] in _FIXED_LOADERS:
        return data
    if account["owner"] != str(LOADER) or len(data) != _PROGRAM_SIZE:
        raise LedgerError(f"the program at `{program}` belongs to an unknown loader `{account['owner']}`")
    held = str(Pubkey(data[4:36]))
    found = (await rpc.read("getAccountInfo", held, {"encoding": "base64"}))["value"]
    if found is None:
        raise AccountMissingError(f"the program at `{program}` has been closed")
    return b64decode(found["data"][0])[_PROGRAM_DATA_HEADER:]


async def deploy_program(client: LedgerClient, payer: Keypair, program: Keypair, elf: bytes) -> str:
    """Deploy `elf` at the address of `program`, `payer` paying and holding the upgrade authority.

    Returns the signature of the deployment. Raises LedgerError where the address is taken or a step is refused.
    """
    if (await client.rpc.read("getAccountInfo", str(program.pubkey()), {"encoding": "base64"}))["value"] is not None:
        raise LedgerError(f"`{program.pubkey()}` is taken")
    buffer = Keypair()
    size = _BUFFER_HEADER + len(elf)
    await client.send(
        [
            _create(payer, buffer, await _rent(client, size), size),
            Instruction(
                LOADER,
                struct.pack("<I", 0),
                [AccountMeta(buffer.pubkey(), False, True), AccountMeta(payer.pubkey(), False, False)],
            ),
        ],
        [payer, buffer],
    )
    for offset in range(0, len(elf), _CHUNK):
        chunk = elf[offset : offset + _CHUNK]
        write = Instruction(
            LOADER,
            struct.pack("<IIQ", 1, offset, len(chunk)) + chunk,
            [AccountMeta(buffer.pubkey(), False, True), AccountMeta(payer.pubkey(), True, False)],
        )
        await client.send([write], [payer])
    data, _ = Pubkey.find_program_address([bytes(program.pubkey())], LOADER)
    deploy = Instruction(
        LOADER,
        struct.pack("<IQ", 2, len(elf)),
        [
            AccountMeta(payer.pubkey(), True, True),
            AccountMeta(data, False, True),
            AccountMeta(program.pubkey(), False, True),
            AccountMeta(buffer.pubkey(), False, True),
            AccountMeta(RENT, False, False),
            AccountMeta(CLOCK, False, False),
            AccountMeta(SYSTEM_PROGRAM, False, False),
            AccountMeta(payer.pubkey(), True, False),
        ],
    )
    create = _create(payer, program, await _rent(client, _PROGRAM_SIZE), _PROGRAM_SIZE)
    return (await client.send([create, deploy], [payer, program])).signature


def _create(payer: Keypair, account: Keypair, lamports: int, size: int) -> Instruction:
    return create_account(
        CreateAccountParams(
            from_pubkey=payer.pubkey(), to_pubkey=account.pubkey(), lamports=lamports, space=size, owner=LOADER
        )
    )


async def _rent(client: LedgerClient, size: int) -> int:
    return int(await client.rpc.read("getMinimumBalanceForRentExemption", size))
