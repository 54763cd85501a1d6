"""The main job: the airline example governed from end to end, each step through the public API of the service that owns it."""

import base64
import importlib.util
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from acgs1.agents.calls import ToolCall
from acgs1.agents.client import connect
from acgs1.agents.enforce import EnforcementPoint, Executed, Refused
from acgs1.contracts.common import Page
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionDocument
from acgs1.contracts.evolutionary_computation import Run
from acgs1.contracts.formal_verification import Certificate
from acgs1.contracts.governance_synthesis import Draft
from acgs1.contracts.integrity import EvidenceBundle
from acgs1.contracts.policy_governance import Approval, Bundle, Member
from acgs1.core.clock import SystemClock
from acgs1.kit.constitution_file import load_constitution
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.ledger.client import ledger_client
from acgs1.runtime.api import ApiProblem
from acgs1.runtime.founding import Founding, FoundingFailed, Narrator
from acgs1.runtime.notes import read_notes
from acgs1.services.integrity.domain import verified, verify_evidence

_WORKING_LIMIT = "working-limit.1"


def example_folder() -> Path:
    """Where the airline example is: beside the package when installed, else in the source tree."""
    shipped = Path(__file__).parent.parent / "examples" / "airline"
    return shipped if shipped.is_dir() else Path(__file__).parents[3] / "examples" / "airline"


class NotOurs(Exception):
    """The system governs something else than the example, so the job was not run; the message says what."""


