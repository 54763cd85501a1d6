"""What a ledger call fails with, told apart by what a caller can do about it."""

from typing import Any

import pytest
from solders.keypair import Keypair

from acgs1.core.clock import ManualClock
from acgs1.kit.breaker import Breakers
from acgs1.ledger import client as client_module
from acgs1.ledger.client import LedgerClient
from acgs1.ledger.errors import (
    AccountMissingError,
    CursorLostError,
    LedgerError,
    LedgerUnavailableError,
    RpcFailureError,
    TransactionUncertainError,
)
from acgs1.ledger.idl import Idl
from acgs1.ledger.jsonrpc import JsonRpc
from acgs1.ledger.program import shipped
from acgs1.ledger.transactions import Sender


class Reply:
    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, body: bytes) -> None:
        self.body = body


class Line:
    """The connection: answers every call alike."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def post(self, _: bytes) -> Reply:
        return Reply(self._body)


async def test_a_refusal_of_the_node_carries_its_number():
    rpc = JsonRpc("http://node")
    rpc._line = Line(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}')  # type: ignore[assignment]
    with pytest.raises(RpcFailureError, match="Method not found") as refusal:
        await rpc.call("noSuchMethod")
    assert (refusal.value.code, refusal.value.rpc_code) == ("ledger_rpc_error", -32601)


async def test_a_program_that_was_never_initialised_has_no_governance_account(monkeypatch: pytest.MonkeyPatch):
    async def nothing(*_: object) -> None:
        return None

    async with LedgerClient("http://node") as client:
        monkeypatch.setattr(client, "_one", nothing)
        with pytest.raises(AccountMissingError, match="not initialised"):
            await client.governance()


def test_a_package_without_the_program_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_module, "shipped", lambda: None)
    with pytest.raises(LedgerError, match="make program") as refusal:
        LedgerClient("http://node")
    assert refusal.value.code == "ledger_error"


async def test_a_transaction_after_which_the_node_falls_silent_may_have_landed_and_is_named():
    class Falling:
        """Takes the transaction, then no longer answers."""

        url = "http://node"
        sent = False

        async def read(self, method: str, *_: object) -> Any:
            if self.sent:
                raise LedgerUnavailableError("nobody there")
            assert method == "getLatestBlockhash"
            return {"value": {"blockhash": "11111111111111111111111111111111", "lastValidBlockHeight": 150}}

        async def send_transaction(self, *_: object) -> None:
            self.sent = True

    program = shipped()
    assert program is not None
    sender = Sender(
        Falling(), program=Keypair().pubkey(), idl=Idl(program.idl), clock=ManualClock(), priority_percentile=None
    )  # type: ignore[arg-type]
    with pytest.raises(TransactionUncertainError) as refusal:
        await sender.send([], [Keypair()])
    assert refusal.value.signature


async def test_a_cursor_that_the_ledger_does_not_know_is_lost(tmp_path: Any):
    from acgs1.services.policy_governance.adapters.ledger import SolanaGovernance
    from acgs1.services.policy_governance.errors import CursorLost

    class Anew:
        async def events_since(self, *_: object) -> None:
            raise CursorLostError("the ledger knows no such transaction")

    breaker = Breakers(ManualClock()).get("policy_governance->ledger")
    ledger = SolanaGovernance(Anew(), tmp_path, None, breaker)  # type: ignore[arg-type]
    with pytest.raises(CursorLost):
        await ledger.events("1:gone")
