"""The plain HTTP line against a server that answers what the test wants."""

import asyncio

import pytest

from acgs1.kit.pools import PoolMeter
from acgs1.ledger.http import LineError, PlainLine, PooledLine, open_line

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


class Server:
    """Answers each request with the next of `answers`; None closes the connection instead."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.asked = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.line = open_line(f"http://127.0.0.1:{self.port}/rpc?key=1", 5)
        assert isinstance(self.line, PlainLine)
        return self

    async def __aexit__(self, *_):
        await self.line.close()
        self._server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.requests.append(head + body)
                self.asked.set()
                answer = self.answers.pop(0)
                if answer is None:
                    return
                writer.write(OK % (len(body), body) if answer is ... else answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def test_requests_in_turn_share_one_connection():
    async with Server([..., ..., ...]) as server:
        for n in range(3):
            reply = await server.line.post(b"%d" % n)
            assert (reply.status, reply.body) == (200, b"%d" % n)
        assert server.connections == 1
        assert server.requests[0].startswith(b"POST /rpc?key=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port)


async def test_each_of_many_requests_at_once_gets_its_own_answer():
    async with Server([...] * 300) as server:
        bodies = [b"%d" % n for n in range(300)]
        pooled = PooledLine(server.line, 100, 5, PoolMeter("test", "ledger", 100))
        assert [r.body for r in await asyncio.gather(*map(pooled.post, bodies))] == bodies
        assert server.connections <= 100


async def test_chunked_answers_and_headers_are_read():
    answer = b"HTTP/1.1 503 no\r\nX-Slot: 7\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with Server([answer]) as server:
        reply = await server.line.post(b"{}")
        assert (reply.status, reply.body, reply.headers["x-slot"]) == (503, b"abcde", "7")


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b"220 mail here\r\n"])
async def test_an_answer_that_is_none_or_not_whole_is_an_error_and_is_not_asked_again(answer):
    async with Server([answer, None]) as server:
        server.line._timeout = 0.2
        with pytest.raises(LineError):
            await server.line.post(b"{}")
        assert len(server.requests) == 1


async def test_a_connection_that_the_server_ends_is_not_used_again():
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    async with Server([closing, ...]) as server:
        assert (await server.line.post(b"1")).body == b"hi"
        assert (await server.line.post(b"2")).body == b"2"
        assert server.connections == 2


async def test_after_a_cancelled_request_nobody_gets_its_answer():
    async with Server([b"", ...]) as server:  # the first request is never answered
        task = asyncio.create_task(server.line.post(b"first"))
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await server.line.post(b"second")).body == b"second"
        assert server.connections == 2


async def test_nobody_listening_is_an_error_that_says_so():
    with pytest.raises(LineError, match=r"[Cc]onnect"):
        await open_line("http://127.0.0.1:1", 5).post(b"{}")
