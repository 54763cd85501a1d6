"""Look-ups of accounts at the same moment go to the node in one request."""

import asyncio
from typing import Any

from solders.keypair import Keypair

from acgs1.ledger.client import LedgerClient
from acgs1.optimizer.batching import KeyedBatcher


class Counting:
    """A node that counts what it is asked; addresses that begin with `1` have no account."""

    def __init__(self, owner: str) -> None:
        self._account = {"owner": owner, "data": ["aGVsbG8=", "base64"]}
        self.asked: list[tuple[str, list[str]]] = []

    async def read(self, method: str, *params: Any) -> Any:
        addresses = [params[0]] if method == "getAccountInfo" else params[0]
        self.asked.append((method, addresses))
        values = [None if address.startswith("1") else self._account for address in addresses]
        return {"value": values[0] if method == "getAccountInfo" else values}


async def test_concurrent_lookups_are_one_request_and_each_gets_its_own_account():
    client = LedgerClient("http://127.0.0.1:1/")
    node = Counting(str(client.program))
    client.rpc = node  # pyright: ignore[reportAttributeAccessIssue]
    addresses = [Keypair().pubkey() for _ in range(20)]
    assert await client.account_data(addresses[0]) == b"hello"
    assert node.asked == [("getAccountInfo", [str(addresses[0])])]

    lookups: KeyedBatcher[str, Any] = KeyedBatcher(client.accounts, name="ledger-reads", max_batch=100)
    client.read_accounts_by(lookups.get)
    node.asked.clear()
    found = await asyncio.gather(*(client.account_data(address) for address in [*addresses, *addresses]))
    expected = [None if str(address).startswith("1") else b"hello" for address in addresses]
    assert found == [*expected, *expected]
    assert node.asked == [("getMultipleAccounts", [str(address) for address in addresses])]
    await lookups.close()
