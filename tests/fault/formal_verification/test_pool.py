"""What a solver that hangs, dies or eats memory costs: one `unknown` and one worker, never the service."""

import asyncio
import os
import signal
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from acgs1.core.clock import SystemClock
from acgs1.services.formal_verification.adapters.pool import PoolLimits, ProverPool
from acgs1.services.formal_verification.domain import Job
from acgs1.services.formal_verification.errors import InvalidPolicies, ProverUnavailable

# A worker that speaks the protocol and misbehaves on the items named in its job.
BAD_WORKER = """
import os, sys, resource, time
from acgs1.services.formal_verification.adapters.worker import read_frame, write_frame
memory = int(sys.argv[1].partition("=")[2]) * 1024 * 1024
resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
into, out = sys.stdin.buffer, sys.stdout.buffer
jobs = {}
while (message := read_frame(into)) is not None:
    if message["op"] == "open":
        faults = jobs[message["job"]] = message["input"]["faults"]
        if faults == "open":
            os._exit(7)
        items = [{"key": "", "unknown": {"id": str(i), "reason": "not attempted"}} for i in range(len(faults))]
        write_frame(out, {"plan": {"items": items, "facts": {}}})
        continue
    for index in message["items"]:
        write_frame(out, {"begin": index})
        match jobs[message["job"]][index]:
            case "hang":
                while True:
                    time.sleep(1)
            case "die":
                os.kill(os.getpid(), 11)
            case "eat":
                eaten = []
                while True:
                    eaten.append(bytearray(16 * 1024 * 1024))
        write_frame(out, {"done": index, "result": {"id": str(index), "reason": None, "pid": os.getpid()}})
    write_frame(out, {"end": True, "memory_mb": 10})
"""


def limits(**changes: Any) -> PoolLimits:
    return PoolLimits(**{"memory_mb": 512, "item_seconds": 3.0, "open_seconds": 20.0, **changes})


@pytest.fixture
async def bad_pool():
    pool = ProverPool(limits(), SystemClock(), (sys.executable, "-c", BAD_WORKER))
    yield pool
    await pool.close()


async def results(pool: ProverPool, job: Job, deadline: float = 60.0) -> dict[int, dict[str, Any]]:
    plan = await pool.plan(job)
    async with aclosing(pool.run(job, plan, [i.index for i in plan.items], deadline)) as answers:
        return {index: result async for index, result in answers}


@pytest.mark.parametrize(
    ("fault", "says"), [("hang", "did not answer within 3 s"), ("die", "signal 11"), ("eat", "memory limit")]
)
async def test_a_faulty_item_costs_its_own_verdict_and_no_other(bad_pool: ProverPool, fault: str, says: str):
    found = await results(bad_pool, Job("j", "verify", {"faults": ["", "", fault, "", ""]}))
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert [i for i in found if found[i]["reason"] is not None] == [2]
    assert says in found[2]["reason"]
    assert bad_pool.restarts == 1
    # What came after was done by another process.
    assert found[1]["pid"] != found[3]["pid"]


async def test_slow_items_do_not_hold_up_what_another_worker_could_take():
    pool = ProverPool(limits(workers=2), SystemClock(), (sys.executable, "-c", BAD_WORKER))
    job = Job("j", "verify", {"faults": ["hang"] + [""] * 9})
    plan = await pool.plan(job)
    order: list[int] = []
    async with aclosing(pool.run(job, plan, range(10), 60.0)) as answers:
        async for index, _ in answers:
            order.append(index)
    await pool.close()
    assert sorted(order) == list(range(10))
    assert order.index(9) < order.index(0), "a second worker came while the first one hung"


async def test_a_job_whose_every_item_kills_comes_to_an_end(bad_pool: ProverPool):
    found = await results(bad_pool, Job("j", "verify", {"faults": ["die"] * 4}))
    assert all("signal 11" in found[i]["reason"] for i in range(4))
    assert bad_pool.restarts == 4


async def test_a_job_that_kills_while_it_is_opened_is_refused_and_the_next_one_is_served(bad_pool: ProverPool):
    with pytest.raises(ProverUnavailable, match="status 7"):
        await bad_pool.plan(Job("j", "verify", {"faults": "open"}))
    assert len(await results(bad_pool, Job("k", "verify", {"faults": ["", ""]}))) == 2


