"""How a request gets to an endpoint and its answer back: over plain kept-alive connections, or through httpx.

A vote is one POST of 700 bytes to a node on the same machine. httpx spends several times more processor time on that than
the node does on the vote (it is measured by benchmarks/ledger_node), so plain `http` is spoken here, with httptools reading
the answers. TLS, proxies and passwords in URLs are httpx's.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httptools

if TYPE_CHECKING:
    import httpx

    from acgs1.kit.pools import PoolMeter

# Of a line whose requests nobody counts (see PooledLine).
_MAX_CONNECTIONS: Final = 1000
# Below the 5 s after which servers commonly (uvicorn among them) close an idle connection.
_IDLE_SECONDS: Final = 3.0


class LineError(Exception):
    """No answer came, or none that is HTTP. Whether the request arrived is not known."""


@dataclass(slots=True)
class Reply:
    """An HTTP answer; names of `headers` in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Line(Protocol):
    """A way to one URL."""

    async def post(self, body: bytes) -> Reply:
        """POST JSON, once. Raises LineError."""
        ...

    async def close(self) -> None: ...


def open_line(url: str, timeout: float) -> Line:
    """The way to `url`; `timeout` in seconds for each request. Nothing is connected yet."""
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme == "http" and host and parts.username is None and not _behind_proxy(host):
        return PlainLine(host, parts.port or 80, parts.netloc, parts.path or "/", parts.query, timeout)
    import httpx

    return HttpxLine(httpx.AsyncClient(timeout=timeout), url, timeout, owned=True)


def _behind_proxy(host: str) -> bool:
    proxies = getproxies()
    return ("http" in proxies or "all" in proxies) and not proxy_bypass(host)


class HttpxLine:
    """Through an httpx client, which is closed with the line where it is `owned`."""

    def __init__(self, http: "httpx.AsyncClient", url: str, timeout: float, *, owned: bool) -> None:
        self._http = http
        self._url = url
        self._timeout = timeout
        self._owned = owned

    async def post(self, body: bytes) -> Reply:
        import httpx

        try:
            # httpx's own timeouts are for each read and write: an answer that drips in would outlast them all.
            async with asyncio.timeout(self._timeout):
                response = await self._http.post(self._url, content=body, headers={"content-type": "application/json"})
        except TimeoutError:
            raise LineError(f"no answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise LineError(str(error) or type(error).__name__) from error
        return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)

    async def close(self) -> None:
        if self._owned:
            await self._http.aclose()


class PooledLine:
    """At most `size` requests at once over `line`; how long each waits for its place is measured. Raises LineError for one that has
    had none after `timeout` seconds."""

    def __init__(self, line: Line, size: int, timeout: float, meter: "PoolMeter") -> None:
        self._line = line
        self._size = size
        self._timeout = timeout
        self._meter = meter
        self._slots = asyncio.Semaphore(size)

    async def post(self, body: bytes) -> Reply:
        try:
            await self._meter.acquire(self._slots, self._timeout)
        except TimeoutError:
            raise LineError(
                f"{self._size} requests are on their way, and none came back within {self._timeout:g} s"
            ) from None
        try:
            return await self._line.post(body)
        finally:
            self._meter.release(self._slots)

    async def close(self) -> None:
        await self._line.close()
        self._meter.close()


class PlainLine:
    """HTTP/1.1 (RFC 9112) over TCP, one request at a time on each of its connections, which are kept and used again.

    INVARIANT: a connection goes back to the idle ones only after a whole answer that allows it, so an answer is
    never taken for another request's.
    """

    def __init__(self, host: str, port: int, authority: str, path: str, query: str, timeout: float) -> None:
        target = f"{path}?{query}" if query else path
        self._address = (host, port)
        self._head = (
            f"POST {target} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\nContent-Length: "
        ).encode()
        self._timeout = timeout
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(_MAX_CONNECTIONS)

    async def post(self, body: bytes) -> Reply:
        try:
            async with asyncio.timeout(self._timeout), self._free:
                connection = await self._connection()
                try:
                    reply = await connection.exchange(self._head + b"%d\r\n\r\n" % len(body) + body)
                except BaseException:
                    connection.close()
                    raise
        except TimeoutError:
            raise LineError(f"no answer within {self._timeout:g} s") from None
        except OSError as error:
            raise LineError(error.strerror or str(error) or type(error).__name__) from error
        if connection.usable:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    async def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and time.monotonic() - connection.used_at < _IDLE_SECONDS:
                return connection
            connection.close()
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, *self._address)
        return connection


@dataclass(slots=True)
class _Partial:
    """The answer that is being read."""

    done: asyncio.Future[Reply]
    parser: httptools.HttpResponseParser
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)


class _Connection(asyncio.Protocol):
    """One TCP connection; the `on_` methods are httptools' callbacks."""

    def __init__(self) -> None:
        self.usable = True
        self.used_at = 0.0
        self._transport: asyncio.Transport | None = None
        self._partial: _Partial | None = None

    async def exchange(self, request: bytes) -> Reply:
        if self._transport is None:
            raise ConnectionError("not connected")
        self._partial = _Partial(asyncio.get_running_loop().create_future(), httptools.HttpResponseParser(self))
        self._transport.write(request)
        try:
            return await self._partial.done
        finally:
            self._partial = None
            self.used_at = time.monotonic()

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports keep the protocol of asyncio.Transport without being one.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._partial is None or self._partial.done.done():
            self.close()  # bytes that nobody asked for
            return
        try:
            self._partial.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not an HTTP answer: {error}")

    def eof_received(self) -> None:
        self._fail("the connection was closed before the answer was whole")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection was lost" if exc is None else str(exc))

    def _fail(self, reason: str) -> None:
        self.close()
        if self._partial is not None and not self._partial.done.done():
            self._partial.done.set_exception(ConnectionError(reason))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._partial is not None:
            self._partial.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        if self._partial is not None:
            self._partial.body += body

    def on_message_complete(self) -> None:
        partial = self._partial
        if partial is None or partial.done.done():
            self.close()
            return
        self.usable = self.usable and partial.parser.should_keep_alive()
        partial.done.set_result(Reply(partial.parser.get_status_code(), partial.headers, bytes(partial.body)))
