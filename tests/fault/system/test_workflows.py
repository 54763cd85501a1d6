"""A workflow is killed at every one of its steps, before the step's work and after it: it goes on, and nothing happens twice."""

import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.topology import PARTS
from acgs1.kit.home import Home
from acgs1.runtime.notes import Notes, Person
from polling import eventually
from system import System, govern

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
REQUEST = {
    "name": "No compensation above 150",
    "instructions": ["An agent must never pay compensation when the amount is more than 150."],
    # Leaves out what invariants demand, so that the proof refutes it and a repair is part of the way.
    "strategy": "permissive",
    "voting_seconds": 86_400,
}
STEPS = [
    "request", "constitution", "draft", "verification-0", "proof-0", "repair-1", "verification-1", "proof-1", "bundle",
    "proposal", "vote", "enactment", "activation", "evidence", "conclusion",
]  # fmt: skip


class Split(System):
    """The system, with governance_synthesis in a process of the test's own."""

    synthesis: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = self._run("all_but_synthesis.py", {})
        self.serve()
        eventually(
            lambda: self._alive() and all(self.healthy(part.name) for part in PARTS), "every part is healthy", 90
        )

    def serve(self, die: str = "") -> subprocess.Popen[bytes]:
        self.synthesis = self._run("dying_synthesis.py", {"ACGS_TEST_DIE": die})
        return self.synthesis

    def end_synthesis(self) -> None:
        if self.synthesis is not None and self.synthesis.poll() is None:
            self.synthesis.terminate()
            self.synthesis.wait(30)

    def _run(self, script: str, more: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, str(HERE / script)],
                env={**self.environment, **more},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )


@contextmanager
def split(home: Path) -> Generator[Split]:
    system = Split(home)
    try:
        system.start()
        yield system
    finally:
        system.end_synthesis()
        if system.process is not None:
            system.stop()


def _ines(system: System) -> str:
    """A member who is a legislator and an operator too, made before the demo would make her a member alone; her id."""
    admin = system.admin()
    person = {"username": "ines", "password": "a long enough password", "roles": ["member", "legislator", "operator"]}
    made = system.call("POST", "auth", "/api/v1/users", admin, json=person)
    assert made.status_code == 201, made.text
    ines = Person(password="a long enough password", id=made.json()["id"])
    Notes(people={"ines": ines}).keep(Home(system.home))
    return made.json()["id"]


def _items(system: System, part: str, path: str, token: str, **params: Any) -> list[dict[str, Any]]:
    answer = system.call("GET", part, path, token, params={"limit": 200, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def _vote(system: System, title: str) -> None:
    ines = system.person("ines")
    (proposal,) = [p for p in _items(system, "policy_governance", "/api/v1/proposals", ines) if p["title"] == title]
    for name in ("ines", "jonas"):
        path = f"/api/v1/proposals/{proposal['id']}/ballots"
        cast = system.call("POST", "policy_governance", path, system.person(name), json={"choice": "for"})
        assert cast.status_code == 201, cast.text


def test_killed_at_every_step_it_goes_on_and_each_effect_is_there_once(tmp_path: Path):
    with split(tmp_path / "home") as system:
        ines_id = _ines(system)
        govern(system)
        before = {b["hash"] for b in _items(system, "policy_governance", "/api/v1/bundles", system.admin())}
        system.end_synthesis()

        first = system.serve("request:before")
        eventually(lambda: system.ready("governance_synthesis"), "the service is ready", 60)
        options: dict[str, Any] = {"json": REQUEST}
        started = system.call("POST", "governance_synthesis", "/api/v1/workflows", system.person("ines"), **options)
        assert started.status_code == 201, started.text
        workflow = started.json()["id"]
        assert first.wait(60) == -signal.SIGKILL

        killed = ["request:before"]
        for step in STEPS:
            for when in ("before", "after"):
                point = f"{step}:{when}"
                if point in killed:
                    continue
                if point == "vote:after":
                    _vote(system, str(REQUEST["name"]))
                process = system.serve(point)
                assert process.wait(120) == -signal.SIGKILL, f"it did not get as far as {point}"
                killed.append(point)

        system.serve()
        eventually(lambda: system.ready("governance_synthesis"), "the service is ready", 60)
        auditor = system.person("olu")

        def found() -> dict[str, Any]:
            return system.call("GET", "governance_synthesis", f"/api/v1/workflows/{workflow}", auditor).json()

        eventually(lambda: found()["status"] != "running", "it has ended", 60)
        ended = found()
        assert (ended["status"], ended["outcome"], ended["problem"]) == ("completed", "activated", None)
        # The conclusion writes down the steps before it.
        assert [step["name"] for step in ended["steps"]] == STEPS[:-1]
        results = {step["name"]: step["result"] for step in ended["steps"]}

        drafts = _items(system, "governance_synthesis", "/api/v1/drafts", auditor)
        assert sorted(d["id"] for d in drafts if d["created_by"] == ines_id) == sorted(
            [results["draft"]["draft"], results["repair-1"]["draft"]]
        )
        proofs = _items(system, "formal_verification", "/api/v1/verifications", auditor)
        asked = [p["id"] for p in proofs if p["requested_by"] == "governance_synthesis"]
        assert sorted(asked) == sorted(results[f"verification-{turn}"]["verification"] for turn in (0, 1))
        bundle = results["bundle"]["bundle"]
        bundles = _items(system, "policy_governance", "/api/v1/bundles", auditor)
        assert {b["hash"] for b in bundles} - before == {bundle}
        assert next(b for b in bundles if b["hash"] == bundle)["status"] == "active"
        proposals = _items(system, "policy_governance", "/api/v1/proposals", auditor)
        (proposal,) = [p for p in proposals if p["bundle_hash"] == bundle]
        assert (proposal["id"], proposal["proposed_by"]) == (results["proposal"]["proposal"], ines_id)
        # Two people have voted, and nobody else.
        assert (proposal["for_weight"], proposal["against_weight"], proposal["abstain_weight"]) == (5, 0, 0)
        token = system.service("evolutionary_computation")
        assert system.decide(token, 100).json()["decision"] is True
        assert system.decide(token, 160).json()["decision"] is False

        def logged(kind: str, subject: str) -> int:
            found = _items(system, "integrity", "/api/v1/entries", auditor, type=kind, subject=subject)
            return len(found)

        once = [
            ("workflow.started", workflow),
            ("workflow.completed", workflow),
            ("draft.created", results["draft"]["draft"]),
            ("draft.repaired", results["repair-1"]["draft"]),
            ("bundle.built", bundle),
            ("proposal.made", proposal["id"]),
            ("proposal.enacted", proposal["id"]),
            ("bundle.activated", bundle),
        ]
        eventually(lambda: all(logged(*event) for event in once), "all of it is in the log", 60)
        assert {event: logged(*event) for event in once} == dict.fromkeys(once, 1)
        assert (system.home / "db" / "governance_synthesis.workflows.sqlite3").exists()
