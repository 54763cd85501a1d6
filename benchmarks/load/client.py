"""A small HTTP/1.1 client for load: keep-alive connections, one request at a time on each, answers handed to a callback.

It does what a load generator needs and no more: a general client costs about a millisecond of processor time per request, which on the
machine under test would be measured along with the system.
"""

import asyncio
import time
from collections import deque
from typing import Any

import httptools

# Servers close idle connections (uvicorn after 5 s); a request must not race with that.
_REUSABLE_SECONDS = 3.0


def encode(
    method: str,
    path: str,
    *,
    token: str | None = None,
    body: bytes | None = None,
    media_type: str = "application/json",
    authorization: str | None = None,
) -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    elif authorization is not None:
        lines.append(f"Authorization: {authorization}")
    if body is not None:
        lines += [f"Content-Type: {media_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


BROKEN = 0
TOO_LATE = -1
"""What stands for the status where there is no answer: the connection broke, or nobody answered in time."""


class Exchange:
    """One request and its answer. `done` is called exactly once; `sent` is when the bytes were handed to a connection (monotonic), or None
    when they never were. Whoever sends it calls `late` when it has waited long enough."""

    __slots__ = ("connection", "data", "finished", "sent")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sent: float | None = None
        self.finished = False
        self.connection: _Connection | None = None

    def done(self, status: int, body: bytes, failure: str | None) -> None:
        """Hears the status, the body, and why there was no answer (None when there was one)."""
        raise NotImplementedError

    def finish(self, status: int, body: bytes, failure: str | None) -> None:
        if not self.finished:
            self.finished = True
            self.done(status, body, failure)

    def late(self, seconds: float) -> None:
        connection = self.connection
        self.finish(TOO_LATE, b"", f"no answer within {seconds:g} s")
        if connection is not None:
            connection.abort()


class _Connection(asyncio.Protocol):
    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._exchange: Exchange | None = None
        self.idle_since = 0.0

    def send(self, exchange: Exchange, now: float) -> None:
        self._exchange = exchange
        exchange.connection = self
        exchange.sent = now
        self._body.clear()
        self._transport.write(exchange.data)

    def abort(self) -> None:
        self._transport.abort()

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(BROKEN, b"", f"not HTTP: {error}")
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(BROKEN, b"", f"connection lost: {exc or 'closed'}")
        self._pool.lost(self)

    # --- httptools ---

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        reusable = self._parser.should_keep_alive()
        self._end(self._parser.get_status_code(), b"".join(self._body), None)
        if reusable:
            self._pool.free(self)
        else:
            self._transport.close()

    def _end(self, status: int, body: bytes, failure: str | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.connection = None
            exchange.finish(status, body, failure)


class Pool:
    """Connections to one port of this machine, at most `limit`; a request beyond that waits for a free one, and its clock runs."""

    def __init__(self, host: str, port: int, limit: int = 128) -> None:
        self._host, self._port, self._limit = host, port, limit
        self._idle: list[_Connection] = []
        self._waiting: deque[Exchange] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._open = 0
        self._closing = False
        self.most = 0

    def send(self, exchange: Exchange) -> None:
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < _REUSABLE_SECONDS:
                connection.send(exchange, now)
                return
            connection.abort()
        self._waiting.append(exchange)
        self._grow()

    def free(self, connection: _Connection) -> None:
        """`connection` can take the next request."""
        now = time.monotonic()
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.finished:
                connection.send(exchange, now)
                return
        connection.idle_since = now
        self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting and not self._closing:
            self._grow()

    def _grow(self) -> None:
        if self._open < self._limit:
            self._open += 1
            self.most = max(self.most, self._open)
            task = asyncio.get_running_loop().create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), self._host, self._port)
        except OSError as error:
            self._open -= 1
            # Whoever waits longest learns of it; the others get connections of their own or the next free one.
            while self._waiting:
                exchange = self._waiting.popleft()
                if not exchange.finished:
                    exchange.finish(BROKEN, b"", f"cannot connect: {type(error).__name__}")
                    return
            return
        self.free(connection)

    def close(self) -> None:
        self._closing = True
        for connection in list(self._idle):
            connection.abort()
