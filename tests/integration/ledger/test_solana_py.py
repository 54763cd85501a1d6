"""Conformance: the node as solana-py sees it, over HTTP and WebSocket. Runs against a cluster too (ACGS_CONFORMANCE_URL).

So nothing here may hold of the embedded node alone: on a cluster block heights are behind slots, endpoints behind one address
lag behind each other, forks are abandoned, rent and faucet are its own, and everybody writes accounts.
"""

import asyncio
import base64
import os
from pathlib import Path

import httpx
import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.core import RPCException
from solana.rpc.models import DataSliceOpts, MemcmpOpts, TxOpts
from solana.rpc.websocket_api import SolanaWsClient
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.rpc.config import RpcTransactionLogsFilterMentions
from solders.signature import Signature
from solders.system_program import ID as SYSTEM
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.transaction import VersionedTransaction

from acgs1.ledger.base58 import b58encode
from acgs1.ledger.client import LedgerClient
from acgs1.ledger.instructions import Authorities, Parameters
from acgs1.ledger.keys import load_keypair
from acgs1.ledger.program import shipped

LAMPORTS = 2_000_000  # above the rent-exempt minimum
# Slots that endpoints behind one address may differ by.
LAG = 150
# A size that no other account is likely to have: what is asked for by size is ours.
ODD_SIZE = 1_237


async def eventually(ask, told, seconds=60):
    """The answer that `told` accepts: what is confirmed at one endpoint may not be known at the next one yet."""
    for _ in range(seconds * 2):
        if told(answer := (await ask()).value):
            return answer
        await asyncio.sleep(0.5)
    raise TimeoutError(f"still `{answer}` after {seconds} s")


@pytest.fixture
async def rpc(endpoint):
    async with AsyncClient(endpoint.url, commitment=Confirmed) as client:
        yield client


@pytest.fixture
async def call(endpoint):
    """A method by its name, for what solana-py does not send or does not show: the whole answer."""
    async with httpx.AsyncClient(timeout=30) as http:

        async def invoke(method, *params, **fields):
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params), **fields}
            return (await http.post(endpoint.url, json=body)).json()

        yield invoke


@pytest.fixture
async def socket(endpoint):
    async with SolanaWsClient(endpoint.websocket) as client:
        yield client


@pytest.fixture
async def payer(rpc):
    if path := os.environ.get("ACGS_CONFORMANCE_PAYER"):
        return load_keypair(Path(path))
    key = Keypair()
    signature = (await rpc.request_airdrop(key.pubkey(), 10**9)).value
    await rpc.confirm_transaction(signature, Confirmed)
    return key


async def payment(rpc, payer, to, lamports=LAMPORTS):
    recent = (await rpc.get_latest_blockhash()).value.blockhash
    send = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=lamports))
    return VersionedTransaction(MessageV0.try_compile(payer.pubkey(), [send], [], recent), [payer])


async def test_the_cluster_describes_itself(rpc):
    assert await rpc.is_connected()
    assert (await rpc.get_version()).value.solana_core
    slot = (await rpc.get_slot()).value
    assert (await rpc.get_block_height()).value >= 0
    epoch = (await rpc.get_epoch_info()).value
    assert epoch.absolute_slot >= slot - LAG
    assert 0 <= epoch.slot_index < epoch.slots_in_epoch
    assert (await rpc.get_genesis_hash()).value
    empty, larger = [(await rpc.get_minimum_balance_for_rent_exemption(size)).value for size in (0, 1000)]
    assert 0 < empty < larger
    blockhash = (await rpc.get_latest_blockhash()).value
    height = (await rpc.get_block_height()).value
    assert -LAG <= height - (blockhash.last_valid_block_height - 150) <= LAG


async def test_a_sent_transaction_is_confirmed_and_found_again(rpc, payer):
    to = Keypair().pubkey()
    tx = await payment(rpc, payer, to)
    assert (await rpc.get_fee_for_message(tx.message)).value == 5000
    signature = (await rpc.send_transaction(tx, TxOpts(skip_confirmation=False, preflight_commitment=Confirmed))).value
    assert signature == tx.signatures[0]
    (status,) = (await rpc.get_signature_statuses([signature])).value
    assert status.err is None
    assert await eventually(lambda: rpc.get_balance(to), bool) == LAMPORTS
    account = await eventually(lambda: rpc.get_account_info(to), bool)
    assert (account.lamports, account.owner, account.executable, account.data) == (LAMPORTS, SYSTEM, False, b"")
    found = await eventually(
        lambda: rpc.get_transaction(signature, "base64", max_supported_transaction_version=0), bool
    )
    assert found.slot == status.slot
    assert found.transaction.meta.fee == 5000
    for encoding in ("json", "jsonParsed"):
        other = await rpc.get_transaction(signature, encoding, max_supported_transaction_version=0)
        assert other.value.transaction.transaction.signatures == [signature]
    history = await eventually(lambda: rpc.get_signatures_for_address(to), bool)
    assert [h.signature for h in history] == [signature]
    accounts = (await rpc.get_multiple_accounts([to, Keypair().pubkey()])).value
    assert accounts[0].lamports == LAMPORTS
    assert accounts[1] is None


