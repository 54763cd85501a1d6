"""Subscriptions over WebSocket: account, logs, program, signature, slot. https://solana.com/docs/rpc/websocket

A notification goes out after the transaction behind it is durable. A client that does not keep up loses its
connection rather than single notifications, so that it knows.
"""

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from solders.pubkey import Pubkey
from starlette.websockets import WebSocket, WebSocketDisconnect

from acgs1.ledger.base58 import b58encode
from acgs1.ledger.json_values import as_array, as_object
from acgs1.ledger.node.chain import Chain, Landed
from acgs1.ledger.node.encoding import ACCOUNT_ENCODINGS, account_json, parse_pubkey
from acgs1.ledger.node.errors import INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, RpcError, invalid_params
from acgs1.ledger.node.rpc import RPC_VERSION, Config, Params, account_filter, parse_signature

_MAX_QUEUED: Final = 10_000
_MAX_SUBSCRIPTIONS: Final = 1_000
_TRY_AGAIN_LATER: Final = 1013

# What a subscription makes of a landed transaction: the `result` objects of its notifications.
Notify = Callable[[Landed], list[object]]


@dataclass(slots=True)
class Subscription:
    kind: str
    notify: Notify
    once: bool = False


@dataclass(slots=True, eq=False)
class Connection:
    """One client. `outbox` holds what waits to be sent; `lagging` is set when it ran over."""

    subscriptions: dict[int, Subscription] = field(default_factory=dict[int, Subscription])
    outbox: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(_MAX_QUEUED))
    lagging: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, message: object) -> None:
        try:
            self.outbox.put_nowait(json.dumps(message, separators=(",", ":")))
        except asyncio.QueueFull:
            self.lagging.set()


