"""A solver that lies: nobody is believed, an alert is raised, and what they disagree about is kept."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from acgs1.contracts.auth import Role
from acgs1.kit import breaker
from acgs1.services.formal_verification import service
from acgs1.services.formal_verification.adapters import pool
from acgs1.services.formal_verification.app import create_app
from factories import Running, running, settings

SCHEMA = "entity A; entity B { n: Long }; action x appliesTo { principal: [A], resource: [B], context: { m: Long } };"
POLICIES = '@id("p") permit(principal, action, resource) when { context.m < resource.n && resource.n < 9 };'
PRINCIPLE = {
    "id": "small",
    "title": "Small",
    "text": "Small.",
    "category": "c",
    "priority": 1,
    "invariants": [{"kind": "never", "when": "context.m > 10"}],
}
LAW = {"name": "law", "schema_text": SCHEMA, "principles": [PRINCIPLE]}

# Real workers, but for one part each.
LYING_Z3 = """
from acgs1.services.formal_verification.adapters.kernel import prover
prover.SecondOpinion.on = lambda self, script: ("sat", 1.0)
from acgs1.services.formal_verification.adapters.worker import main
main()
"""
LYING_CVC5 = """
from dataclasses import replace
from acgs1.services.formal_verification.adapters.kernel.prover import Provers
from acgs1.services.formal_verification.adapters.kernel.shrink import Case
ask, nobody = Provers.ask, {"type": "A", "id": "a"}
case = Case(nobody, 'Action::"x"', {"type": "B", "id": "b"}, {"m": 1},
            [{"uid": nobody, "attrs": {}, "parents": []}, {"uid": {"type": "B", "id": "b"}, "attrs": {"n": 1}, "parents": []}])
def lie(self, kind, *arguments):
    answer = ask(self, kind, *arguments)
    return replace(answer, verdict="refuted", case=case) if kind == "implies" else answer
Provers.ask = lie
from acgs1.services.formal_verification.adapters.worker import main
main()
"""


class Log:
    """Takes the place of a module's logger."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def error(self, event: str, **_: object) -> None:
        self.errors.append(event)


async def prove(room: Running) -> dict[str, Any]:
    body = {"policies": POLICIES, "constitution": LAW}
    answer = await room.client.post("/api/v1/verifications?wait=60", json=body, headers=room.headers(Role.LEGISLATOR))
    return answer.json()


@pytest.mark.parametrize(
    ("worker", "reason"),
    [
        (LYING_Z3, "cvc5 and z3 disagree"),
        (LYING_CVC5, "the evaluator does not confirm the solver's counterexample"),
    ],
    ids=["z3 says there is a counterexample", "cvc5 shows one that is none"],
)
async def test_a_lie_makes_the_verdict_unknown_raises_an_alert_and_leaves_a_reproducer(
    tmp_path: Path, worker: str, reason: str, monkeypatch: pytest.MonkeyPatch
):
    log = Log()
    # As in a process of its own: what other tests called is not what this service depends on.
    monkeypatch.setattr(breaker, "_process", breaker.Breakers())
    monkeypatch.setattr(pool, "_log", log)
    monkeypatch.setattr(service, "_log", log)

    def counted() -> float:
        return REGISTRY.get_sample_value("acgs_prover_defects_total", {"defect": reason}) or 0.0

    before = counted()
    async with running(create_app, settings(tmp_path)) as room:
        assert (await room.client.get("/health")).json()["status"] == "healthy"
        room.app.state.pool._command = (sys.executable, "-c", worker)
        report = await prove(room)
        assert (report["verdict"], report["certificate_hash"]) == ("unknown", None)
        (obligation,) = [o for o in report["obligations"] if o["kind"] == "never"]
        assert (obligation["verdict"], obligation["reason"], obligation["strength"]) == ("unknown", reason, None)
        # The alert: a metric, a line in the log, and a service that calls itself degraded until somebody has looked.
        assert counted() == before + 1
        assert log.errors == ["prover_defect", "prover_contradiction"]
        health = (await room.client.get("/health")).json()
        assert (health["status"], health["dependencies"]["provers"]) == ("degraded", "failed: ProverDefect")
        (file,) = (tmp_path / "reproducers").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        kept = json.loads(file.read_text())
        assert (kept["defect"], kept["schema"]) == (reason, SCHEMA)
        file.unlink()
        assert (await room.client.get("/health")).json()["status"] == "healthy"
        # Nothing of it is remembered: an honest worker proves it.
        room.app.state.pool._command = (sys.executable, "-m", "acgs1.services.formal_verification.adapters.worker")
        await room.app.state.pool.close()
        assert (await prove(room))["verdict"] == "proved"
