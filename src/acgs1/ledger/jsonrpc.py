"""Solana JSON-RPC over HTTP: one call, one answer.

Not solana-py: the whole of what we need is a POST (`acgs1.ledger.http`), and solana-py 0.41 brings
thirteen more packages (a second HTTP stack among them). The conformance tests do drive the node with solana-py.
"""

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from acgs1.kit.tracing import CLIENT, span
from acgs1.ledger.errors import LedgerUnavailableError, RpcFailureError
from acgs1.ledger.http import HttpxLine, Line, LineError, PooledLine, open_line
from acgs1.ledger.json_values import as_object
from acgs1.ledger.landed import LANDED_SLOT

if TYPE_CHECKING:
    import httpx

    from acgs1.kit.pools import PoolMeter

_READ_ATTEMPTS: Final = 3
_NODE_UNHEALTHY: Final = -32005


class JsonRpc:
    """A connection to one endpoint. Close it, or use it as an async context manager."""

    def __init__(self, url: str, *, timeout: float = 10.0, http: "httpx.AsyncClient | None" = None) -> None:
        """`timeout` in seconds for each request. A given `http` client is used and not closed."""
        self.url = url
        self._timeout = timeout
        self._line: Line = open_line(url, timeout) if http is None else HttpxLine(http, url, timeout, owned=False)
        self._ids = itertools.count(1)

    async def __aenter__(self) -> "JsonRpc":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def pool(self, size: int, meter: "PoolMeter") -> None:
        """Have at most `size` requests on their way at once, and measure how long others wait. Before the first call."""
        self._line = PooledLine(self._line, size, self._timeout, meter)

    async def close(self) -> None:
        await self._line.close()

    async def read(self, method: str, *params: object) -> Any:
        """The result of a method without effects, tried three times over a failing connection.

        Raises LedgerUnavailableError or RpcFailureError.
        """
        for attempt in range(1, _READ_ATTEMPTS + 1):
            try:
                return await self.call(method, *params)
            except LedgerUnavailableError:
                if attempt == _READ_ATTEMPTS:
                    raise
                await asyncio.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    async def call(self, method: str, *params: object) -> Any:
        """The result of `method`, tried once. Raises LedgerUnavailableError or RpcFailureError."""
        return (await self._exchange(method, params))[0]

    async def send_transaction(self, wire: str, config: Mapping[str, object]) -> int | None:
        """Hand over a signed transaction (base64). Returns the slot where the endpoint says that it has landed there
        and succeeded for good (`LANDED_SLOT`); None where that has to be asked for. Raises as `call` does.
        """
        _, headers = await self._exchange("sendTransaction", (wire, config))
        slot = headers.get(LANDED_SLOT, "")
        return int(slot) if slot.isascii() and slot.isdecimal() else None

    async def _exchange(self, method: str, params: Sequence[object]) -> tuple[Any, Mapping[str, str]]:
        with span(f"ledger {method}", CLIENT, {"rpc.system": "jsonrpc", "rpc.method": method}):
            return await self._answer(method, params)

    async def _answer(self, method: str, params: Sequence[object]) -> tuple[Any, Mapping[str, str]]:
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        try:
            reply = await self._line.post(json.dumps(body, separators=(",", ":")).encode())
        except LineError as error:
            raise LedgerUnavailableError(f"`{method}` at `{self.url}`: {error}") from error
        if reply.status == 429 or reply.status >= 500:
            raise LedgerUnavailableError(f"`{method}` at `{self.url}`: HTTP {reply.status}")
        try:
            answer = as_object(json.loads(reply.body))
        except ValueError:
            raise LedgerUnavailableError(
                f"`{method}` at `{self.url}`: HTTP {reply.status} without a JSON body"
            ) from None
        if answer is None or ("error" not in answer and "result" not in answer):
            raise LedgerUnavailableError(f"`{method}` at `{self.url}`: not a JSON-RPC answer")
        if "error" in answer:
            error = as_object(answer["error"]) or {}
            code = error.get("code")
            if code == _NODE_UNHEALTHY:
                raise LedgerUnavailableError(f"`{method}` at `{self.url}`: {error.get('message')}")
            rpc_code = code if isinstance(code, int) else 0
            raise RpcFailureError(f"`{method}`: {error.get('message')}", rpc_code, error.get("data"))
        return answer["result"], reply.headers
