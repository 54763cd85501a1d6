"""The node killed with signal 9 in the middle of a load, and its log torn."""

import asyncio
import base64
from pathlib import Path

import httpx
import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from acgs1.core.clock import SystemClock
from acgs1.ledger.node.app import open_chain
from acgs1.ledger.node.journal import Journal, JournalError
from acgs1.ledger.node.settings import NodeSettings
from program.process import Process


async def test_every_answered_transaction_survives_kill_9(tmp_path):
    node = Process(tmp_path)
    await node.start()
    key, to = Keypair(), Pubkey.new_unique()
    await node.rpc("requestAirdrop", str(key.pubkey()), 10**10)
    recent = Hash.from_string((await node.rpc("getLatestBlockhash"))["value"]["blockhash"])
    genesis = await node.rpc("getGenesisHash")
    answered: list[str] = []
    enough = asyncio.Event()

    async def pay(start: int) -> None:
        for lamports in range(start, start + 400):
            send = transfer(TransferParams(from_pubkey=key.pubkey(), to_pubkey=to, lamports=lamports))
            tx = VersionedTransaction(Message.new_with_blockhash([send], key.pubkey(), recent), [key])
            wire = base64.b64encode(bytes(tx)).decode()
            try:
                answered.append(await node.rpc("sendTransaction", wire, {"encoding": "base64"}))
            except httpx.TransportError:
                return
            if len(answered) == 100:
                enough.set()

    payers = [asyncio.create_task(pay(10**6 + 1000 * n)) for n in range(4)]
    await enough.wait()
    await node.kill()
    await asyncio.gather(*payers)
    await node.start()
    try:
        assert await node.rpc("getGenesisHash") == genesis
        history = await node.rpc("getSignaturesForAddress", str(to))
        landed = {row["signature"] for row in history}
        assert set(answered) <= landed
        total = 0
        for row in history:
            meta = (await node.rpc("getTransaction", row["signature"]))["meta"]
            total += meta["postBalances"][1] - meta["preBalances"][1]
        assert (await node.rpc("getBalance", str(to)))["value"] == total
    finally:
        await node.stop()


async def _crashed(directory: Path, count: int) -> Path:
    """A data directory as a crash leaves it: `count` airdrops in the log, nothing checkpointed."""
    settings = NodeSettings(data_dir=directory / "alive")
    chain = open_chain(settings, clock=SystemClock())
    for _ in range(count):
        await chain.airdrop(Pubkey.new_unique(), 10**9)
    crashed = directory / "crashed"
    crashed.mkdir()
    for name in ("ledger.sqlite3", "ledger.sqlite3-wal"):
        (crashed / name).write_bytes((settings.data_dir / name).read_bytes())
    await chain.close()
    return crashed


async def test_a_torn_last_record_is_dropped_and_reported(tmp_path):
    crashed = await _crashed(tmp_path, 3)
    wal = crashed / "ledger.sqlite3-wal"
    wal.write_bytes(wal.read_bytes()[:-100])
    chain = open_chain(NodeSettings(data_dir=crashed), clock=SystemClock())
    assert chain.recovery.dropped_tail is not None
    assert (chain.transaction_count, chain.recovery.replayed) == (2, 2)
    await chain.close()


async def test_damage_before_answered_transactions_is_refused(tmp_path):
    crashed = await _crashed(tmp_path, 3)
    wal = crashed / "ledger.sqlite3-wal"
    content = bytearray(wal.read_bytes())
    content[len(content) // 4] ^= 0xFF
    wal.write_bytes(content)
    with pytest.raises(JournalError, match="damaged"):
        Journal(crashed / "ledger.sqlite3")


async def test_an_altered_record_is_refused(tmp_path):
    import sqlite3

    crashed = await _crashed(tmp_path, 3)
    with sqlite3.connect(crashed / "ledger.sqlite3") as database:
        database.execute("UPDATE transactions SET slot = slot + 1 WHERE seq = 2")
    with pytest.raises(JournalError, match="transaction 2 is missing or altered"):
        open_chain(NodeSettings(data_dir=crashed), clock=SystemClock())


async def test_two_nodes_do_not_share_a_data_directory(tmp_path):
    first = Journal(tmp_path / "ledger.sqlite3")
    with pytest.raises(JournalError, match="in use"):
        Journal(tmp_path / "ledger.sqlite3")
    first.close()
