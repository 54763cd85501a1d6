"""An intent takes effect at most once, also where endpoints behind one address lag behind each other."""

import base64

import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from acgs1.core.clock import ManualClock
from acgs1.ledger import transactions
from acgs1.ledger.errors import (
    RpcFailureError,
    TransactionExpiredError,
    TransactionFailedError,
    TransactionUncertainError,
)
from acgs1.ledger.idl import Idl
from acgs1.ledger.program import shipped
from acgs1.ledger.transactions import Sender

PROGRAM = Pubkey.from_string(shipped().program_id)
IDL = Idl(shipped().idl)
# On a cluster slots are ahead of heights, because some are skipped.
EXPIRED_SLOT, LAST_VALID = 1_180, 250
BLOCKHASH_NOT_FOUND = RpcFailureError("simulation failed", -32002, {"err": "BlockhashNotFound"})


def told(slot: int, reached: str | None = None, err: object = None) -> dict:
    """An answer to getSignatureStatuses, given at `slot`."""
    status = None if reached is None else {"slot": 1_100, "err": err, "confirmationStatus": reached}
    return {"context": {"slot": slot}, "value": [status]}


class Address:
    """One address with many endpoints: the one that is asked for the epoch is past the expiry; statuses are told by
    others, in the order of `statuses`, the last one for ever. Every call takes a second."""

    url = "http://cluster"

    def __init__(self, *statuses: dict | Exception, height: int = LAST_VALID + 1, refuses: Exception | None = None):
        self.clock = ManualClock()
        self.statuses = list(statuses)
        self.height = height
        self.refuses = refuses
        self.sent: list[str] = []
        self.calls: list[tuple[str, object]] = []

    async def read(self, method: str, *params):
        self.clock.advance(1)
        self.calls.append((method, params[-1] if params else None))
        match method:
            case "getLatestBlockhash":
                return {
                    "context": {"slot": 1_000},
                    "value": {"blockhash": str(Hash.new_unique()), "lastValidBlockHeight": LAST_VALID},
                }
            case "getEpochInfo":
                return {"absoluteSlot": EXPIRED_SLOT, "blockHeight": self.height}
            case "getSignatureStatuses":
                answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
                if isinstance(answer, Exception):
                    raise answer
                return answer
        raise AssertionError(method)

    async def send_transaction(self, wire: str, config) -> None:
        self.clock.advance(1)
        if self.refuses is not None:
            raise self.refuses
        self.sent.append(wire)

    @property
    def transactions(self) -> int:
        """Different transactions that were sent."""
        return len({VersionedTransaction.from_bytes(base64.b64decode(w)).signatures[0] for w in self.sent})


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(transactions, "_POLL_FIRST", 0.0)
    monkeypatch.setattr(transactions, "_POLL_MAX", 0.0)


def sender(address: Address) -> Sender:
    return Sender(address, program=PROGRAM, idl=IDL, clock=address.clock)


async def send(address: Address):
    key = Keypair()
    pay = transfer(TransferParams(from_pubkey=key.pubkey(), to_pubkey=Pubkey.new_unique(), lamports=5))
    return await sender(address).send([pay], [key])


async def test_an_endpoint_that_lags_behind_the_expiry_cannot_say_that_it_never_landed():
    address = Address(told(EXPIRED_SLOT - 1))
    with pytest.raises(TransactionUncertainError) as uncertain:
        await send(address)
    assert address.transactions == 1
    assert address.clock.monotonic() < 200, "it gives up in a time that it knows"
    assert uncertain.value.signature


async def test_what_a_lagging_endpoint_does_not_know_another_one_does():
    address = Address(*[told(EXPIRED_SLOT - 50)] * 5, told(EXPIRED_SLOT + 3, "confirmed"))
    assert (await send(address)).slot == 1_100
    assert address.transactions == 1


async def test_an_answer_from_behind_the_expiry_is_believed_and_the_intent_signed_anew():
    address = Address(told(EXPIRED_SLOT - 1), told(EXPIRED_SLOT - 1), told(EXPIRED_SLOT), told(1_300, "confirmed"))
    await send(address)
    assert address.transactions == 2
    assert ("getEpochInfo", {"commitment": "finalized"}) in address.calls, "no fork takes a final block back"


async def test_an_absence_that_was_told_before_the_expiry_was_known_does_not_count():
    address = Address(told(EXPIRED_SLOT), told(EXPIRED_SLOT + 1, "finalized"))
    await send(address)
    assert address.transactions == 1


async def test_a_signature_that_is_known_though_not_confirmed_yet_is_waited_for():
    address = Address(*[told(EXPIRED_SLOT + n, "processed") for n in range(40)], told(EXPIRED_SLOT + 40, "confirmed"))
    await send(address)
    assert address.transactions == 1


async def test_a_signature_that_was_seen_and_is_gone_is_uncertain():
    address = Address(told(1_100, "processed"), told(EXPIRED_SLOT + 10))
    with pytest.raises(TransactionUncertainError):
        await send(address)
    assert address.transactions == 1


async def test_a_failure_that_is_not_confirmed_is_not_told_yet():
    failed = {"InstructionError": [1, {"Custom": 1}]}
    with pytest.raises(TransactionFailedError):
        await send(Address(told(1_100, "confirmed", failed)))
    await send(Address(told(1_100, "processed", failed), told(1_101, "confirmed")))


async def test_an_endpoint_that_refuses_to_tell_leaves_it_uncertain():
    unknown = RpcFailureError("Transaction history is not available from this node", -32011)
    address = Address(told(1_100), unknown)
    with pytest.raises(TransactionUncertainError, match="history"):
        await send(address)
    assert address.transactions == 1


async def test_a_blockhash_that_an_endpoint_does_not_know_yet_is_signed_anew_only_where_nobody_else_has_the_transaction():
    address = Address(told(1_100), refuses=BLOCKHASH_NOT_FOUND)
    with pytest.raises(TransactionExpiredError):
        await send(address)  # nobody took any of the three
    assert address.sent == []

    key = Keypair()
    pay = transfer(TransferParams(from_pubkey=key.pubkey(), to_pubkey=Pubkey.new_unique(), lamports=5))
    handed_in = bytes(VersionedTransaction(Message.new_with_blockhash([pay], key.pubkey(), Hash.new_unique()), [key]))
    address = Address(told(1_100), told(1_120, "confirmed"), height=LAST_VALID - 100, refuses=BLOCKHASH_NOT_FOUND)
    assert (await sender(address).submit(handed_in, LAST_VALID)).slot == 1_100
    address = Address(told(EXPIRED_SLOT - 1), refuses=BLOCKHASH_NOT_FOUND)
    with pytest.raises(TransactionUncertainError):
        await sender(address).submit(handed_in, LAST_VALID)
    address = Address(told(EXPIRED_SLOT), refuses=BLOCKHASH_NOT_FOUND)
    with pytest.raises(TransactionExpiredError, match="build it anew"):
        await sender(address).submit(handed_in, LAST_VALID)
