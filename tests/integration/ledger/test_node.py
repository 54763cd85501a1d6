import base64
import struct

from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.sysvar import CLOCK, SLOT_HASHES
from solders.transaction import VersionedTransaction

from acgs1.core.clock import ManualClock
from acgs1.ledger.node.machine import SYSVAR_OWNER as SYSVARS


async def funded(node):
    key = Keypair()
    await node.client.airdrop(key.pubkey(), 10**9)
    return key


async def blockhash(node):
    return Hash.from_string((await node.rpc("getLatestBlockhash"))["result"]["value"]["blockhash"])


def payment(key, to, lamports, recent):
    send = transfer(TransferParams(from_pubkey=key.pubkey(), to_pubkey=to, lamports=lamports))
    return VersionedTransaction(Message.new_with_blockhash([send], key.pubkey(), recent), [key])


async def send(node, tx, **config):
    return await node.rpc("sendTransaction", base64.b64encode(bytes(tx)).decode(), {"encoding": "base64", **config})


async def test_a_duplicate_is_refused_and_runs_once(node):
    key, to = await funded(node), Pubkey.new_unique()
    tx = payment(key, to, 10**6, await blockhash(node))
    first = await send(node, tx)
    second = await send(node, tx)
    assert second["error"]["code"] == -32002
    assert second["error"]["data"]["err"] == "AlreadyProcessed"
    assert (await send(node, tx, skipPreflight=True))["result"] == first["result"]
    assert await node.client.balance(to) == 10**6


async def test_a_blockhash_is_valid_for_150_slots_and_no_longer(node):
    key, recent = await funded(node), await blockhash(node)
    node.clock.advance(150 * 0.4)
    assert "result" in await send(node, payment(key, Pubkey.new_unique(), 10**6, recent))
    node.clock.advance(0.4)
    late = await send(node, payment(key, Pubkey.new_unique(), 10**6, recent))
    assert late["error"]["data"]["err"] == "BlockhashNotFound"
    assert (await node.rpc("isBlockhashValid", str(recent)))["result"]["value"] is False


async def test_errors_have_solanas_codes(node):
    key, recent = await funded(node), await blockhash(node)
    tx = payment(key, Pubkey.new_unique(), 10**6, recent)
    forged = VersionedTransaction.populate(tx.message, [Keypair().sign_message(b"x")])
    assert (await send(node, forged))["error"]["code"] == -32003
    failing = await send(node, payment(key, Pubkey.new_unique(), 10**12, recent))
    assert failing["error"]["code"] == -32002
    assert failing["error"]["data"]["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert (await node.rpc("noSuchMethod"))["error"]["code"] == -32601
    assert (await node.rpc("getBalance", "not an address"))["error"]["code"] == -32602
    assert (await node.rpc("getSlot", {"minContextSlot": 10**9}))["error"]["code"] == -32016
    assert (await node.http.post("http://node/", content=b"{")).json()["error"]["code"] == -32700
    assert (await node.http.post("http://node/", content=b"1")).json()["error"]["code"] == -32600


async def test_a_transaction_that_fails_without_preflight_lands_and_pays_its_fee(node):
    key = await funded(node)
    tx = payment(key, Pubkey.new_unique(), 10**12, await blockhash(node))
    signature = (await send(node, tx, skipPreflight=True))["result"]
    assert await node.client.balance(key.pubkey()) == 10**9 - 5000
    landed = await node.client.transaction(signature)
    assert landed.error == {"InstructionError": [0, {"Custom": 1}]}
    assert landed.fee == 5000


async def test_slots_and_the_clock_follow_the_time(node):
    slot = (await node.rpc("getSlot"))["result"]
    time = (await node.rpc("getBlockTime", slot))["result"]
    node.clock.advance(40)
    assert (await node.rpc("getSlot"))["result"] == slot + 100
    assert (await node.rpc("getBlockTime", slot + 100))["result"] == time + 40


async def test_the_clock_account_goes_on_while_nothing_runs(node):
    async def told(method, *params):
        return (await node.rpc(method, *params))["result"]

    def read(account):
        data = base64.b64decode(account["data"][0])
        return struct.unpack_from("<Q", data, 0)[0], struct.unpack_from("<q", data, 32)[0]

    config = {"encoding": "base64"}
    before = read((await told("getAccountInfo", str(CLOCK), config))["value"])
    node.clock.advance(4000)
    answer = await told("getAccountInfo", str(CLOCK), config)
    slot = answer["context"]["slot"]
    assert read(answer["value"]) == (slot, await told("getBlockTime", slot)) == (before[0] + 10_000, before[1] + 4000)
    node.clock.advance(4)
    (account,) = (await told("getMultipleAccounts", [str(CLOCK)], config))["value"]
    assert read(account)[0] == slot + 10 == await told("getSlot")
    node.clock.advance(4)
    sysvars = {row["pubkey"]: row["account"] for row in await told("getProgramAccounts", str(SYSVARS), config)}
    assert read(sysvars[str(CLOCK)])[0] == slot + 20
    node.clock.advance(4)
    hashes = await told("getAccountInfo", str(SLOT_HASHES), config)
    assert struct.unpack_from("<Q", base64.b64decode(hashes["value"]["data"][0]), 8)[0] == slot + 29


async def test_a_restart_finds_accounts_history_and_slot(tmp_path, start):
    clock = ManualClock()
    async with start(tmp_path, clock) as node:
        key, to = await funded(node), Pubkey.new_unique()
        signatures = []
        for _ in range(20):
            clock.advance(0.4)
            signatures.append((await send(node, payment(key, to, 10**6, await blockhash(node))))["result"])
        before = {m: await node.rpc(m) for m in ("getSlot", "getGenesisHash", "getLatestBlockhash", "getEpochInfo")}
    async with start(tmp_path, clock) as node:
        assert {m: await node.rpc(m) for m in before} == before
        assert await node.client.balance(to) == 20 * 10**6
        history = (await node.rpc("getSignaturesForAddress", str(to)))["result"]
        assert [h["signature"] for h in history] == signatures[::-1]
        health = (await node.http.get("http://node/health")).json()
        assert health["recovery"] == {"replayed": 0, "dropped_tail": None}


async def test_a_transaction_that_preflight_refuses_leaves_no_trace(tmp_path, start):
    clock = ManualClock()
    async with start(tmp_path, clock) as node:
        key, to = await funded(node), Pubkey.new_unique()
        landed = await send(node, payment(key, to, 10**6, await blockhash(node)))
        before = [(await node.rpc("getAccountInfo", str(a)))["result"]["value"] for a in (key.pubkey(), to)]
        refused = payment(key, to, 10**12, await blockhash(node))
        first = await send(node, refused)
        assert first["error"]["code"] == -32002
        assert first["error"]["data"]["unitsConsumed"] > 0
        assert any("insufficient lamports" in line for line in first["error"]["data"]["logs"])
        assert await send(node, refused) == first  # it is no duplicate: it never was
        after = [(await node.rpc("getAccountInfo", str(a)))["result"]["value"] for a in (key.pubkey(), to)]
        assert after == before
        stranger = Keypair()
        poor = await send(node, payment(stranger, to, 1, await blockhash(node)))
        assert poor["error"]["data"]["err"] == "AccountNotFound"
        assert (await node.rpc("getAccountInfo", str(stranger.pubkey())))["result"]["value"] is None
        history = (await node.rpc("getSignaturesForAddress", str(to)))["result"]
        assert [row["signature"] for row in history] == [landed["result"]]