class PubSub:
    """All subscriptions of one node."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._connections: set[Connection] = set()
        self._ids = itertools.count(1)
        self._ticker: asyncio.Task[None] | None = None
        self._makers: dict[str, Callable[[Params], Subscription]] = {
            "accountSubscribe": self._account,
            "logsSubscribe": self._logs,
            "programSubscribe": self._program,
            "rootSubscribe": lambda _: Subscription("root", _never),
            "signatureSubscribe": self._signature,
            "slotSubscribe": lambda _: Subscription("slot", _never),
        }
        chain.on_landed = self.publish

    async def close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()

    async def serve(self, socket: WebSocket) -> None:
        """Talk to one client until it leaves or lags too far behind."""
        await socket.accept()
        connection = Connection()
        self._connections.add(connection)
        sender = asyncio.create_task(self._send_all(socket, connection))
        try:
            while True:
                connection.send(await self._answer(connection, await socket.receive_text()))
        except (WebSocketDisconnect, RuntimeError, KeyError):
            # RuntimeError: the sender closed it; KeyError: a binary frame, which this protocol has not.
            pass
        finally:
            self._connections.discard(connection)
            sender.cancel()

    async def _send_all(self, socket: WebSocket, connection: Connection) -> None:
        while not connection.lagging.is_set():
            await socket.send_text(await connection.outbox.get())
        await socket.close(_TRY_AGAIN_LATER, "too slow: notifications were lost")

    # -- requests ---------------------------------------------------------------------------------------------

    async def _answer(self, connection: Connection, text: str) -> object:
        try:
            request = as_object(json.loads(text))
        except (ValueError, RecursionError):
            return _failure(None, RpcError(PARSE_ERROR, "Parse error"))
        method = None if request is None else request.get("method")
        if request is None or not isinstance(method, str):
            return _failure(None, RpcError(INVALID_REQUEST, "Invalid request"))
        identifier = request.get("id")
        params = as_array(request.get("params") or [])
        if params is None:
            return _failure(identifier, invalid_params("`params` should be an array"))
        try:
            result = self._invoke(connection, method, params)
        except RpcError as error:
            return _failure(identifier, error)
        return {"jsonrpc": "2.0", "result": result, "id": identifier}

    def _invoke(self, connection: Connection, method: str, params: Params) -> object:
        if method.endswith("Unsubscribe") and method.removesuffix("Unsubscribe") + "Subscribe" in self._makers:
            number = params[0] if params else None
            if not isinstance(number, int) or connection.subscriptions.pop(number, None) is None:
                raise invalid_params("Invalid subscription id.")
            return True
        maker = self._makers.get(method)
        if maker is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        if len(connection.subscriptions) >= _MAX_SUBSCRIPTIONS:
            raise invalid_params(f"too many subscriptions; max {_MAX_SUBSCRIPTIONS}")
        subscription = maker(params)
        number = next(self._ids)
        connection.subscriptions[number] = subscription
        if subscription.kind in ("slot", "root") and (self._ticker is None or self._ticker.done()):
            self._ticker = asyncio.create_task(self._tick(), name="ledger-slots")
        if subscription.kind == "signature":
            asyncio.get_running_loop().create_task(self._already_landed(connection, number, params))
        return number

    # -- kinds ------------------------------------------------------------------------------------------------

    def _account(self, params: Params) -> Subscription:
        address = parse_pubkey(params[0] if params else None)
        config = Config(params, 1)
        encoding, data_slice = config.choice("encoding", "binary", ACCOUNT_ENCODINGS), config.data_slice()

        def notify(landed: Landed) -> list[object]:
            return [
                _result(landed, _EMPTY_ACCOUNT if account is None else account_json(account, encoding, data_slice))
                for key, account in landed.accounts
                if key == address
            ]

        return Subscription("account", notify)

    def _program(self, params: Params) -> Subscription:
        program = parse_pubkey(params[0] if params else None)
        config = Config(params, 1)
        encoding, data_slice = config.choice("encoding", "binary", ACCOUNT_ENCODINGS), config.data_slice()
        accepts = account_filter(config.raw("filters"))

        def notify(landed: Landed) -> list[object]:
            return [
                _result(landed, {"pubkey": str(key), "account": account_json(account, encoding, data_slice)})
                for key, account in landed.accounts
                if account is not None and account.owner == program and accepts(account)
            ]

        return Subscription("program", notify)

    def _logs(self, params: Params) -> Subscription:
        which = params[0] if params else None
        address: Pubkey | None = None
        if (filtered := as_object(which)) is not None:
            mentions = as_array(filtered.get("mentions"))
            if mentions is None or len(mentions) != 1:
                raise invalid_params("Invalid Request: Only 1 address supported")
            address = parse_pubkey(mentions[0])
        elif which not in ("all", "allWithVotes"):
            raise invalid_params(f"invalid filter `{which}`, expected `all`, `allWithVotes` or `mentions`")
        Config(params, 1)

        def notify(landed: Landed) -> list[object]:
            if address is not None and address not in landed.keys:
                return []
            value = {"signature": _signature_text(landed.signature), "err": landed.err, "logs": landed.logs}
            return [_result(landed, value)]

        return Subscription("logs", notify)

    def _signature(self, params: Params) -> Subscription:
        signature = parse_signature(params[0] if params else None)
        Config(params, 1)

        def notify(landed: Landed) -> list[object]:
            return [_result(landed, {"err": landed.err})] if landed.signature == signature else []

        return Subscription("signature", notify, once=True)

    async def _already_landed(self, connection: Connection, number: int, params: Params) -> None:
        """A signature that landed before the subscription is told at once, like one that lands later."""
        signature = parse_signature(params[0])
        status = self._chain.status(signature)
        if status is None:
            return
        try:
            await self._chain.settled()
        except RpcError:
            return
        if connection.subscriptions.pop(number, None) is not None:
            slot, err = status
            connection.send(_notification("signature", {"context": _context(slot), "value": {"err": err}}, number))

    # -- notifications ----------------------------------------------------------------------------------------

    def publish(self, landed: Landed) -> None:
        """Tell every subscriber that `landed` concerns."""
        for connection in self._connections:
            done: list[int] = []
            for number, subscription in connection.subscriptions.items():
                results = subscription.notify(landed)
                for result in results:
                    connection.send(_notification(subscription.kind, result, number))
                if results and subscription.once:
                    done.append(number)
            for number in done:
                del connection.subscriptions[number]

    async def _tick(self) -> None:
        """Announce slots for as long as somebody listens."""
        last = self._chain.slot()
        while any(s.kind in ("slot", "root") for c in self._connections for s in c.subscriptions.values()):
            await asyncio.sleep(self._chain.slots.seconds_to_next())
            slot = self._chain.slot()
            if slot == last:
                continue
            last = slot
            news = {"slot": {"parent": slot - 1, "root": slot - 1, "slot": slot}, "root": slot - 1}
            for connection in self._connections:
                for number, subscription in connection.subscriptions.items():
                    if subscription.kind in news:
                        connection.send(_notification(subscription.kind, news[subscription.kind], number))


_EMPTY_ACCOUNT: Final = {
    "data": ["", "base64"],
    "executable": False,
    "lamports": 0,
    "owner": str(Pubkey.default()),
    "rentEpoch": 0,
    "space": 0,
}


def _failure(identifier: object, error: RpcError) -> dict[str, object]:
    return {"jsonrpc": "2.0", "error": error.to_json(), "id": identifier}


def _never(_: Landed) -> list[object]:
    return []


def _context(slot: int) -> dict[str, object]:
    return {"apiVersion": RPC_VERSION, "slot": slot}


def _result(landed: Landed, value: object) -> dict[str, object]:
    return {"context": _context(landed.slot), "value": value}


def _notification(kind: str, result: object, number: int) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": f"{kind}Notification", "params": {"result": result, "subscription": number}}


def _signature_text(signature: bytes) -> str:
    return b58encode(signature)
