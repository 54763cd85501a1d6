"""Calls to other parts: deadlines, retries, breakers, problems that pass through, service tokens."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable

import httpx
import pytest

from acgs1.contracts.common import Message
from acgs1.core.clock import ManualClock, SystemClock
from acgs1.kit.breaker import Breakers, Config, State, WindowType
from acgs1.kit.clients import PartClient, ServiceToken
from acgs1.kit.errors import DependencyUnavailable, UpstreamRejected
from acgs1.ledger.http import HttpxLine, LineError, open_line

Handler = Callable[[httpx.Request], httpx.Response]


class Said(Message):
    word: str


class Body(Message):
    n: int = 1


class Part:
    """The other side: answers in turn, and keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


FINE = httpx.Response(200, json={"word": "yes"})
LOST = httpx.ConnectError("nobody there")


def client(
    handler: object, clock: ManualClock | None = None, config: Config | None = None
) -> tuple[PartClient, Breakers]:
    registry = Breakers(clock or ManualClock())
    breaker = registry.get("a->b", config) if config else registry.get("a->b")
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))  # type: ignore[arg-type]
    return PartClient("a", "b", "http://b", http, breaker, None), registry


async def test_a_call_that_fails_on_the_way_is_made_again_under_the_same_key():
    part = Part(LOST, httpx.Response(503), FINE)
    caller, _ = client(part)
    assert await caller.post("/x", Body(), Said) == Said(word="yes")
    keys = {request.headers["Idempotency-Key"] for request in part.requests}
    assert (len(part.requests), len(keys)) == (3, 1)
    assert len({request.content for request in part.requests}) == 1


def refused(code: str) -> httpx.Response:
    return httpx.Response(409, json={"code": code, "detail": "d"})


@pytest.mark.parametrize("code", ["outcome_unknown", "idempotency_in_progress"])
async def test_a_try_that_was_cut_off_is_a_fault_of_the_part_unless_the_caller_chose_the_key(code: str):
    caller, _ = client(Part(httpx.Response(503), refused(code)))
    with pytest.raises(DependencyUnavailable, match="cut off"):
        await caller.post("/x", Body(), Said)
    caller, _ = client(Part(refused(code)))
    with pytest.raises(UpstreamRejected) as refusal:
        await caller.post("/x", Body(), Said, idempotency_key="k")
    assert refusal.value.upstream_code == code


async def test_what_may_be_done_twice_is_asked_anew_under_a_fresh_key_where_its_answer_was_cut_off():
    part = Part(refused("outcome_unknown"), FINE)
    caller, _ = client(part)
    assert await caller.post("/x", Body(), Said, idempotency_key="k", repeatable=True) == Said(word="yes")
    first, second = (request.headers["Idempotency-Key"] for request in part.requests)
    assert (first, first == second) == ("k", False)


async def test_after_three_tries_the_part_is_called_unavailable():
    part = Part(httpx.Response(500))
    caller, _ = client(part)
    with pytest.raises(DependencyUnavailable, match="`b` is not available: it answered 500"):
        await caller.get("/x", Said)
    assert len(part.requests) == 3


async def test_a_refusal_passes_through_with_its_own_code_and_is_not_repeated():
    problem = {
        "code": "name_taken",
        "detail": "`ada` is in use",
        "errors": [{"detail": "d", "pointer": "/p", "line": 3}],
    }
    part = Part(httpx.Response(409, json=problem))
    caller, registry = client(part)
    with pytest.raises(UpstreamRejected) as refusal:
        await caller.post("/x", Body(), Said)
    assert (refusal.value.status, refusal.value.upstream_code, refusal.value.upstream) == (409, "name_taken", "b")
    assert (refusal.value.items[0].pointer, refusal.value.items[0].line) == ("/p", 3)
    assert len(part.requests) == 1
    (edge,) = registry.snapshot()
    assert edge.total_failures == 0, "an answer of no is not a fault of the part"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'"no"', b'{"detail":"x"}', b'{"code":"c","detail":"d","errors":[1]}']
)
async def test_a_refusal_that_is_no_problem_document_is_still_a_refusal(body: bytes):
    caller, _ = client(Part(httpx.Response(418, content=body)))
    with pytest.raises(UpstreamRejected) as refusal:
        await caller.get("/x", Said)
    assert (refusal.value.status, refusal.value.upstream_code) == (418, "upstream_rejected")


async def test_an_answer_of_another_shape_is_no_answer():
    caller, _ = client(Part(httpx.Response(200, json={"word": "yes", "more": 1})))
    with pytest.raises(DependencyUnavailable, match="not a `Said`"):
        await caller.get("/x", Said)


async def test_no_call_lasts_longer_than_its_deadline():
    reached = asyncio.Event()

    async def never(_: httpx.Request) -> httpx.Response:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    caller, _ = client(never)
    with pytest.raises(DependencyUnavailable, match=r"no answer within 0\.05 s"):
        await caller.get("/x", Said, deadline=0.05)
    assert reached.is_set()


OF_TWO = Config(
    window_type=WindowType.COUNT_BASED, window_size=2, minimum_number_of_calls=2, failure_rate_threshold=0.5,
    permitted_calls_in_half_open=1, max_concurrent_probes=1,
)  # fmt: skip


