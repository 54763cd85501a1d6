"""Putting a program on a cluster through the upgradeable loader, replacing it, and reading back what is there.

The bytes go into a buffer account first, a hundred and more transactions of them. A deployment that was cut off goes on with the same
buffer key where it stopped; or its buffer is closed, and the rent comes back.

Instructions: `UpgradeableLoaderInstruction` of solana-loader-v3-interface (bincode).
"""

import asyncio
import struct
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

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
# UpgradeableLoaderState: tag, slot, an optional authority; a buffer has no slot.
_PROGRAM_DATA_HEADER: Final = 45
_BUFFER, _PROGRAM_DATA = 1, 3
_BUFFER_HEADER: Final = 37
_PROGRAM_SIZE: Final = 36
# A transaction has 1232 bytes; signatures, accounts and the instruction's head take the rest.
_CHUNK: Final = 900
_AT_ONCE: Final = 8
_SLOT_SECONDS: Final = 0.4


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


async def deploy_program(client: LedgerClient, payer: Keypair, program: Keypair, elf: bytes, buffer: Keypair) -> str:
    """Deploy `elf` at the address of `program`, `payer` paying and holding the upgrade authority; or upgrade the program that is
    there, where `payer` holds its upgrade authority.

    What `buffer` holds already is not sent again. Returns the signature of the deployment. Raises LedgerError where the
    address is taken, the program is that one already, or a step is refused.
    """
    at, held = program.pubkey(), _data_address(program.pubkey())
    there = await _account(client, at)
    standing = None if there is None else await _account(client, held)
    changed = 0  # the slot in which the program that is there was last deployed, upgraded or extended
    if there is not None:
        if standing is None or there["owner"] != str(LOADER):
            raise LedgerError(f"`{at}` is taken")
        data = b64decode(standing["data"][0])
        authority = _authority(data, _PROGRAM_DATA)
        if authority != payer.pubkey():
            raise LedgerError(f"the program at `{at}` may be upgraded by `{authority}`, not by `{payer.pubkey()}`")
        changed = int.from_bytes(data[4:12], "little")
        capacity = len(data) - _PROGRAM_DATA_HEADER
        if data[_PROGRAM_DATA_HEADER:] == elf + bytes(max(0, capacity - len(elf))):
            raise LedgerError(f"the program at `{at}` is this one already")
        if capacity < len(elf):
            await _slot_after(client, changed)
            changed = (await client.send([_extend(payer, at, held, len(elf) - capacity)], [payer])).slot
    await _fill(client, payer, buffer, elf)
    if standing is not None:
        await _slot_after(client, changed)
        return (await client.send([_upgrade(payer, at, held, buffer)], [payer])).signature
    create = _create(payer, program, await _rent(client, _PROGRAM_SIZE), _PROGRAM_SIZE)
    return (await client.send([create, _deploy(payer, at, held, buffer, len(elf))], [payer, program])).signature


async def abandon(client: LedgerClient, payer: Keypair, buffer: Pubkey) -> int:
    """Close the buffer of a deployment that was cut off; the lamports that came back to `payer`, 0 where there is no buffer.

    Raises LedgerError where `payer` is not its authority.
    """
    found = await _account(client, buffer)
    if found is None:
        return 0
    _expect_ours(found, buffer, payer)
    close = Instruction(
        LOADER,
        struct.pack("<I", 5),
        [
            AccountMeta(buffer, False, True),
            AccountMeta(payer.pubkey(), False, True),
            AccountMeta(payer.pubkey(), True, False),
        ],
    )
    await client.send([close], [payer])
    return int(found["lamports"])