async def test_a_simulation_tells_logs_units_and_accounts_and_changes_nothing(rpc, payer):
    to = Keypair().pubkey()
    tx = await payment(rpc, payer, to)
    result = (await rpc.simulate_transaction(tx, sig_verify=True, accounts_addresses=[to])).value
    assert result.err is None
    assert any("success" in line for line in result.logs)
    assert result.units_consumed > 0
    assert result.accounts[0].lamports == LAMPORTS
    assert (await rpc.get_balance(to)).value == 0
    failing = (await rpc.simulate_transaction(await payment(rpc, payer, to, 10**15))).value
    assert failing.err.index == 0


async def test_a_transaction_that_would_fail_is_refused_with_its_reason(rpc, payer):
    with pytest.raises(RPCException) as refused:
        await rpc.send_transaction(await payment(rpc, payer, Keypair().pubkey(), 10**15))
    assert "custom program error: 0x1" in str(refused.value)


async def test_program_accounts_are_filtered_and_sliced(rpc, endpoint, payer):
    named = os.environ.get("ACGS_CONFORMANCE_PROGRAM")
    if "ACGS_CONFORMANCE_URL" in os.environ and not named:
        pytest.skip("ACGS_CONFORMANCE_PROGRAM does not say where the governance program is deployed on this cluster")
    program = Pubkey.from_string(named or shipped().program_id)
    async with LedgerClient(endpoint.url, program_id=str(program)) as client:
        if await client.get_governance() is None:
            who = Authorities(*(payer.pubkey() for _ in range(4)))
            await client.ensure_initialized(payer, who, Parameters(voting_period=60), "a" * 64)
        at, kind = client.build.at.governance, client.idl.account_discriminator("Governance")
        data = await client.account_data(at)
    whole = (await rpc.get_program_accounts(program, encoding="base64")).value
    assert {a.pubkey: a.account.data for a in whole}[at] == data
    matching = [len(data), MemcmpOpts(offset=0, bytes=str(Pubkey(kind + bytes(24))))]
    assert (await rpc.get_program_accounts(program, encoding="base64", filters=matching)).value == []
    filters = [len(data), MemcmpOpts(offset=0, bytes=b58encode(kind))]
    sliced = await rpc.get_program_accounts(
        program, encoding="base64", filters=filters, data_slice=DataSliceOpts(offset=4, length=9)
    )
    assert [(a.pubkey, a.account.data) for a in sliced.value] == [(at, data[4:13])]
    assert (await rpc.get_program_accounts(program, encoding="base64", filters=[len(data) + 1])).value == []


async def test_subscriptions_to_account_logs_program_and_signature_tell_of_a_transaction(rpc, socket, payer):
    new = Keypair()
    to = new.pubkey()
    lamports = (await rpc.get_minimum_balance_for_rent_exemption(ODD_SIZE)).value
    create = create_account(
        CreateAccountParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=lamports, space=ODD_SIZE, owner=SYSTEM)
    )
    account = await socket.account_subscribe(pubkey=to, commitment=Confirmed, encoding="base64")
    logs = await socket.logs_subscribe(filter_=RpcTransactionLogsFilterMentions(to), commitment=Confirmed)
    program = await socket.program_subscribe(
        program_id=SYSTEM, commitment=Confirmed, encoding="base64", filters=[ODD_SIZE]
    )
    recent = (await rpc.get_latest_blockhash()).value.blockhash
    tx = VersionedTransaction(MessageV0.try_compile(payer.pubkey(), [create], [], recent), [payer, new])
    signature = await socket.signature_subscribe(signature=tx.signatures[0], commitment=Confirmed)
    await rpc.send_transaction(tx, TxOpts(preflight_commitment=Confirmed))
    wanted = {s.subscription_id for s in (account, logs, program, signature)}
    told = {}
    async with asyncio.timeout(60):
        while wanted - told.keys():
            notification = await socket.recv()
            if notification.subscription != program.subscription_id or notification.result.value.pubkey == to:
                told[notification.subscription] = notification.result.value
    assert told[account.subscription_id].lamports == lamports
    assert told[logs.subscription_id].signature == tx.signatures[0]
    assert told[logs.subscription_id].err is None
    assert told[program.subscription_id].account.lamports == lamports
    assert told[signature.subscription_id].err is None
    for subscription in (account, logs, program):
        await socket.unsubscribe(subscription)