@pytest.fixture
async def hanging() -> AsyncGenerator[str]:
    """The URL of a server that takes requests and never answers, or only drips."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        try:
            if b"/drips" in head:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.01)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("path", ["/hangs", "/drips"])
async def test_a_part_that_hangs_opens_its_breaker(hanging: str, path: str):
    registry = Breakers()
    async with httpx.AsyncClient(trust_env=False) as http:
        caller = PartClient("a", "b", hanging, http, registry.get("a->b", OF_TWO), None)
        for _ in range(2):
            with pytest.raises(DependencyUnavailable, match=r"no answer within 0\.1 s"):
                await caller.get_json(path, deadline=0.1)
        with pytest.raises(DependencyUnavailable, match="circuit breaker is open"):
            await caller.get_json(path, deadline=0.1)
    (edge,) = registry.snapshot()
    assert (edge.state, edge.total_failures, edge.rejected) == (State.OPEN, 2, 1)


async def test_a_caller_that_stops_waiting_says_nothing_against_the_part(hanging: str):
    registry = Breakers()
    async with httpx.AsyncClient(trust_env=False) as http:
        caller = PartClient("a", "b", hanging, http, registry.get("a->b", OF_TWO), None)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await caller.get_json("/hangs", deadline=60)
    (edge,) = registry.snapshot()
    assert (edge.state, edge.total_calls) == (State.CLOSED, 0)


async def test_auth_that_hangs_opens_the_breaker_of_the_tokens_however_impatient_the_callers(
    hanging: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("acgs1.kit.clients._TOKEN_SECONDS", 0.2)
    registry = Breakers()
    async with httpx.AsyncClient(trust_env=False) as http:
        token = ServiceToken("a", "secret", hanging, http, SystemClock(), registry.get("a->auth.token", OF_TWO))
        caller = PartClient("a", "b", hanging, http, registry.get("a->b"), token)
        while registry.get("a->auth.token").state is State.CLOSED:
            with pytest.raises(DependencyUnavailable):
                await caller.get_json("/x", deadline=0.05)
        with pytest.raises(DependencyUnavailable, match="auth"):
            await caller.get_json("/x")
    tokens = next(edge for edge in registry.snapshot() if edge.name == "a->auth.token")
    part = next(edge for edge in registry.snapshot() if edge.name == "a->b")
    assert (tokens.total_failures, part.total_calls) == (2, 0), "the part was never asked"


async def test_a_ledger_that_drips_fails_by_the_deadline_of_its_line(hanging: str):
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(LineError, match=r"no answer within 0\.1 s"):
            await HttpxLine(http, f"{hanging}/drips", 0.1, owned=False).post(b"{}")
    line = open_line(f"{hanging}/drips", 0.1)
    with pytest.raises(LineError, match=r"no answer within 0\.1 s"):
        await line.post(b"{}")
    await line.close()


async def test_the_breaker_opens_after_failures_keeps_calls_away_and_closes_after_a_good_probe():
    clock = ManualClock()
    part = Part(LOST)
    config = Config(
        window_type=WindowType.COUNT_BASED,
        window_size=4,
        minimum_number_of_calls=4,
        failure_rate_threshold=0.5,
        wait_duration_in_open=5.0,
        permitted_calls_in_half_open=1,
        max_concurrent_probes=1,
    )
    caller, registry = client(part, clock, config)
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            await caller.get("/x", Said)
    asked = len(part.requests)
    assert asked == 4
    with pytest.raises(DependencyUnavailable, match="circuit breaker is open"):
        await caller.get("/x", Said)
    assert len(part.requests) == asked
    part.answers[:] = [FINE]
    clock.advance(5.1)
    assert await caller.get("/x", Said) == Said(word="yes")
    assert registry.snapshot()[0].state is State.CLOSED


# --- service tokens --------------------------------------------------------------------------------------------------


def token_of(part: Part, clock: ManualClock) -> ServiceToken:
    http = httpx.AsyncClient(transport=httpx.MockTransport(part))
    return ServiceToken("integrity", "secret", "http://auth", http, clock, Breakers(clock).get("a->auth"))


def issued(name: str) -> httpx.Response:
    return httpx.Response(200, json={"access_token": name, "token_type": "Bearer", "expires_in": 100})


async def test_one_token_is_fetched_for_many_calls_and_renewed_before_it_ends():
    clock, part = ManualClock(), Part(issued("first"), issued("second"))
    token = token_of(part, clock)
    assert set(await asyncio.gather(*(token() for _ in range(20)))) == {"first"}
    assert len(part.requests) == 1
    basic = base64.b64decode(part.requests[0].headers["Authorization"].removeprefix("Basic ")).decode()
    assert basic == "integrity:secret"
    clock.advance(79)
    assert await token() == "first"
    clock.advance(2)
    assert await token() == "second"


async def test_while_auth_is_away_the_old_token_serves_until_it_ends():
    clock, part = ManualClock(), Part(issued("first"), LOST)
    token = token_of(part, clock)
    await token()
    clock.advance(90)
    assert await token() == "first"
    clock.advance(6)
    with pytest.raises(DependencyUnavailable, match="auth"):
        await token()
