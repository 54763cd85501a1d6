"""Comparisons, questions and checks that take long are jobs: asked about later, streamed, cancelled, taken up again."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.auth import Role
from acgs1.services.formal_verification import analyses as module
from acgs1.services.formal_verification.app import create_app
from acgs1.services.formal_verification.domain import Job, Plan
from acgs1.services.formal_verification.errors import ProverUnavailable
from factories import Running, running, settings

SCHEMA = "entity A; entity B { n: Long }; action x, y appliesTo { principal: [A], resource: [B] };"
COMPARISON = {
    "schema_text": SCHEMA,
    "old": "permit(principal, action, resource) when { resource.n > 3 };",
    "new": "permit(principal, action, resource) when { resource.n > 2 };",
}


class Held:
    """A prover whose answers wait until they are let go."""

    def __init__(self, prover: Any) -> None:
        self._prover = prover
        self.go_on = asyncio.Event()
        self.fails = False

    async def plan(self, job: Job) -> Plan:
        return await self._prover.plan(job)

    async def run(
        self, job: Job, plan: Plan, items: Sequence[int], deadline: float
    ) -> AsyncGenerator[tuple[int, dict[str, Any]]]:
        first = True
        async for answer in self._prover.run(job, plan, items, deadline):
            yield answer
            if first:
                await self.go_on.wait()
                if self.fails:
                    raise ProverUnavailable("no prover")
            first = False


@pytest.fixture
async def room(tmp_path: Path):
    async with running(create_app, settings(tmp_path)) as service:
        yield service


def held(room: Running) -> Held:
    prover = room.app.state.analyses._prover = Held(room.app.state.pool)
    return prover


async def begin(room: Running, query: str = "?wait=0"):
    answer = await room.client.post(f"/api/v1/comparisons{query}", json=COMPARISON, headers=room.headers(Role.MEMBER))
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    return answer.headers["Location"]


async def test_what_takes_less_than_a_second_is_answered_at_once_and_not_kept(room: Running):
    answer = await room.client.post("/api/v1/comparisons", json=COMPARISON, headers=room.headers(Role.MEMBER))
    assert (answer.status_code, answer.json()["change"]) == (200, "widens")


async def test_a_long_analysis_can_be_asked_about_later(room: Running):
    prover = held(room)
    path = await begin(room)
    headers = room.headers(Role.AUDITOR)
    assert (await room.client.get(path, headers=headers)).status_code == 202
    prover.go_on.set()
    done = await room.client.get(f"{path}?wait=60", headers=headers)
    assert (done.status_code, done.json()["change"]) == (200, "widens")
    # From the archive as well.
    assert (await room.client.get(path, headers=headers)).json() == done.json()


async def test_its_progress_is_streamed_until_the_outcome(room: Running):
    prover = held(room)
    path = await begin(room)
    streaming = asyncio.create_task(room.client.get(f"{path}/events", headers=room.headers(Role.MEMBER)))
    await asyncio.sleep(0)
    prover.go_on.set()
    blocks = [block.splitlines() for block in (await streaming).text.strip().split("\n\n")]
    assert {lines[0] for lines in blocks[:-1]} <= {"event: progress"}
    assert blocks[-1] == ["event: outcome", 'data: {"status": "done"}']
    done = [json.loads(lines[1].removeprefix("data: "))["obligations_done"] for lines in blocks[:-1]]
    assert done == sorted(done)


async def test_a_cancelled_analysis_says_so_and_frees_the_prover(room: Running):
    held(room)
    path = await begin(room)
    cancelled = await room.client.post(f"{path}/cancellation", headers=room.headers(Role.MEMBER))
    assert cancelled.json()["status"] == "cancelled"
    again = await room.client.get(path, headers=room.headers(Role.MEMBER))
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    room.app.state.analyses._prover = room.app.state.pool
    assert (await room.client.post("/api/v1/comparisons", json=COMPARISON, headers=room.headers(Role.MEMBER))).json()[
        "change"
    ] == "widens"


async def test_an_analysis_that_fails_later_says_why(room: Running):
    prover = held(room)
    prover.fails = True
    path = await begin(room)
    prover.go_on.set()
    failed = await room.client.get(f"{path}?wait=60", headers=room.headers(Role.MEMBER))
    assert (failed.json()["status"], failed.json()["detail"]) == ("failed", "no prover")


async def test_an_analysis_interrupted_by_a_restart_is_taken_up_again(tmp_path: Path):
    config = settings(tmp_path)
    async with running(create_app, config) as room:
        held(room)
        path = await begin(room)
    async with running(create_app, config) as room:
        await room.app.state.analyses.resume()
        done = await room.client.get(f"{path}?wait=60", headers=room.headers(Role.MEMBER))
        assert done.json()["change"] == "widens"


async def test_one_that_is_waited_for_is_kept_after_a_second_all_the_same(
    room: Running, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_KEEP_AFTER", 0.0)
    answer = await room.client.post("/api/v1/comparisons", json=COMPARISON, headers=room.headers(Role.MEMBER))
    assert answer.json()["change"] == "widens"
    async with room.app.state.analyses._archive.reading() as records:
        assert await records.running_analyses() == []


async def test_what_is_not_there_is_named(room: Running):
    answer = await room.client.get("/api/v1/analyses/ana_none", headers=room.headers(Role.MEMBER))
    assert (answer.status_code, answer.json()["code"]) == (404, "analysis_not_found")