async def test_slots_are_announced(socket):
    await socket.slot_subscribe()
    async with asyncio.timeout(60):
        seen = [(await socket.recv()).result for _ in range(3)]
    assert len({s.slot for s in seen}) == 3
    assert all(s.parent < s.slot for s in seen)


async def test_an_unknown_signature_has_no_status(rpc):
    assert (await rpc.get_signature_statuses([Signature.new_unique()])).value == [None]


def wire(tx):
    return base64.b64encode(bytes(tx)).decode()


async def landed(rpc, signature):
    """The status of a transaction once it is confirmed."""
    (status,) = await eventually(
        lambda: rpc.get_signature_statuses([signature]),
        lambda found: (
            found[0] is not None and str(found[0].confirmation_status) != "TransactionConfirmationStatus.Processed"
        ),
    )
    return status


async def test_a_blockhash_is_valid_and_one_that_never_was_is_not(rpc, call):
    recent = await rpc.get_latest_blockhash()
    config = {"commitment": "confirmed", "minContextSlot": recent.context.slot}

    async def valid(blockhash):
        return (await call("isBlockhashValid", str(blockhash), config))["result"]["value"]

    assert await valid(recent.value.blockhash) is True
    assert await valid(Hash.new_unique()) is False


async def test_a_block_has_the_time_of_its_transactions(rpc, payer):
    tx = await payment(rpc, payer, Keypair().pubkey())
    signature = (await rpc.send_transaction(tx, TxOpts(preflight_commitment=Confirmed))).value
    found = await eventually(lambda: rpc.get_transaction(signature, "json", max_supported_transaction_version=0), bool)
    assert (await rpc.get_block_time(found.slot)).value == found.block_time > 1_600_000_000


async def test_a_transaction_is_taken_and_told_in_base58_and_in_base64(rpc, call, payer):
    for encoding, encode in (("base58", lambda tx: b58encode(bytes(tx))), ("base64", wire)):
        tx = await payment(rpc, payer, Keypair().pubkey())
        config = {"encoding": encoding, "preflightCommitment": "confirmed"}
        assert (await call("sendTransaction", encode(tx), config))["result"] == str(tx.signatures[0])
        assert (await landed(rpc, tx.signatures[0])).err is None
        for told in ("base58", "base64"):
            found = await eventually(
                lambda tx=tx, told=told: rpc.get_transaction(
                    tx.signatures[0], told, max_supported_transaction_version=0
                ),
                bool,
            )
            assert found.transaction.transaction == tx
    default = await call("sendTransaction", wire(await payment(rpc, payer, Keypair().pubkey())))
    assert default["error"]["code"] == -32602, "without a word it is base58"


async def test_account_data_is_told_in_base58_and_in_base64_and_only_short_data_in_base58(call, payer):
    clock = "SysvarC1ock11111111111111111111111111111111"
    for encoding in ("base58", "base64"):
        value = (await call("getAccountInfo", clock, {"encoding": encoding}))["result"]["value"]
        assert value["data"][1] == encoding
        assert value["space"] == 40
    sliced = {"encoding": "base64", "dataSlice": {"offset": 8, "length": 8}}
    value = (await call("getAccountInfo", clock, sliced))["result"]["value"]
    assert len(base64.b64decode(value["data"][0])) == 8
    hashes = "SysvarS1otHashes111111111111111111111111111"
    refused = await call("getAccountInfo", hashes, {"encoding": "base58"})
    assert refused["error"]["code"] in (-32600, -32602)
    assert "128 bytes" in refused["error"]["message"]


async def test_every_commitment_comes_to_tell_of_what_landed(rpc, payer):
    to = Keypair().pubkey()
    tx = await payment(rpc, payer, to)
    await rpc.send_transaction(tx, TxOpts(preflight_commitment=Confirmed))
    for commitment in (Processed, Confirmed, Finalized):
        assert await eventually(lambda c=commitment: rpc.get_balance(to, c), bool) == LAMPORTS
    slots = [(await rpc.get_slot(commitment)).value for commitment in (Finalized, Confirmed, Processed)]
    assert slots[0] <= slots[2] + LAG


async def test_what_landed_is_refused_a_second_time_and_runs_once(rpc, call, payer):
    to = Keypair().pubkey()
    tx = await payment(rpc, payer, to)
    await rpc.send_transaction(tx, TxOpts(preflight_commitment=Confirmed))
    await landed(rpc, tx.signatures[0])
    again = (await call("sendTransaction", wire(tx), {"encoding": "base64", "preflightCommitment": "confirmed"}))[
        "error"
    ]
    assert (again["code"], again["data"]["err"]) == (-32002, "AlreadyProcessed")
    assert await eventually(lambda: rpc.get_balance(to), bool) == LAMPORTS


