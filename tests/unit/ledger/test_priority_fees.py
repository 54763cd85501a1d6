"""Priority fees, against an endpoint that answers like a public cluster."""

import base64

import pytest
from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from acgs1.ledger.errors import LedgerUnavailableError, RpcFailureError, TransactionExpiredError
from acgs1.ledger.idl import Idl
from acgs1.ledger.program import shipped
from acgs1.ledger.transactions import PRIORITY_CAP, Sender, percentile

PROGRAM = Pubkey.from_string(shipped().program_id)
IDL = Idl(shipped().idl)


class Cluster:
    """Answers as Agave does: up to 150 slots, one entry each, zero where nobody paid."""

    url = "http://cluster"

    def __init__(self, fees: list[int] | Exception, *, lands: bool = True) -> None:
        self.fees = fees
        self.lands = lands
        self.asked: list[list[str]] = []
        self.sent: list[VersionedTransaction] = []
        self.height = 0

    async def read(self, method: str, *params):
        match method:
            case "getRecentPrioritizationFees":
                self.asked.append(params[0])
                if len(params[0]) > 128:
                    raise RpcFailureError("Too many inputs provided; max 128", -32602)
                if isinstance(self.fees, Exception):
                    raise self.fees
                return [{"slot": 348125 + n, "prioritizationFee": fee} for n, fee in enumerate(self.fees)]
            case "getLatestBlockhash":
                return {"value": {"blockhash": str(Hash.new_unique()), "lastValidBlockHeight": self.height + 150}}
            case "getEpochInfo":
                self.height += 151
                return {"absoluteSlot": self.height, "blockHeight": self.height}
            case "getSignatureStatuses":
                landed = {"slot": 5, "err": None, "confirmationStatus": "confirmed"} if self.lands else None
                return {"context": {"slot": self.height}, "value": [landed]}
        raise AssertionError(method)

    async def send_transaction(self, wire: str, config) -> None:
        self.sent.append(VersionedTransaction.from_bytes(base64.b64decode(wire)))


def budget(tx: VersionedTransaction) -> tuple[int, int | None]:
    """(unit limit, price in micro-lamports or None)."""
    limit = price = None
    for instruction in tx.message.instructions:
        if tx.message.account_keys[instruction.program_id_index] == COMPUTE_BUDGET:
            data = bytes(instruction.data)
            if data[0] == 2:
                limit = int.from_bytes(data[1:5], "little")
            if data[0] == 3:
                price = int.from_bytes(data[1:9], "little")
    assert limit is not None
    return limit, price


async def offered(cluster: Cluster, percent: int | None = 75, accounts: int = 2, **options) -> list[int | None]:
    key = Keypair()
    metas = [AccountMeta(Pubkey.new_unique(), False, n % 2 == 0 or accounts > 2) for n in range(accounts)]
    sender = Sender(cluster, program=PROGRAM, idl=IDL, priority_percentile=percent, **options)
    await sender.send([Instruction(PROGRAM, b"x" * 8, metas)], [key])
    return [budget(tx)[1] for tx in cluster.sent]


def near(price: int | None, wanted: int) -> bool:
    """Equal but for what tells equal transactions apart, below 128 micro-lamports."""
    return price is not None and wanted <= price < wanted + 128


async def test_the_percentile_of_what_was_paid_for_the_same_accounts_is_offered():
    fees = [0] * 100 + [1_000 * n for n in range(1, 51)]
    cluster = Cluster(fees)
    (price,) = await offered(cluster, 90)
    assert near(price, sorted(fees)[134])
    assert len(cluster.asked) == 1
    assert len(cluster.asked[0]) == 1  # what is only read is not competed for


async def test_a_spike_is_not_followed_beyond_the_cap():
    assert near((await offered(Cluster([10**12] * 150)))[0], PRIORITY_CAP)
    assert near((await offered(Cluster([10**12] * 150), priority_cap=5_000))[0], 5_000)
    with pytest.raises(ValueError, match="at least 0"):
        Sender(Cluster([]), program=PROGRAM, idl=IDL, priority_cap=-1)
    with pytest.raises(ValueError, match="0 to 100"):
        Sender(Cluster([]), program=PROGRAM, idl=IDL, priority_percentile=101)


@pytest.mark.parametrize("fees", [[], [0] * 150, RpcFailureError("Method not found", -32601)])
async def test_where_nobody_pays_or_nothing_is_known_nothing_is_offered(fees):
    assert await offered(Cluster(fees)) == [None]


async def test_without_a_percentile_nobody_is_asked():
    cluster = Cluster([7] * 150)
    assert await offered(cluster, None) == [None]
    assert cluster.asked == []


async def test_an_endpoint_that_does_not_answer_is_unavailable():
    with pytest.raises(LedgerUnavailableError):
        await offered(Cluster(LedgerUnavailableError("down")))


async def test_no_more_accounts_are_asked_about_than_a_cluster_takes():
    cluster = Cluster([9])
    await offered(cluster, accounts=200)
    assert [len(accounts) for accounts in cluster.asked] == [128]


async def test_what_did_not_land_is_offered_anew_with_what_is_paid_by_then():
    cluster = Cluster([1_000] * 150, lands=False)
    read = cluster.read

    async def rising(method, *params):
        if method == "getRecentPrioritizationFees":
            cluster.fees = [fee * 2 for fee in cluster.fees]
        return await read(method, *params)

    cluster.read = rising
    with pytest.raises(TransactionExpiredError):
        await offered(cluster)
    prices = [budget(tx)[1] for tx in cluster.sent]
    assert len(prices) == 3
    assert all(near(price, wanted) for price, wanted in zip(prices, (2_000, 4_000, 8_000), strict=True))


async def test_what_tells_transactions_apart_costs_next_to_nothing():
    cluster = Cluster([1_000] * 150)
    key, sender = Keypair(), Sender(cluster, program=PROGRAM, idl=IDL, priority_percentile=50)
    for _ in range(300):
        await sender.send([Instruction(PROGRAM, b"x" * 8, [])], [key])
    budgets = [budget(tx) for tx in cluster.sent]
    assert len(set(budgets)) == 300
    assert all(60_000 <= limit < 61_024 and near(price, 1_000) for limit, price in budgets)


def test_a_percentile_is_the_nearest_rank():
    assert [percentile([30, 10, 20], p) for p in (0, 1, 33, 34, 67, 100)] == [10, 10, 10, 20, 30, 30]
    assert percentile([], 50) == 0
