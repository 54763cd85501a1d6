"""Several workers of the decision point on one data directory: each has a spool, and no decision is left in one that nobody has."""

import asyncio
from pathlib import Path

import pytest

from acgs1.services.policy_governance.adapters import workers
from acgs1.services.policy_governance.adapters.workers import SpoolTaken, WorkerSpool
from acgs1.services.policy_governance.domain import Recorded
from governance import decision
from polling import eventually_async


async def test_a_worker_finds_a_decision_that_another_one_has_not_delivered_yet(tmp_path: Path):
    first, second = WorkerSpool(tmp_path, 0), WorkerSpool(tmp_path, 1)
    kept = decision(1)
    await second.append(kept)
    assert first.pending(kept.record.id) == kept
    assert first.pending(decision(2).record.id) is None
    await first.close()
    await second.close()


async def test_two_processes_never_write_one_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "_CLAIM_SECONDS", 0.0)
    first = WorkerSpool(tmp_path, 3)
    with pytest.raises(SpoolTaken, match="ACGS_WORKER"):
        WorkerSpool(tmp_path, 3)
    await first.close()
    await WorkerSpool(tmp_path, 3).close()


async def test_what_a_worker_that_is_gone_has_left_is_delivered_by_another(tmp_path: Path):
    gone, delivered = WorkerSpool(tmp_path, 1), list[Recorded]()
    kept = [decision(n) for n in range(3)]
    for one in kept:
        await gone.append(one)
    await gone.close()
    here = WorkerSpool(tmp_path, 0)

    async def deliver(decisions: list[Recorded]) -> None:
        delivered.extend(decisions)

    task = asyncio.create_task(here.adopt(deliver))
    await eventually_async(lambda: _when(len(delivered) == 3), "they are delivered")
    await eventually_async(lambda: _when(not list((tmp_path / "decisions-1").glob("*.log"))), "the segments are gone")
    task.cancel()
    assert delivered == kept
    await here.close()


async def test_the_spool_of_a_worker_that_lives_is_left_alone(tmp_path: Path):
    lives, here = WorkerSpool(tmp_path, 1), WorkerSpool(tmp_path, 0)
    kept = decision(1)
    await lives.append(kept)
    passes = 0

    async def deliver(_: list[Recorded]) -> None:
        raise AssertionError("a living worker delivers by itself")

    task = asyncio.create_task(here.adopt(deliver))
    while passes < 3 and not task.done():
        passes += 1
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    assert lives.pending(kept.record.id) == kept
    await lives.close()
    await here.close()


async def _when(true: bool) -> bool:
    return true