class Demo:
    """One run of the main job. Running it again on the same data directory goes on with what is already there. `password` is the
    administrator's; without it, the file that the first start wrote is read."""

    def __init__(self, settings: PlatformSettings, narrator: Narrator, *, password: str | None = None) -> None:
        self._settings = settings
        self._password = password
        self._home = Home(settings.home)
        self._narrate = narrator
        self._folder = example_folder()
        self._constitution: Constitution = load_constitution(self._folder / "constitution.yaml")
        self._titles = {p.id: p.title for p in self._constitution.principles}

    async def run(self, *, replace: bool = True) -> None:
        """All nine steps, and a note of when they were done; raises FoundingFailed or ApiProblem at the first that fails.

        Without `replace`, raises NotOurs before the first step where members, constitution or active bundle are not the example's.
        """
        async with httpx.AsyncClient(timeout=120.0, trust_env=False) as http:
            self._founding = Founding(self._settings, http, self._constitution, self._narrate, password=self._password)
            if not replace:
                await self._expect_ours()
            await self._founding.people()
            self._operator = self._founding.operator
            self._agent = self._founding.agent
            await self._founding.adopt()
            draft = await self._draft()
            policies, certificate = await self._verify(draft)
            bundle = await self._founding.vote("Airline service desk", policies, certificate)
            await self._founding.activate(bundle)
            denied = await self._run_agent()
            await self._evidence(denied)
            await self._evolve(bundle)
        notes = read_notes(self._home)
        if notes.done_at is None:
            notes.done_at = SystemClock().now()
            notes.keep(self._home)

    async def _expect_ours(self) -> None:
        await self._founding.sign_in()
        admin = self._founding.admin
        notes = read_notes(self._home)
        law = await admin.find("constitutional_ai", "/api/v1/constitutions/in-force", ConstitutionDocument)
        if law is not None and law.meta.hash != self._constitution.hash:
            raise NotOurs(
                f"the constitution in force is `{law.constitution.name}`, not the example's; the job needs a fresh ACGS_HOME"
            )
        bundle = await admin.find("policy_governance", "/api/v1/bundles/active", Bundle)
        if bundle is not None and bundle.hash not in notes.bundles:
            raise NotOurs(
                f"the active bundle is `{bundle.name}`, which the job has not built; `acgs1 demo --again` replaces it"
            )
        members = await admin.get("policy_governance", "/api/v1/members", Page[Member], limit=200)
        known = {person.id for person in notes.people.values()}
        if any(member.user_id not in known for member in members.items):
            raise NotOurs("there are voting members who are not the example's; the job needs a fresh ACGS_HOME")

    # --- 3 ---

    async def _draft(self) -> Draft:
        self._narrate.step("Draft policies from the principles, without a language model")
        body = {"constitution": self._constitution.model_dump(mode="json"), "strategy": "permissive"}
        draft = await self._operator.post("governance_synthesis", "/api/v1/drafts", body, Draft)
        read = sum(1 for sentence in draft.sentences if sentence.policy_ids)
        self._narrate.say(
            f"{draft.id}: {read} of {len(draft.sentences)} sentences became policies (deliberately too permissive)"
        )
        return draft

    # --- 4 ---

    async def _verify(self, draft: Draft) -> tuple[str, Certificate]:
        self._narrate.step("Prove the policies against the constitution")
        report = await self._founding.prove(draft.policies)
        if report.verdict != "refuted":
            raise FoundingFailed(f"the permissive draft came out `{report.verdict}`, not refuted")
        refuted = [o for o in report.obligations if o.verdict == "refuted"]
        shown = refuted[0]
        self._narrate.say(
            f"draft refuted: {len(refuted)} of {len(report.obligations)} obligations; {report.milliseconds:.0f} ms"
        )
        self._narrate.say(f"breaks `{shown.principle_id}`: {self._titles.get(shown.principle_id or '', '')}")
        if shown.counterexample is not None:
            self._narrate.say(f"  {shown.counterexample.explanation}")
        rounds = 0
        while report.verdict == "refuted" and rounds < 5:
            rounds += 1
            body = {"report": report.model_dump(mode="json")}
            draft = await self._operator.post("governance_synthesis", f"/api/v1/drafts/{draft.id}/repair", body, Draft)
            report = await self._founding.prove(draft.policies)
        if report.verdict != "proved" or report.certificate_hash is None:
            raise FoundingFailed(f"after {rounds} repair(s) the draft is `{report.verdict}`")
        self._narrate.say(
            f"repaired {rounds} time(s), then proved: {len(report.obligations)} obligations in {report.milliseconds:.0f} ms"
        )
        path = f"/api/v1/certificates/{report.certificate_hash}"
        certificate = await self._operator.get("formal_verification", path, Certificate)
        self._narrate.say(f"certificate {certificate.hash[:16]}, signed by {certificate.key_id}")
        return draft.policies, certificate

    # --- 7 ---

    async def _run_agent(self) -> str:
        self._narrate.step("Run the agent: recorded calls, each decided before it is executed")
        calls = json.loads((self._folder / "agent_calls.json").read_text())["calls"]
        desk = self._desk()
        executed = 0
        first_denied: str | None = None
        async with self._enforcement(desk) as point:
            for call in calls:
                desk.records["agents"][self._agent.client_id] = desk.records["agents"].get(
                    call["agent"], {"suspended": False}
                )
                asked = ToolCall(call["tool"], call["arguments"], self._agent.client_id, call.get("customer"))
                started = time.perf_counter()
                outcome = await point.call(asked)
                milliseconds = (time.perf_counter() - started) * 1000
                self._check(call, outcome)
                name = f"{call['id']} {call['tool']}"
                if isinstance(outcome, Executed):
                    executed += 1
                    self._narrate.say(f"allow  {name} ({milliseconds:.1f} ms)")
                    continue
                self._narrate.say(
                    f"deny   {name} ({milliseconds:.1f} ms): {', '.join(outcome.principles) or outcome.message}"
                )
                if outcome.access_request is not None and call["expect"].get("with_approval") == "allow":
                    await self._approve(point, asked, outcome)
                    executed += 1
                elif first_denied is None and outcome.principles:
                    first_denied = outcome.decision_id
        self._narrate.say(f"{executed} executed (one after a person approved it), {len(calls) - executed} stopped")
        if first_denied is None:
            raise FoundingFailed("no call was denied by a principle")
        return first_denied

    def _check(self, call: dict[str, Any], outcome: Executed | Refused) -> None:
        expected = call["expect"]["decision"]
        if (expected == "allow") != isinstance(outcome, Executed):
            detail = outcome.message if isinstance(outcome, Refused) else "it was executed"
            raise FoundingFailed(f"{call['id']} should be `{expected}`: {detail}")

    async def _approve(self, point: EnforcementPoint, call: ToolCall, refused: Refused) -> None:
        token = await self._founding.agent_token()
        body = {
            "decision_id": refused.decision_id,
            "request": refused.request.model_dump(mode="json") if refused.request else None,
            "note": "The customer waits at the desk.",
        }
        asked = await self._founding.public.acting_as(token).post(
            "policy_governance", "/api/v1/approvals", body, Approval
        )
        answer = {"answer": "granted", "reason": "The airline cancelled the flight; the sum is fair."}
        path = f"/api/v1/approvals/{asked.id}/answer"
        await self._operator.post("policy_governance", path, answer, Approval)
        outcome = await point.call(call, approval=asked.id)
        if not isinstance(outcome, Executed):
            raise FoundingFailed(f"the approved call was refused: {outcome.message}")
        self._narrate.say(f"       a person approved exactly this call ({asked.id}); executed")
        again = await point.call(call, approval=asked.id)
        if isinstance(again, Executed):
            raise FoundingFailed("an approval worked twice")

    @asynccontextmanager
    async def _enforcement(self, desk: Any) -> AsyncGenerator[EnforcementPoint]:
        async with connect(
            self._settings.url("policy_governance"),
            auth_url=self._settings.url("auth"),
            client_id=self._agent.client_id,
            client_secret=self._agent.client_secret,
        ) as client:
            yield EnforcementPoint(desk.tools, desk, client, titles=self._titles)

    def _desk(self) -> Any:
        """The example's own tools and records, loaded from its folder."""
        spec = importlib.util.spec_from_file_location("acgs1_example_desk", self._folder / "desk.py")
        if spec is None or spec.loader is None:
            raise FoundingFailed(f"`{self._folder / 'desk.py'}` is not there")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Desk.load(self._folder / "database.json")

    # --- 8 ---

    async def _evidence(self, decision_id: str) -> None:
        self._narrate.step("Verify one denied decision offline")
        bundle: EvidenceBundle | None = None
        deadline = time.monotonic() + 60
        while bundle is None:
            try:
                # The record travels from the spool to the log within a second; a person with the right may anchor at once.
                await self._founding.admin.call("POST", "integrity", "/api/v1/anchors")
                bundle = await self._operator.get(
                    "integrity", f"/api/v1/evidence/{decision_id}", EvidenceBundle, wait=20
                )
            except ApiProblem as problem:
                if problem.problem.status not in {404, 409, 503} or time.monotonic() > deadline:
                    raise
        file = self._home.root / f"evidence-{decision_id}.json"
        file.write_text(bundle.model_dump_json(indent=2))
        log_key = (await self._founding.public.call("GET", "integrity", "/log-key")).text.strip()
        async with ledger_client(self._settings) as ledger:
            authority, program = (await ledger.governance()).log, str(ledger.program)
            landed = await ledger.transaction(bundle.anchor.signature)
        checks = verify_evidence(bundle, log_key, authority=authority, program_id=program)
        for check in checks:
            self._narrate.say(
                f"{'ok' if check.passed else '--' if check.passed is None else 'FAILED'}  {check.name}: {check.detail}"
            )
        if not verified(checks):
            raise FoundingFailed("the evidence does not verify")
        if (
            landed is None
            or landed.error is not None
            or base64.b64encode(landed.raw).decode() != bundle.anchor.transaction
        ):
            raise FoundingFailed(f"the ledger does not have transaction `{bundle.anchor.signature}`")
        self._narrate.say(f"ok  ledger: the anchoring transaction stands in slot {landed.slot}")
        self._narrate.say(f"again, offline: acgs1 verify evidence {file}")

    # --- 9 ---

    async def _evolve(self, bundle: Bundle) -> None:
        self._narrate.step("Improve one threshold from labelled outcomes, under proof")
        labels = json.loads((self._folder / "labels.json").read_text())
        # The labels name the hand-written policy; in the drafted set the same threshold stands in the principle's first sentence.
        tunables = [{**tunable, "policy_id": _WORKING_LIMIT} for tunable in labels["tunables"]]
        body = {
            "policies": bundle.policies,
            "constitution": self._constitution.model_dump(mode="json"),
            "tunables": tunables,
            "outcomes": labels["outcomes"],
            "seed": 1,
        }
        run = await self._operator.post("evolutionary_computation", "/api/v1/runs", body, Run)
        deadline = time.monotonic() + 120
        while run.status == "running" and time.monotonic() < deadline:
            run = await self._operator.get("evolutionary_computation", f"/api/v1/runs/{run.id}", Run, wait=20)
        if run.status != "done" or run.best is None or run.best.verdict != "proved":
            raise FoundingFailed(f"the run is `{run.status}`: {run.detail}")
        before = ", ".join(f"{name} {value}" for name, value in run.baseline.items())
        after = ", ".join(f"{name} {value}" for name, value in run.best.values.items())
        self._narrate.say(f"{before}: agrees with {run.baseline_agreement:.1%} of {run.outcomes} labels")
        self._narrate.say(
            f"{after}: agrees with {run.best.agreement:.1%}, proved ({run.refuted_candidates} better ones were refuted)"
        )
        if run.oversight is not None:
            self._narrate.say(f"{run.oversight.outcome} by the oversight, which trusts nothing of the search")
