"""What the answer to sendTransaction tells the client, and what it asks for where the answer is lost or tells nothing."""

import base64
import json

import httpx
import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from acgs1.ledger.client import LedgerClient
from acgs1.ledger.errors import TransactionFailedError
from acgs1.ledger.landed import LANDED_SLOT


class Line(httpx.AsyncBaseTransport):
    """The way to the node; what passes is counted, and a test may damage it."""

    def __init__(self, node):
        self.methods: list[str] = []
        self.lose_answers = 0
        self.strip = False
        self._node = node.http._transport

    async def handle_async_request(self, request):
        method = json.loads(request.content)["method"]
        self.methods.append(method)
        response = await self._node.handle_async_request(request)
        body = await response.aread()
        if method == "sendTransaction" and self.lose_answers:
            self.lose_answers -= 1
            raise httpx.ReadError("lost", request=request)
        headers = [(k, v) for k, v in response.headers.raw if not (self.strip and k.decode().lower() == LANDED_SLOT)]
        return httpx.Response(response.status_code, headers=headers, content=body)


@pytest.fixture
async def line(node):
    return Line(node)


@pytest.fixture
async def client(line):
    async with httpx.AsyncClient(transport=line) as http:
        yield LedgerClient("http://node/", http=http)


@pytest.fixture
async def payer(node):
    key = Keypair()
    await node.client.airdrop(key.pubkey(), 10**9)
    return key


def payment(payer, to, lamports=10**6):
    return transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=lamports))


async def test_one_call_lands_a_transaction_on_the_embedded_node(client, line, payer, node):
    to = Pubkey.new_unique()
    await client.send([payment(payer, to)], [payer])
    line.methods.clear()
    receipt = await client.send([payment(payer, to)], [payer])
    assert line.methods == ["sendTransaction"]
    assert (await node.client.transaction(receipt.signature)).slot == receipt.slot
    assert await node.client.balance(to) == 2 * 10**6


async def test_equal_intents_over_one_blockhash_are_as_many_transactions(client, payer, node):
    to = Pubkey.new_unique()
    receipts = [await client.send([payment(payer, to)], [payer]) for _ in range(50)]
    assert len({r.signature for r in receipts}) == 50
    assert await node.client.balance(to) == 50 * 10**6


async def test_without_the_header_the_status_is_asked_for(client, line, payer, node):
    line.strip = True
    to = Pubkey.new_unique()
    receipt = await client.send([payment(payer, to)], [payer])
    assert line.methods[-2:] == ["sendTransaction", "getSignatureStatuses"]
    assert (await node.client.transaction(receipt.signature)).slot == receipt.slot


async def test_a_lost_answer_is_looked_up_and_nothing_is_sent_twice(client, line, payer, node):
    line.lose_answers = 1
    to = Pubkey.new_unique()
    receipt = await client.send([payment(payer, to)], [payer])
    assert line.methods.count("sendTransaction") == 1
    assert (await node.client.transaction(receipt.signature)).error is None
    assert await node.client.balance(to) == 10**6


async def test_a_refused_transaction_and_one_that_landed_as_failed_have_no_header(client, payer, node):
    with pytest.raises(TransactionFailedError):
        await client.send([payment(payer, Pubkey.new_unique(), 10**12)], [payer])
    recent = Hash.from_string((await node.rpc("getLatestBlockhash"))["result"]["value"]["blockhash"])
    message = Message.new_with_blockhash([payment(payer, Pubkey.new_unique(), 10**12)], payer.pubkey(), recent)
    wire = base64.b64encode(bytes(VersionedTransaction(message, [payer]))).decode()
    params = [wire, {"encoding": "base64", "skipPreflight": True}]
    body = {"jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": params}
    answer = await node.http.post("http://node/", json=body)
    assert "result" in answer.json()
    assert LANDED_SLOT not in answer.headers


async def test_the_answer_to_a_transaction_comes_after_its_commit(node, payer, monkeypatch):
    """The journal is asked, at the moment of the answer, whether the transaction is on the disk."""
    from acgs1.ledger.node.journal import Journal

    written: list[bytes] = []
    append = Journal.append

    def recording(self, records, snapshot=None):
        append(self, records, snapshot)
        written.extend(r.signature for r in records)

    monkeypatch.setattr(Journal, "append", recording)
    receipt = await node.client.send([payment(payer, Pubkey.new_unique())], [payer])
    from solders.signature import Signature

    assert bytes(Signature.from_string(receipt.signature)) in written