async def _fill(client: LedgerClient, payer: Keypair, buffer: Keypair, elf: bytes) -> None:
    """Have `elf` in the buffer, made by `payer` if need be."""
    at, size = buffer.pubkey(), _BUFFER_HEADER + len(elf)
    found = await _account(client, at)
    if found is not None and _expect_ours(found, at, payer) != size:
        await abandon(client, payer, at)  # of another program
        found = None
    if found is None:
        initialize = Instruction(
            LOADER,
            struct.pack("<I", 0),
            [AccountMeta(at, False, True), AccountMeta(payer.pubkey(), False, False)],
        )
        await client.send([_create(payer, buffer, await _rent(client, size), size), initialize], [payer, buffer])
    held = bytes(len(elf)) if found is None else b64decode(found["data"][0])[_BUFFER_HEADER:]
    room = asyncio.Semaphore(_AT_ONCE)

    async def write(offset: int) -> None:
        chunk = elf[offset : offset + _CHUNK]
        instruction = Instruction(
            LOADER,
            struct.pack("<IIQ", 1, offset, len(chunk)) + chunk,
            [AccountMeta(at, False, True), AccountMeta(payer.pubkey(), True, False)],
        )
        async with room:
            await client.send([instruction], [payer])

    missing = [o for o in range(0, len(elf), _CHUNK) if held[o : o + _CHUNK] != elf[o : o + _CHUNK]]
    # All of them end before an error is told: one that is still on its way must not meet whoever tries again.
    outcomes = await asyncio.gather(*(write(offset) for offset in missing), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def _expect_ours(account: Mapping[str, Any], at: Pubkey, payer: Keypair) -> int:
    """The size of a buffer that `payer` may write. Raises LedgerError for anything else."""
    data = b64decode(account["data"][0])
    authority = _authority(data, _BUFFER) if account["owner"] == str(LOADER) else None
    if authority != payer.pubkey():
        raise LedgerError(f"`{at}` is no buffer of `{payer.pubkey()}`: its authority is `{authority}`")
    return len(data)


def _authority(data: bytes, tag: int) -> Pubkey | None:
    """The authority in an account of the loader, None where it has none or is of another kind."""
    place = 4 if tag == _BUFFER else 12
    if len(data) < place + 33 or int.from_bytes(data[:4], "little") != tag or data[place] != 1:
        return None
    return Pubkey(data[place + 1 : place + 33])


def _deploy(payer: Keypair, program: Pubkey, held: Pubkey, buffer: Keypair, size: int) -> Instruction:
    return Instruction(
        LOADER,
        struct.pack("<IQ", 2, size),
        [
            AccountMeta(payer.pubkey(), True, True),
            AccountMeta(held, False, True),
            AccountMeta(program, False, True),
            AccountMeta(buffer.pubkey(), False, True),
            AccountMeta(RENT, False, False),
            AccountMeta(CLOCK, False, False),
            AccountMeta(SYSTEM_PROGRAM, False, False),
            AccountMeta(payer.pubkey(), True, False),
        ],
    )


def _upgrade(payer: Keypair, program: Pubkey, held: Pubkey, buffer: Keypair) -> Instruction:
    """The buffer's rent goes back to the payer."""
    return Instruction(
        LOADER,
        struct.pack("<I", 3),
        [
            AccountMeta(held, False, True),
            AccountMeta(program, False, True),
            AccountMeta(buffer.pubkey(), False, True),
            AccountMeta(payer.pubkey(), False, True),
            AccountMeta(RENT, False, False),
            AccountMeta(CLOCK, False, False),
            AccountMeta(payer.pubkey(), True, False),
        ],
    )


def _extend(payer: Keypair, program: Pubkey, held: Pubkey, more: int) -> Instruction:
    """Make room for `more` bytes; the payer adds the rent."""
    return Instruction(
        LOADER,
        struct.pack("<II", 6, more),
        [
            AccountMeta(held, False, True),
            AccountMeta(program, False, True),
            AccountMeta(SYSTEM_PROGRAM, False, False),
            AccountMeta(payer.pubkey(), True, True),
        ],
    )


def _data_address(program: Pubkey) -> Pubkey:
    return Pubkey.find_program_address([bytes(program)], LOADER)[0]


async def _slot_after(client: LedgerClient, slot: int) -> None:
    """Wait for a slot behind `slot`: the loader changes a program once in a slot."""
    while True:
        if await client.rpc.read("getSlot", {"commitment": client.commitment}) > slot:
            return
        await asyncio.sleep(_SLOT_SECONDS)


async def _account(client: LedgerClient, at: Pubkey) -> Mapping[str, Any] | None:
    config = {"encoding": "base64", "commitment": client.commitment}
    return (await client.rpc.read("getAccountInfo", str(at), config))["value"]


def _create(payer: Keypair, account: Keypair, lamports: int, size: int) -> Instruction:
    return create_account(
        CreateAccountParams(
            from_pubkey=payer.pubkey(), to_pubkey=account.pubkey(), lamports=lamports, space=size, owner=LOADER
        )
    )


async def _rent(client: LedgerClient, size: int) -> int:
    return int(await client.rpc.read("getMinimumBalanceForRentExemption", size))
