import re
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from acgs1.kit import tracing
from acgs1.kit.db import Database
from acgs1.kit.middleware import Observe
from acgs1.kit.tracing import CLIENT, Recorder, TraceContext, recorder, span, trace_var, traceparent

CALLER = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SAMPLED = TraceContext("a" * 32, "b" * 16, True)
UNSAMPLED = SAMPLED._replace(sampled=False)


@pytest.fixture(autouse=True)
def _empty():
    recorder().drain(10_000)
    yield
    recorder().sample(0)
    recorder().drain(10_000)


@contextmanager
def within(trace: TraceContext):
    token = trace_var.set(trace)
    yield
    trace_var.reset(token)


def test_a_callers_trace_is_continued_and_its_decision_followed():
    seen = Recorder().begin(CALLER)
    assert (seen.trace_id, seen.parent_id, seen.sampled) == (CALLER[3:35].decode(), "00f067aa0ba902b7", True)
    assert Recorder().begin(CALLER[:-1] + b"0").sampled is False


@pytest.mark.parametrize(
    "header", [None, b"", b"nonsense", b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", CALLER + b"\n"]
)
def test_anything_else_begins_a_trace(header):
    seen = Recorder().begin(header)
    assert re.fullmatch("[0-9a-f]{32}", seen.trace_id)
    assert (seen.parent_id, seen.sampled) == ("", False)


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (0.25, 4500, 5500), (1.0, 20_000, 20_000)])
def test_the_share_of_traces_that_is_recorded_is_the_rate(rate, low, high):
    made = Recorder()
    made.sample(rate)
    assert low <= sum(made.begin(None).sampled for _ in range(20_000)) <= high


def test_spans_nest_and_the_header_names_the_innermost():
    with within(SAMPLED):
        with span("outer"), span("inner", CLIENT, {"k": 1}):
            header = traceparent()
        inner, outer = recorder().drain(10)
        assert (outer.parent_id, inner.parent_id) == (SAMPLED.span_id, outer.span_id)
        assert header == f"00-{SAMPLED.trace_id}-{inner.span_id}-01"
        assert (inner.kind, inner.attributes, inner.error) == (CLIENT, {"k": 1}, None)
        assert inner.start >= outer.start
        assert inner.seconds <= outer.seconds


def test_a_trace_that_is_not_sampled_leaves_only_what_failed():
    with within(UNSAMPLED):
        with span("fine"):
            assert traceparent() == f"00-{UNSAMPLED.trace_id}-{UNSAMPLED.span_id}-00"
        with pytest.raises(OSError), span("broken"):
            raise OSError("with personal data")
        (seen,) = recorder().drain(10)
        assert (seen.name, seen.error, seen.parent_id) == ("broken", "OSError", UNSAMPLED.span_id)


def test_outside_of_a_request_nothing_is_recorded():
    with pytest.raises(OSError), span("broken"):
        raise OSError
    assert recorder().drain(10) == []


def test_what_could_not_be_delivered_is_kept_in_order_and_never_more_than_there_is_room_for():
    with within(SAMPLED):
        for number in range(tracing._KEPT + 10):
            with span(str(number)):
                pass
        taken = recorder().drain(5)
        with span("new"):
            pass
        recorder().give_back(taken)
        left = [s.name for s in recorder().drain(10_000)]
        assert (len(left), left[0], left[-1]) == (tracing._KEPT, taken[1].name, "new"), "the oldest one found no room"


async def request(status: int, headers=(), path="/api/v1/x"):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})

    async def send(message):
        pass

    async def fail(scope, receive, send, error):
        raise error

    await Observe(app, "test", fail)(
        {"type": "http", "method": "GET", "path": path, "headers": list(headers)}, None, send
    )
    return recorder().drain(10)


async def test_a_server_error_is_recorded_in_every_trace():
    assert await request(200) == []
    (seen,) = await request(503)
    assert (seen.kind, seen.error, seen.attributes["http.response.status_code"]) == ("server", "503", 503)
    (seen,) = await request(200, [(b"traceparent", CALLER)])
    assert (seen.error, seen.parent_id) == (None, "00f067aa0ba902b7")


async def test_probes_leave_no_trace():
    recorder().sample(1)
    assert len(await request(200)) == 1
    assert await request(200, path="/health/ready") == []


async def test_statements_of_a_sampled_trace_are_spans_without_their_parameters(tmp_path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.sqlite3'}")
    async with database.transaction() as session:
        await session.execute(sa.text("CREATE TABLE t (a TEXT)"))
    assert recorder().drain(10) == []
    with within(SAMPLED):
        async with database.transaction() as session:
            await session.execute(sa.text("INSERT INTO t VALUES (:a)"), {"a": "secret"})
        with pytest.raises(sa.exc.OperationalError):
            async with database.reading() as session:
                await session.execute(sa.text("SELECT * FROM nowhere"))
        await database.close()
        spans = [s for s in recorder().drain(100) if "BEGIN" not in s.name]
        assert [(s.name, s.error) for s in spans] == [("sqlite INSERT", None), ("sqlite SELECT", "OperationalError")]
        assert all(s.parent_id == SAMPLED.span_id for s in spans)
        assert "secret" not in repr(spans)
