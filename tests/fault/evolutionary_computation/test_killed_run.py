"""kill -9 in the middle of a run: at a proof, and in the oversight. It is carried out again, to the same candidate, and ends once."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.evolutionary_computation import Candidate, NewRun, OversightCheck
from acgs1.contracts.formal_verification import VerificationReport
from acgs1.core.clock import SystemClock
from acgs1.core.hashing import text_hash
from acgs1.kit.db import Database, Store
from acgs1.kit.home import Home
from acgs1.kit.outbox import OUTBOX
from acgs1.services.evolutionary_computation import app as evolution
from acgs1.services.evolutionary_computation.adapters.bench import KernelBench
from acgs1.services.evolutionary_computation.repository import RunRepository
from acgs1.services.evolutionary_computation.service import EvolutionService
from factories import settings

SCHEMA = """
entity Clerk;
entity Parcel = { weight: Long };
action send appliesTo { principal: [Clerk], resource: [Parcel] };
"""
POLICIES = """\
permit (principal, action, resource);
@id("heavy") forbid (principal, action, resource) when { resource.weight > 10 };
"""


class Part:
    """Formal verification and the oversight at once: agrees with everything, but says where it is and stops `at` one place."""

    def __init__(self, at: str) -> None:
        self._at = at

    async def _arrive(self, at: str) -> None:
        if at == self._at:
            print(f"AT {at}", flush=True)
            await asyncio.Event().wait()

    async def verify(self, policies: str, constitution: Constitution, key: str) -> VerificationReport:
        await self._arrive("proof")
        return VerificationReport.model_validate(
            {
                "id": "ver_1", "policies_hash": text_hash(policies), "schema_hash": text_hash(constitution.schema_text),
                "constitution_hash": constitution.hash, "verdict": "proved", "obligations": [],
                "principles_without_invariants": [], "certificate_hash": "1" * 64, "started_at": "2026-01-01T00:00:00Z",
                "milliseconds": 1.0,
            }
        )  # fmt: skip

    async def review(self, request: NewRun, candidate: Candidate) -> list[OversightCheck]:
        await self._arrive("oversight")
        return [OversightCheck(name="agreement", finding=None)]


def opened(home: Path, part: Part) -> tuple[Database, EvolutionService]:
    database = Database.for_service("evolutionary_computation", settings(home), Home(home))
    store = Store(database, RunRepository)
    return database, EvolutionService(store, KernelBench(), part, part, SystemClock())


def body() -> dict[str, Any]:
    def outcome(weight: int) -> dict[str, Any]:
        request = {
            "subject": {"type": "Clerk", "id": "c"},
            "action": {"name": "send"},
            "resource": {"type": "Parcel", "id": f"p{weight}", "properties": {"weight": weight}},
        }
        return {"request": request, "should": "allow" if weight <= 30 else "deny"}

    invariant = {"kind": "never", "when": "resource.weight > 40"}
    principle = {"id": "backs", "title": "t", "text": "x", "category": "c", "priority": 1, "invariants": [invariant]}
    return {
        "policies": POLICIES,
        "constitution": {"name": "c", "schema_text": SCHEMA, "principles": [principle]},
        "tunables": [{"policy_id": "heavy", "attribute": "resource.weight", "minimum": 0, "maximum": 100}],
        "outcomes": [outcome(weight) for weight in (5, 15, 20, 30, 35)],
    }


async def begin(home: Path, at: str) -> None:
    """What the process that is killed does: it takes a run and carries it out as far as `at`."""
    database, service = opened(home, Part(at))
    await database.migrate(Path(evolution.__file__).parent / "migrations")
    await service.start(NewRun.model_validate(body()), Identity(id="usr_1", name="t", roles=(Role.LEGISLATOR,)))
    await service.carry_out_next()


@pytest.mark.slow
@pytest.mark.parametrize("at", ["proof", "oversight"])
async def test_a_run_that_was_cut_off_is_carried_out_again_to_the_same_candidate_and_ends_once(tmp_path: Path, at: str):
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    program = "import asyncio, sys; from pathlib import Path; from test_killed_run import begin"
    program += "; asyncio.run(begin(Path(sys.argv[1]), sys.argv[2]))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), at,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(120):
        while (line := (await process.stdout.readline()).decode().strip()) != f"AT {at}":
            assert line, "the process ended before it was killed"
    process.send_signal(signal.SIGKILL)
    await process.wait()

    database, service = opened(tmp_path, Part("nowhere"))
    (cut_off,) = (await service.runs(None, 10)).items
    assert cut_off.status == "running"
    assert await service.carry_out_next()
    assert not await service.carry_out_next(), "nothing is left to carry out"
    run = await service.get(cut_off.id)
    assert (run.status, run.detail) == ("done", "agreement 0.4 -> 1")
    assert run.oversight is not None
    assert (run.oversight.outcome, run.best is not None) == ("approved", True)
    async with database.reading() as session:
        rows = (await session.scalars(sa.select(OUTBOX.c.event).order_by(OUTBOX.c.sequence))).all()
    told = [json.loads(row) if isinstance(row, str) else row for row in rows]
    assert [event["type"] for event in told] == ["run.started", "run.finished"]
    await database.close()

    # The same request, never cut off, comes to the same.
    whole, undisturbed = opened(tmp_path / "whole", Part("nowhere"))
    await whole.migrate(Path(evolution.__file__).parent / "migrations")
    again = await undisturbed.start(
        NewRun.model_validate(body()), Identity(id="usr_1", name="t", roles=(Role.LEGISLATOR,))
    )
    await undisturbed.carry_out_next()
    assert (await undisturbed.get(again.id)).best == run.best
    await whole.close()