async def test_a_refusal_by_preflight_has_error_logs_and_units(rpc, call, payer):
    tx = await payment(rpc, payer, Keypair().pubkey(), 10**15)
    error = (await call("sendTransaction", wire(tx), {"encoding": "base64", "preflightCommitment": "confirmed"}))[
        "error"
    ]
    assert error["code"] == -32002
    assert error["data"]["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert any("insufficient lamports" in line for line in error["data"]["logs"])
    assert error["data"]["unitsConsumed"] > 0
    assert (await rpc.get_signature_statuses([tx.signatures[0]])).value == [None]


async def test_what_would_fail_lands_as_failed_without_preflight(rpc, payer):
    tx = await payment(rpc, payer, Keypair().pubkey(), 10**15)
    await rpc.send_transaction(tx, TxOpts(skip_preflight=True))
    assert (await landed(rpc, tx.signatures[0])).err.index == 0
    found = await eventually(
        lambda: rpc.get_transaction(tx.signatures[0], "json", max_supported_transaction_version=0), bool
    )
    assert found.transaction.meta.fee == 5000


async def test_a_blockhash_that_the_cluster_does_not_know_is_refused(call, payer):
    send = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=Keypair().pubkey(), lamports=LAMPORTS))
    message = MessageV0.try_compile(payer.pubkey(), [send], [], Hash.new_unique())
    tx = VersionedTransaction(message, [payer])
    error = (await call("sendTransaction", wire(tx), {"encoding": "base64"}))["error"]
    assert (error["code"], error["data"]["err"]) == (-32002, "BlockhashNotFound")
    assert (await call("getFeeForMessage", base64.b64encode(bytes(message)).decode()))["result"]["value"] is None


@pytest.mark.slow
async def test_a_blockhash_that_has_expired_is_refused(rpc, call, payer):
    tx = await payment(rpc, payer, Keypair().pubkey())
    until = (await rpc.get_latest_blockhash()).value.last_valid_block_height
    # Of a final block: another endpoint may be a little behind, but none takes the blockhash any more.
    await eventually(lambda: rpc.get_block_height(Finalized), lambda height: height > until + 1, seconds=180)
    error = (await call("sendTransaction", wire(tx), {"encoding": "base64", "preflightCommitment": "confirmed"}))[
        "error"
    ]
    assert (error["code"], error["data"]["err"]) == (-32002, "BlockhashNotFound")
    assert (await rpc.get_signature_statuses([tx.signatures[0]])).value == [None]


@pytest.mark.parametrize(
    ("method", "params", "codes"),
    [
        ("getNothing", [], {-32601}),
        ("getBalance", ["nobody"], {-32602}),
        ("getBalance", [], {-32602}),
        ("getBalance", [str(SYSTEM), {"commitment": "soon"}], {-32602}),
        ("getAccountInfo", [str(SYSTEM), {"encoding": "hex"}], {-32602}),
        ("getTransaction", ["none"], {-32602}),
        ("getMultipleAccounts", [[str(SYSTEM)] * 101], {-32602}),
        ("getSignatureStatuses", [["1" * 64] * 257], {-32602}),
        ("sendTransaction", ["AAAA", {"encoding": "base64"}], {-32602}),
        ("isBlockhashValid", ["none"], {-32602}),
        ("getBalance", [str(SYSTEM), {"minContextSlot": 10**12}], {-32016}),
        # Which of them depends on how far the endpoint's own history reaches.
        ("getBlockTime", [10**12], {-32004, -32007, -32009, -32014}),
    ],
)
async def test_errors_have_the_codes_of_solana(call, method, params, codes):
    assert (await call(method, *params))["error"]["code"] in codes


async def test_a_transaction_whose_signature_is_missing_has_a_code_of_its_own(rpc, call, payer):
    tx = await payment(rpc, payer, Keypair().pubkey())
    unsigned = VersionedTransaction.populate(tx.message, [Signature.default()])
    assert (await call("sendTransaction", wire(unsigned), {"encoding": "base64"}))["error"]["code"] == -32003


async def test_what_is_no_call_is_told_so(endpoint, call):
    async with httpx.AsyncClient() as http:
        answer = await http.post(endpoint.url, content=b"{", headers={"content-type": "application/json"})
    assert answer.json()["error"]["code"] == -32700
    assert (await call("getSlot", jsonrpc="1.0"))["error"]["code"] == -32600
