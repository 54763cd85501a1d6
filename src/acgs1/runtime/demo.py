"""The main job: the airline example governed from end to end, each step through the public API of the service that owns it."""

import base64
import importlib.util
import json
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from acgs1.agents.calls import ToolCall
from acgs1.agents.client import connect
from acgs1.agents.enforce import EnforcementPoint, Executed, Refused
from acgs1.contracts.auth import AccessToken, AgentCredentials, Role, User
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionVersion
from acgs1.contracts.evolutionary_computation import Run
from acgs1.contracts.formal_verification import Certificate, VerificationReport
from acgs1.contracts.governance_synthesis import Draft
from acgs1.contracts.integrity import EvidenceBundle
from acgs1.contracts.policy_governance import Approval, Ballot, Bundle, GovernanceState, Member, Proposal
from acgs1.kit.constitution_file import load_constitution
from acgs1.kit.home import Home, write_private_json
from acgs1.kit.settings import PlatformSettings
from acgs1.ledger.client import LedgerClient
from acgs1.runtime.api import Api, ApiProblem
from acgs1.services.integrity.domain import verified, verify_evidence

_WORKING_LIMIT = "working-limit.1"
_MEMBERS = {"ines": 3, "jonas": 2, "mei": 1}


class DemoFailed(Exception):
    """A step did not come out as it must; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Narrator:
    """Says what happens: `step` opens a step, `say` adds a line to it."""

    step: Callable[[str], None]
    say: Callable[[str], None]


def example_folder() -> Path:
    """Where the airline example is: beside the package when installed, else in the source tree."""
    shipped = Path(__file__).parent.parent / "examples" / "airline"
    return shipped if shipped.is_dir() else Path(__file__).parents[3] / "examples" / "airline"


class Demo:
    """One run of the main job. Running it again on the same data directory goes on with what is already there."""

    def __init__(self, settings: PlatformSettings, narrator: Narrator) -> None:
        self._settings = settings
        self._home = Home(settings.home)
        self._narrate = narrator
        self._folder = example_folder()
        self._constitution: Constitution = load_constitution(self._folder / "constitution.yaml")
        self._titles = {p.id: p.title for p in self._constitution.principles}
        # What the people of the demo need to sign in again; theirs alone (0600).
        self._notes = self._home.run / "demo.json"
        self._people: dict[str, str] = json.loads(self._notes.read_text()) if self._notes.exists() else {}

    async def run(self) -> None:
        """All nine steps; raises DemoFailed or ApiProblem at the first that fails."""
        async with httpx.AsyncClient(timeout=120.0, trust_env=False) as http:
            self._public = Api(http, self._settings)
            await self._people_and_agent()
            await self._adopt()
            draft = await self._draft()
            policies, certificate = await self._verify(draft)
            bundle = await self._vote(policies, certificate)
            await self._activate(bundle)
            denied = await self._run_agent()
            await self._evidence(denied)
            await self._evolve(bundle)

    # --- 1 ---

    async def _people_and_agent(self) -> None:
        self._narrate.step("Sign in, register the agent and three voting members")
        password = self._home.admin_password.read_text().strip()
        self._admin = await self._sign_in("admin", password)
        self._narrate.say(f"administrator signed in; the password is in {self._home.admin_password}")
        self._operator = await self._person("olu", (Role.OPERATOR, Role.LEGISLATOR, Role.AUDITOR))
        self._members: dict[str, Api] = {}
        for name, weight in _MEMBERS.items():
            self._members[name] = await self._person(name, (Role.MEMBER,))
            user_id = self._people[f"{name}.id"]
            try:
                body = {"user_id": user_id, "weight": weight}
                member = await self._admin.post("policy_governance", "/api/v1/members", body, Member)
                self._narrate.say(f"member {name}: weight {member.weight}, wallet {member.wallet}")
            except ApiProblem as problem:
                if problem.problem.code != "member_exists":
                    raise
                self._narrate.say(f"member {name} is registered")
        name = f"desk-agent-{secrets.token_hex(3)}"
        self._agent = await self._admin.post("auth", "/api/v1/agents", {"name": name}, AgentCredentials)
        self._narrate.say(f"agent {name}: {self._agent.client_id}")

    async def _person(self, name: str, roles: tuple[Role, ...]) -> Api:
        if name not in self._people:
            password = secrets.token_urlsafe(18)
            body = {"username": name, "password": password, "roles": list(roles)}
            user = await self._admin.post("auth", "/api/v1/users", body, User)
            self._people |= {name: password, f"{name}.id": user.id}
            write_private_json(self._notes, self._people)
        return await self._sign_in(name, self._people[name])

    async def _sign_in(self, name: str, password: str) -> Api:
        token = await self._public.post(
            "auth", "/api/v1/sessions", {"username": name, "password": password}, AccessToken
        )
        return self._public.acting_as(token.access_token)

    # --- 2 ---

    async def _adopt(self) -> None:
        self._narrate.step("Adopt the constitution")
        kept = await self._operator.post(
            "constitutional_ai", "/api/v1/constitutions", self._constitution, ConstitutionVersion
        )
        self._narrate.say(f"{kept.name}: {kept.principles} principles, {kept.hash[:16]}")
        adopted = await self._operator.post(
            "constitutional_ai", f"/api/v1/constitutions/{kept.hash}/adoption", {}, ConstitutionVersion, wait=30
        )
        if adopted.status != "in_force":
            raise DemoFailed(f"the constitution is `{adopted.status}`: {adopted.refusal}")
        self._narrate.say(f"in force as version {adopted.version}; ledger transaction {adopted.ledger_signature}")

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
        report = await self._prove(draft.policies)
        if report.verdict != "refuted":
            raise DemoFailed(f"the permissive draft came out `{report.verdict}`, not refuted")
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
            report = await self._prove(draft.policies)
        if report.verdict != "proved" or report.certificate_hash is None:
            raise DemoFailed(f"after {rounds} repair(s) the draft is `{report.verdict}`")
        self._narrate.say(
            f"repaired {rounds} time(s), then proved: {len(report.obligations)} obligations in {report.milliseconds:.0f} ms"
        )
        path = f"/api/v1/certificates/{report.certificate_hash}"
        certificate = await self._operator.get("formal_verification", path, Certificate)
        self._narrate.say(f"certificate {certificate.hash[:16]}, signed by {certificate.key_id}")
        return draft.policies, certificate

    async def _prove(self, policies: str) -> VerificationReport:
        body = {"policies": policies, "constitution": self._constitution.model_dump(mode="json")}
        response = await self._operator.call(
            "POST", "formal_verification", "/api/v1/verifications", body=body, params={"wait": 60}
        )
        if response.status_code == 202:
            raise DemoFailed("the proof took longer than a minute")
        return VerificationReport.model_validate_json(response.content)

    # --- 5 ---

    async def _vote(self, policies: str, certificate: Certificate) -> Bundle:
        self._narrate.step("Propose, vote, finalise on the ledger")
        body = {
            "name": "Airline service desk",
            "policies": policies,
            "constitution": self._constitution.model_dump(mode="json"),
            "certificate": certificate.model_dump(mode="json"),
        }
        bundle = await self._operator.post("policy_governance", "/api/v1/bundles", body, Bundle)
        self._narrate.say(f"bundle {bundle.hash[:16]}: policies, schema, guards, certificate; signed")
        if bundle.status != "built":
            self._narrate.say(f"it is {bundle.status} already: an earlier vote accepted it")
            return bundle
        proposal = await self._members["ines"].post(
            "policy_governance",
            "/api/v1/proposals",
            {"bundle_hash": bundle.hash, "title": "The desk's first policies", "voting_seconds": 86_400},
            Proposal,
        )
        self._narrate.say(f"proposal {proposal.index} at {proposal.address}; closes {proposal.closes_at}")
        for name, choice in (("ines", "for"), ("jonas", "for"), ("mei", "against")):
            path = f"/api/v1/proposals/{proposal.id}/ballots"
            ballot = await self._members[name].post("policy_governance", path, {"choice": choice}, Ballot)
            self._narrate.say(f"{name} votes {choice} with weight {ballot.weight}: {ballot.signature[:20]}…")
        path = f"/api/v1/proposals/{proposal.id}/finalization"
        final = await self._members["ines"].post("policy_governance", path, {}, Proposal)
        if final.status != "enacted":
            raise DemoFailed(f"the proposal is `{final.status}`")
        state = await self._operator.get("policy_governance", "/api/v1/ledger/state", GovernanceState)
        share = 100 * final.for_weight / (final.for_weight + final.against_weight)
        self._narrate.say(
            f"accepted with {share:.1f} % (threshold {state.threshold_bp / 100:g} %) and enacted: {final.signatures['enact'][:20]}…"
        )
        return bundle

    # --- 6 ---

    async def _activate(self, bundle: Bundle) -> None:
        self._narrate.step("Activate the bundle")
        path = f"/api/v1/bundles/{bundle.hash}/activation"
        active = await self._operator.post("policy_governance", path, {}, Bundle)
        self._narrate.say(f"the decision point serves {active.hash[:16]} since {active.activated_at}")

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
            raise DemoFailed("no call was denied by a principle")
        return first_denied

    def _check(self, call: dict[str, Any], outcome: Executed | Refused) -> None:
        expected = call["expect"]["decision"]
        if (expected == "allow") != isinstance(outcome, Executed):
            detail = outcome.message if isinstance(outcome, Refused) else "it was executed"
            raise DemoFailed(f"{call['id']} should be `{expected}`: {detail}")

    async def _approve(self, point: EnforcementPoint, call: ToolCall, refused: Refused) -> None:
        token = await self._agent_token()
        body = {
            "decision_id": refused.decision_id,
            "request": refused.request.model_dump(mode="json") if refused.request else None,
            "note": "The customer waits at the desk.",
        }
        asked = await self._public.acting_as(token).post("policy_governance", "/api/v1/approvals", body, Approval)
        answer = {"answer": "granted", "reason": "The airline cancelled the flight; the sum is fair."}
        path = f"/api/v1/approvals/{asked.id}/answer"
        await self._operator.post("policy_governance", path, answer, Approval)
        outcome = await point.call(call, approval=asked.id)
        if not isinstance(outcome, Executed):
            raise DemoFailed(f"the approved call was refused: {outcome.message}")
        self._narrate.say(f"       a person approved exactly this call ({asked.id}); executed")
        again = await point.call(call, approval=asked.id)
        if isinstance(again, Executed):
            raise DemoFailed("an approval worked twice")

    async def _agent_token(self) -> str:
        async with httpx.AsyncClient(trust_env=False) as http:
            response = await http.post(
                self._settings.url("auth") + "/oauth2/token",
                data={"grant_type": "client_credentials"},
                auth=(self._agent.client_id, self._agent.client_secret),
            )
        return AccessToken.model_validate_json(response.content).access_token

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
            raise DemoFailed(f"`{self._folder / 'desk.py'}` is not there")
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
                await self._admin.call("POST", "integrity", "/api/v1/anchors")
                bundle = await self._operator.get(
                    "integrity", f"/api/v1/evidence/{decision_id}", EvidenceBundle, wait=20
                )
            except ApiProblem as problem:
                if problem.problem.status not in {404, 409, 503} or time.monotonic() > deadline:
                    raise
        file = self._home.root / f"evidence-{decision_id}.json"
        file.write_text(bundle.model_dump_json(indent=2))
        log_key = (await self._public.call("GET", "integrity", "/log-key")).text.strip()
        async with LedgerClient(self._settings.url("ledger")) as ledger:
            authority, program = (await ledger.governance()).log, str(ledger.program)
            landed = await ledger.transaction(bundle.anchor.signature)
        checks = verify_evidence(bundle, log_key, authority=authority, program_id=program)
        for check in checks:
            self._narrate.say(
                f"{'ok' if check.passed else '--' if check.passed is None else 'FAILED'}  {check.name}: {check.detail}"
            )
        if not verified(checks):
            raise DemoFailed("the evidence does not verify")
        if (
            landed is None
            or landed.error is not None
            or base64.b64encode(landed.raw).decode() != bundle.anchor.transaction
        ):
            raise DemoFailed(f"the ledger does not have transaction `{bundle.anchor.signature}`")
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
            raise DemoFailed(f"the run is `{run.status}`: {run.detail}")
        before = ", ".join(f"{name} {value}" for name, value in run.baseline.items())
        after = ", ".join(f"{name} {value}" for name, value in run.best.values.items())
        self._narrate.say(f"{before}: agrees with {run.baseline_agreement:.1%} of {run.outcomes} labels")
        self._narrate.say(
            f"{after}: agrees with {run.best.agreement:.1%}, proved ({run.refuted_candidates} better ones were refuted)"
        )
