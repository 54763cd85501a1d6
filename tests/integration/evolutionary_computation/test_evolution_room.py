"""Runs over HTTP and under the real verifier: tuned, proved, resumed, refused."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import yaml

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.evolutionary_computation import NewRun
from acgs1.contracts.formal_verification import VerificationReport
from acgs1.core.clock import SystemClock
from acgs1.kit.breaker import Breakers
from acgs1.kit.clients import PartClient
from acgs1.kit.db import Database, Store
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.home import Home
from acgs1.kit.outbox import OUTBOX
from acgs1.services.evolutionary_computation import app as evolution
from acgs1.services.evolutionary_computation.adapters.bench import KernelBench
from acgs1.services.evolutionary_computation.adapters.overseer import KernelOverseer
from acgs1.services.evolutionary_computation.adapters.verifier import HttpVerifier
from acgs1.services.evolutionary_computation.errors import VerificationFailed
from acgs1.services.evolutionary_computation.repository import RunRepository
from acgs1.services.evolutionary_computation.service import EvolutionService
from acgs1.services.formal_verification.app import create_app as create_verification
from factories import Running, running, settings

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "airline"
BY = Identity(id="usr_1", name="tester", roles=(Role.LEGISLATOR,))

SCHEMA = """
entity Clerk;
entity Parcel = { weight: Long };
action send appliesTo { principal: [Clerk], resource: [Parcel], context: { approved: Bool } };
"""
POLICIES = """\
permit (principal, action, resource);
// Heavy parcels need help.
@id("heavy") forbid (principal, action, resource) when { resource.weight > 10 } unless { context.approved };
"""


def outcome(weight: Any, should: str, **context: Any) -> dict[str, Any]:
    request = {
        "subject": {"type": "Clerk", "id": "c"},
        "action": {"name": "send"},
        "resource": {"type": "Parcel", "id": f"p{weight}", "properties": {"weight": weight}},
        "context": context,
    }
    return {"request": request, "should": should}


def body(**changes: Any) -> dict[str, Any]:
    invariant = {"kind": "never", "when": "resource.weight > 40 && !context.approved"}
    principle = {"id": "backs", "title": "t", "text": "x", "category": "c", "priority": 1, "invariants": [invariant]}
    return {
        "policies": POLICIES,
        "constitution": {"name": "c", "schema_text": SCHEMA, "principles": [principle]},
        "tunables": [{"policy_id": "heavy", "attribute": "resource.weight", "minimum": 0, "maximum": 100}],
        # The labels would have it at 30 or more, and say nothing about where it must end.
        "outcomes": [outcome(w, "allow" if w <= 30 else "deny") for w in (5, 15, 20, 30)],
        **changes,
    }


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Running]:
    async with running(evolution.create_app, settings(tmp_path)) as room:
        yield room


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    config = settings(tmp_path / "runs")
    database = Database.for_service("evolutionary_computation", config, Home(config.home))
    await database.migrate(Path(evolution.__file__).parent / "migrations")
    yield database
    await database.close()


@pytest.fixture
async def verifier(tmp_path: Path) -> AsyncGenerator[HttpVerifier]:
    """The adapter, in front of a formal verification service in this process."""
    async with running(create_verification, settings(tmp_path / "proofs")) as proofs:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=proofs.app))

        async def token() -> str:
            return proofs.keys.token(Role.SERVICE)

        async with http:
            breaker = Breakers().get("evolutionary_computation->formal_verification")
            client = PartClient(
                "evolutionary_computation", "formal_verification", "http://proofs", http, breaker, token
            )
            yield HttpVerifier(client)


class Ended:
    """A verifier that answers every candidate with one verdict."""

    def __init__(self, verdict: str) -> None:
        self._verdict = verdict
        self.asked: list[str] = []

    async def verify(self, policies: str, constitution: Constitution, key: str) -> VerificationReport:
        self.asked.append(policies)
        return VerificationReport.model_validate(
            {
                "id": "ver_1", "policies_hash": "0" * 64, "schema_hash": "0" * 64, "constitution_hash": constitution.hash,
                "verdict": self._verdict, "obligations": [], "principles_without_invariants": [],
                "certificate_hash": "1" * 64, "started_at": "2026-01-01T00:00:00Z", "milliseconds": 1.0,
            }
        )  # fmt: skip


class Gone:
    async def verify(self, policies: str, constitution: Constitution, key: str) -> VerificationReport:
        raise DependencyUnavailable("`formal_verification` is not available")


def service(database: Database, verifier: Any) -> EvolutionService:
    overseer = KernelOverseer(verifier)
    return EvolutionService(Store(database, RunRepository), KernelBench(), verifier, overseer, SystemClock())


async def events(database: Database) -> list[dict[str, Any]]:
    async with database.reading() as session:
        return list((await session.scalars(sa.select(OUTBOX.c.event).order_by(OUTBOX.c.sequence))).all())


async def test_the_airlines_working_limit_is_tuned_and_the_candidate_proved(
    database: Database, verifier: HttpVerifier
) -> None:
    document = yaml.safe_load((EXAMPLE / "constitution.yaml").read_text())
    document["schema_text"] = (EXAMPLE / document.pop("schema_file")).read_text()
    labels = json.loads((EXAMPLE / "labels.json").read_text())
    policies = (EXAMPLE / "policies.cedar").read_text()
    runs = service(database, verifier)
    started = await runs.start(NewRun.model_validate({"policies": policies, "constitution": document, **labels}), BY)
    assert await runs.carry_out_next()
    run = await runs.get(started.id)
    assert (run.status, run.method) == ("done", "exhaustive")
    assert run.best is not None
    assert run.best.verdict == "proved"
    assert run.baseline == {"ask-above-working-limit/context.amount": 100}
    assert run.best.agreement > run.baseline_agreement
    limit = run.best.values["ask-above-working-limit/context.amount"]
    assert run.oversight is not None
    assert run.oversight.outcome == "approved"
    # Only the number has changed.
    assert run.best.policies == policies.replace("context.amount > 100", f"context.amount > {limit}")
    assert limit == 250


async def test_a_candidate_above_the_ceiling_is_refuted_counted_and_not_shown(
    database: Database, verifier: HttpVerifier
) -> None:
    # With nothing labelled between 30 and 60, and the guard deciding beyond 40, thresholds up to 59 agree with every label;
    # only the proof tells those that comply from those that do not.
    outcomes = [outcome(w, "allow" if w <= 30 else "deny") for w in (5, 20, 30, 60)]
    tunables = [{"policy_id": "heavy", "attribute": "resource.weight", "minimum": 31, "maximum": 100}]
    given = body(outcomes=outcomes, tunables=tunables, policies=POLICIES.replace("> 10", "> 59"))
    runs = service(database, verifier)
    started = await runs.start(NewRun.model_validate(given), BY)
    await runs.carry_out_next()
    run = await runs.get(started.id)
    assert run.status == "done"
    assert run.refuted_candidates > 0
    assert run.best is not None
    assert run.best.values == {"heavy/resource.weight": 31}
    assert run.unproved_candidates == 0


@pytest.mark.parametrize("verdict", ["refuted", "unknown", "proved"])
async def test_without_a_proof_of_the_very_candidate_nothing_is_shown(database: Database, verdict: str) -> None:
    # `proved` here is a report about other policies than those that were sent.
    verifier = Ended(verdict)
    runs = service(database, verifier)
    started = await runs.start(NewRun.model_validate(body()), BY)
    await runs.carry_out_next()
    run = await runs.get(started.id)
    assert run.best is None
    assert run.refuted_candidates + run.unproved_candidates == len(verifier.asked) == len(set(verifier.asked)) > 0
    assert (run.refuted_candidates > 0) is (verdict == "refuted")
    finished = (await events(database))[-1]
    assert finished["type"] == "run.finished"
    assert not any(policies in json.dumps(finished) for policies in verifier.asked)


async def test_a_run_without_verification_fails_with_the_reason_and_shows_nothing(database: Database) -> None:
    runs = service(database, Gone())
    started = await runs.start(NewRun.model_validate(body()), BY)
    await runs.carry_out_next()
    run = await runs.get(started.id)
    assert (run.status, run.best) == ("failed", None)
    assert "formal_verification" in (run.detail or "")


async def test_a_run_cut_off_by_a_restart_comes_to_the_same_candidates_and_finishes_once(database: Database) -> None:
    class Dying(Ended):
        async def verify(self, policies: str, constitution: Constitution, key: str) -> VerificationReport:
            await super().verify(policies, constitution, key)
            raise asyncio.CancelledError  # the job is cancelled when the service stops

    dying = Dying("refuted")
    before = service(database, dying)
    started = await before.start(NewRun.model_validate(body()), BY)
    with pytest.raises(asyncio.CancelledError):
        await before.carry_out_next()
    assert (await before.get(started.id)).status == "running"

    alive = Ended("refuted")
    after = service(database, alive)
    assert await after.carry_out_next()
    assert alive.asked[0] == dying.asked[0]
    assert not await after.carry_out_next()
    assert [e["type"] for e in await events(database)] == ["run.started", "run.finished"]


async def test_a_fault_of_our_own_ends_the_run_rather_than_repeating_at_every_start(database: Database) -> None:
    class Broken:
        async def verify(self, policies: str, constitution: Constitution, key: str) -> VerificationReport:
            raise RuntimeError("a bug")

    runs = service(database, Broken())
    started = await runs.start(NewRun.model_validate(body()), BY)
    await runs.carry_out_next()
    run = await runs.get(started.id)
    assert run.status == "failed"
    assert (run.detail or "").startswith("internal_error")


async def test_two_thresholds_of_one_set_are_tuned_together(database: Database, verifier: HttpVerifier) -> None:
    policies = POLICIES + '@id("tiny") forbid (principal, action, resource) when { 3 > resource.weight };\n'
    tunables = [
        {"policy_id": "heavy", "attribute": "resource.weight", "minimum": 0, "maximum": 40},
        {"policy_id": "tiny", "attribute": "resource.weight", "minimum": 0, "maximum": 40},
    ]
    outcomes = [outcome(w, "allow" if 8 <= w <= 30 else "deny") for w in range(0, 40, 2)]
    runs = service(database, verifier)
    started = await runs.start(NewRun.model_validate(body(policies=policies, tunables=tunables, outcomes=outcomes)), BY)
    await runs.carry_out_next()
    run = await runs.get(started.id)
    assert run.best is not None
    assert run.best.agreement == 1.0
    assert run.best.values == {"heavy/resource.weight": 30, "tiny/resource.weight": 7}


async def test_over_http_a_run_is_accepted_and_fails_while_nothing_verifies(room: Running) -> None:
    answer = await room.client.post("/api/v1/runs", json=body(), headers=room.headers(Role.OPERATOR))
    assert answer.status_code == 202
    assert answer.json()["baseline_agreement"] == 0.25
    path = f"/api/v1/runs/{answer.json()['id']}"
    run = (await room.client.get(f"{path}?wait=30", headers=room.headers(Role.AUDITOR))).json()
    assert run["status"] == "failed"
    assert "dependency_unavailable" in run["detail"]
    listed = (await room.client.get("/api/v1/runs", headers=room.headers(Role.AUDITOR))).json()
    assert [r["id"] for r in listed["items"]] == [run["id"]]
    missing = await room.client.get("/api/v1/runs/run_0", headers=room.headers(Role.AUDITOR))
    assert (missing.status_code, missing.json()["code"]) == (404, "run_not_found")


@pytest.mark.parametrize(
    ("changes", "code", "pointer", "detail"),
    [
        ({"policies": "permit (principal"}, "policies_refused", "/policies", "fault"),
        (
            {"tunables": [{"policy_id": "x", "attribute": "resource.weight", "minimum": 0, "maximum": 9}]},
            "tunable_refused", "/tunables/0/policy_id", "there is no policy `x`; there are `policy0`, `heavy`",
        ),
        (
            {"tunables": [{"policy_id": "heavy", "attribute": "resource.size", "minimum": 0, "maximum": 9}]},
            "tunable_refused", "/tunables/0/attribute", "no whole numbers",
        ),
        (
            {"tunables": [{"policy_id": "heavy", "attribute": "resource.weight", "minimum": 0, "maximum": 9}]},
            "tunable_refused", "/tunables/0/minimum", "10 is outside of 0..9",
        ),
        ({"outcomes": [outcome(1, "allow"), outcome("heavy", "deny")]}, "outcome_refused", "/outcomes/1/request", "weight"),
        ({"outcomes": [outcome(1, "allow", colour="red")]}, "outcome_refused", "/outcomes/0/request", "colour"),
    ],
)  # fmt: skip
async def test_what_cannot_be_run_is_refused_with_the_place(
    room: Running, changes: Any, code: str, pointer: str, detail: str
) -> None:
    answer = await room.client.post("/api/v1/runs", json=body(**changes), headers=room.headers(Role.ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert detail in answer.json()["detail"]


async def test_auditors_and_agents_do_not_start_runs(room: Running) -> None:
    for role in (Role.AUDITOR, Role.MEMBER, Role.AGENT):
        assert (await room.client.post("/api/v1/runs", json=body(), headers=room.headers(role))).status_code == 403
    assert (await room.client.get("/api/v1/runs", headers=room.headers(Role.MEMBER))).status_code == 403
    assert (await room.client.get("/api/v1/runs")).status_code == 401


def test_the_process_starts_without_the_kernel_in_memory() -> None:
    code = "import sys, acgs1.services.evolutionary_computation.app as a; a.create_app; print('acgs1_kernel' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


async def test_more_runs_than_may_wait_are_refused(room: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from acgs1.services.evolutionary_computation import service as module

    monkeypatch.setattr(module, "MAX_WAITING", 0)
    answer = await room.client.post("/api/v1/runs", json=body(), headers=room.headers(Role.LEGISLATOR))
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_runs")


async def test_a_verification_that_ends_without_a_report_is_a_failure() -> None:
    def cancelled(_: httpx.Request) -> httpx.Response:
        progress = {
            "id": "ver_1",
            "status": "cancelled",
            "obligations_done": 0,
            "obligations_total": 1,
            "detail": "by ada",
        }
        return httpx.Response(200, json=progress)

    async with httpx.AsyncClient(transport=httpx.MockTransport(cancelled)) as http:
        client = PartClient("a", "b", "http://proofs", http, Breakers().get("a->b"), None)
        with pytest.raises(VerificationFailed, match="`ver_1` is cancelled: by ada"):
            await HttpVerifier(client).verify("p", NewRun.model_validate(body()).constitution, "k")