async def test_when_the_deadline_of_a_job_passes_the_rest_is_unknown(bad_pool: ProverPool):
    found = await results(bad_pool, Job("j", "verify", {"faults": ["", "hang", "", ""]}), deadline=1.0)
    assert found[0]["reason"] is None
    assert "did not answer" in found[1]["reason"]
    assert "the deadline of 1 s passed" in found[2]["reason"]
    assert "the deadline of 1 s passed" in found[3]["reason"]


async def test_closing_the_results_stops_the_worker_in_the_middle_of_an_item(bad_pool: ProverPool):
    job = Job("j", "verify", {"faults": ["", "hang"]})
    plan = await bad_pool.plan(job)
    async with aclosing(bad_pool.run(job, plan, [0, 1], 60.0)) as answers:
        async for _, result in answers:
            pid = result["pid"]
            break
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_jobs_beyond_the_queue_are_refused_rather_than_piled_up():
    pool = ProverPool(limits(waiting=1, item_seconds=20.0), SystemClock(), (sys.executable, "-c", BAD_WORKER))
    job = Job("j", "verify", {"faults": ["hang"]})
    plan = await pool.plan(job)
    holding = asyncio.create_task(anext(pool.run(job, plan, [0], 60.0)))
    waiting = asyncio.create_task(pool.plan(Job("k", "verify", {"faults": [""]})))
    # Both tasks run until they wait: the first for its item, the second for a worker.
    while pool.waiting < 1:  # noqa: ASYNC110 - the pool promises no event for this, only the number
        await asyncio.sleep(0)
    with pytest.raises(ProverUnavailable, match="waiting already"):
        await pool.plan(Job("l", "verify", {"faults": [""]}))
    for task in (holding, waiting):
        task.cancel()
    await asyncio.gather(holding, waiting, return_exceptions=True)
    await pool.close()


SCHEMA = "entity A; entity B { n: Long }; action x appliesTo { principal: [A], resource: [B], context: { m: Long } };"


def real_job(policies: str, name: str = "real") -> Job:
    invariants = [{"kind": "never", "when": "resource.n < 0"}]
    principle = {"id": "p", "title": "p", "text": "p", "category": "c", "priority": 1, "invariants": invariants}
    constitution = {"name": "c", "schema_text": SCHEMA, "principles": [principle]}
    return Job(name, "verify", {"policies": policies, "constitution": constitution})


async def test_a_real_worker_that_is_killed_between_jobs_is_replaced():
    pool = ProverPool(limits(), SystemClock())
    try:
        job = real_job("permit(principal, action, resource) when { resource.n >= 0 };")
        first = await results(pool, job)
        assert {r["verdict"] for r in first.values()} == {"proved"}
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        again = await results(pool, real_job("permit(principal, action, resource) when { resource.n > 0 };", "next"))
        assert {r["verdict"] for r in again.values()} == {"proved"}
        assert pool.pids != [pid]
    finally:
        await pool.close()


async def test_a_real_worker_that_stops_answering_costs_one_verdict():
    pool = ProverPool(limits(item_seconds=2.0), SystemClock())
    try:
        job = real_job("permit(principal, action, resource) when { resource.n >= 0 };")
        plan = await pool.plan(job)
        os.kill(pool.pids[0], signal.SIGSTOP)
        found = {index: result async for index, result in pool.run(job, plan, [0, 1, 2], 60.0)}
        assert sorted(found) == [0, 1, 2]
        assert [found[i]["verdict"] for i in (0, 1, 2)] == ["unknown", "proved", "proved"]
        assert "was stopped" in found[0]["reason"]
    finally:
        await pool.close()


async def test_what_a_real_worker_refuses_arrives_as_the_error_with_its_positions():
    pool = ProverPool(limits(), SystemClock())
    try:
        with pytest.raises(InvalidPolicies) as refused:
            await pool.plan(real_job("permit(principal, action, resource) when { resource.q > 0 };"))
        assert [(item.line, item.pointer) for item in refused.value.items] == [(1, "/policies")]
    finally:
        await pool.close()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
async def test_a_worker_is_confined_and_knows_none_of_its_parents_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACGS_DATABASE_URL", "postgresql+asyncpg://user:secret@db/x")
    pool = ProverPool(limits(), SystemClock())
    try:
        await pool.plan(real_job("permit(principal, action, resource);"))
        process = Path("/proc") / str(pool.pids[0])
        assert b"secret" not in (process / "environ").read_bytes()
        assert "Max data size             536870912" in (process / "limits").read_text()
    finally:
        await pool.close()
