"""What the load needs to exist before it starts: agents with tokens, a person who may look into things, documents to ask for, and
proposals to vote on. All of it is made through the public API; credentials are kept in the system's own data directory (0600)."""

import asyncio
import base64
import importlib.util
import json
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
from benchmarks.load.system import NotReady

from acgs1.agents.calls import ToolCall, evaluation_request
from acgs1.contracts.auth import AccessToken, AgentCredentials, Role, User
from acgs1.contracts.common import Page
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionDocument
from acgs1.contracts.evolutionary_computation import Run
from acgs1.contracts.formal_verification import Certificate, VerificationReport, VerificationSummary
from acgs1.contracts.governance_synthesis import Draft
from acgs1.contracts.integrity import Checkpoint, Entry
from acgs1.contracts.policy_governance import Bundle, Proposal
from acgs1.kit.home import Home, write_private_json
from acgs1.kit.notes import NoteVerifier
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.api import Api, ApiProblem
from acgs1.runtime.demo import example_folder
from acgs1.runtime.notes import read_notes

EXAMPLE = "Airline service desk"
_PERSON = "load-desk"
# Ends by itself where the load is cut off before its votes are closed; longer than any load within the bound on requests takes to prepare.
_VOTING_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Agent:
    """One user of the load: an agent with credentials of its own."""

    id: str
    secret: str
    token: str


@dataclass(frozen=True, slots=True)
class Case:
    """A request to decide and the answer that the example's authors wrote down beside it. `facts` lacks the subject's id."""

    name: str
    facts: dict[str, Any]
    allowed: bool
    principles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Scene:
    settings: PlatformSettings
    agents: list[Agent]
    token: str
    """Of a person who is operator, legislator and auditor."""
    service_token: str
    """Of policy_governance."""
    members: dict[str, str]
    """Tokens of the voting members, by name."""
    cases: list[Case]
    constitution: Constitution
    constitution_hash: str
    bundle: Bundle
    certificate: Certificate
    report: VerificationReport
    draft: Draft
    run: Run
    run_labels: list[dict[str, Any]]
    entries: list[Entry]
    log: NoteVerifier
    documents: dict[tuple[str, str], bytes]
    """Bodies of documents that do not change, by part and path: every answer must be the same JSON."""
    proposals: list[Proposal]


async def prepare(settings: PlatformSettings, users: int, ballots: int) -> Scene:
    """Make the scene for `users` agents and `ballots` ballots, as far as the members go.

    Raises NotReady where the airline example is not in force.
    """
    home = Home(settings.home)
    notes_file = home.run / "load.json"
    notes: dict[str, Any] = json.loads(notes_file.read_text()) if notes_file.exists() else {"agents": {}}
    people = read_notes(home).people
    if not {"ines", "jonas", "mei"} <= people.keys():
        raise NotReady(f"the airline example is not in force on `{settings.home}`: run `acgs1 demo` there first")
    async with httpx.AsyncClient(timeout=60.0, trust_env=False) as http:
        public = Api(http, settings)
        admin = public.acting_as(await _sign_in(public, "admin", home.admin_password.read_text().strip()))
        if "password" not in notes:
            notes["password"] = secrets.token_urlsafe(18)
            body = {
                "username": _PERSON,
                "password": notes["password"],
                "roles": [Role.OPERATOR, Role.LEGISLATOR, Role.AUDITOR],
            }
            await admin.post("auth", "/api/v1/users", body, User)
            write_private_json(notes_file, notes)
        token = await _sign_in(public, _PERSON, notes["password"])
        desk = public.acting_as(token)
        while len(notes["agents"]) < users:
            name = f"load-{secrets.token_hex(6)}"
            made = await admin.post("auth", "/api/v1/agents", {"name": name}, AgentCredentials)
            notes["agents"][made.client_id] = made.client_secret
            write_private_json(notes_file, notes)
        agents = [await _agent(http, settings, *pair) for pair in list(notes["agents"].items())[:users]]
        service = await _agent(http, settings, "policy_governance", home.service_secret("policy_governance"))
        members = {name: await _sign_in(public, name, people[name].password) for name in ("ines", "jonas", "mei")}

        bundle = await desk.get("policy_governance", "/api/v1/bundles/active", Bundle)
        if bundle.name != EXAMPLE:
            raise NotReady(
                f"the active bundle is `{bundle.name}`; the load knows the right answers of `{EXAMPLE}` only"
            )
        document = await desk.get("constitutional_ai", "/api/v1/constitutions/in-force", ConstitutionDocument)
        certificate = await desk.get(
            "formal_verification", f"/api/v1/certificates/{bundle.certificate_hash}", Certificate
        )
        summaries = await desk.get("formal_verification", "/api/v1/verifications", Page[VerificationSummary])
        done = next(s for s in summaries.items if s.status == "done")
        report = await desk.get("formal_verification", f"/api/v1/verifications/{done.id}", VerificationReport)
        constitution = small_constitution(document.constitution)
        draft = await desk.post(
            "governance_synthesis", "/api/v1/drafts", {"constitution": constitution.model_dump(mode="json")}, Draft
        )
        runs = await desk.get("evolutionary_computation", "/api/v1/runs", Page[Run])
        run = next((r for r in runs.items if r.status == "done"), None)
        if run is None:
            raise NotReady("evolutionary_computation has no finished run; run `acgs1 demo --again`")
        entries = await _entries(desk)
        vkey = (await public.call("GET", "integrity", "/log-key")).text.strip()
        # One by each member: a second proposal of the same certificate by the same member is taken for the first one repeated.
        proposers = list(members.values())[: -(-ballots // len(members))]
        about = {"bundle_hash": bundle.hash, "title": "Ballots of a load test", "voting_seconds": _VOTING_SECONDS}
        proposals = [
            await public.acting_as(proposer).post("policy_governance", "/api/v1/proposals", about, Proposal)
            for proposer in proposers
        ]
        principle = document.constitution.principles[0].id
        fixed = [
            ("auth", "/.well-known/jwks.json"),
            ("constitutional_ai", "/api/v1/constitutions/in-force"),
            ("constitutional_ai", f"/api/v1/principles/{principle}"),
            ("formal_verification", f"/api/v1/certificates/{bundle.certificate_hash}"),
            ("formal_verification", f"/api/v1/verifications/{report.id}"),
            ("governance_synthesis", f"/api/v1/drafts/{draft.id}"),
            ("evolutionary_computation", f"/api/v1/runs/{run.id}"),
            ("policy_governance", "/api/v1/bundles/active"),
            *(("integrity", f"/api/v1/entries/{entry.event.id}") for entry in entries),
        ]
        documents = {(part, path): (await desk.call("GET", part, path)).content for part, path in fixed}
    labels = json.loads((example_folder() / "labels.json").read_text())
    return Scene(
        settings, agents, token, service.token, members, await example_cases(), constitution, bundle.constitution_hash, bundle, certificate,
        report, draft, run, labels["outcomes"], entries, NoteVerifier.from_vkey(vkey), documents, proposals,
    )  # fmt: skip


async def close_votes(scene: Scene) -> int:
    """Finalise the proposals of the load, all of them voted down, so that nobody has to follow them any more; how many were closed.

    The ledger refuses to close a vote early in which somebody could still turn the result; such a one ends with its window.
    """
    closed = 0
    async with httpx.AsyncClient(timeout=60.0, trust_env=False) as http:
        member = Api(http, scene.settings).acting_as(next(iter(scene.members.values())))
        for proposal in scene.proposals:
            with suppress(ApiProblem):
                path = f"/api/v1/proposals/{proposal.id}/finalization"
                closed += (await member.post("policy_governance", path, {}, Proposal)).status == "rejected"
    return closed


def small_constitution(whole: Constitution) -> Constitution:
    """One principle of the constitution: little enough to prove and to draft from while people wait."""
    return whole.model_copy(update={"principles": (whole.principles[0],)})


async def example_cases() -> list[Case]:
    """The example's recorded calls in their order, each with the facts as they stand when it is made.

    The records change as allowed calls are carried out, here as in the demo; what is right comes from the example's file, never from
    the system under test.
    """
    folder = example_folder()
    spec = importlib.util.spec_from_file_location("acgs1_example_desk", folder / "desk.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    desk: Any = module.Desk.load(folder / "database.json")
    cases: list[Case] = []
    for call in json.loads((folder / "agent_calls.json").read_text())["calls"]:
        asked = ToolCall(call["tool"], call["arguments"], call["agent"], call.get("customer"))
        request = evaluation_request(asked, await desk.facts(asked))
        expected = call["expect"]
        allowed = expected["decision"] == "allow"
        cases.append(
            Case(
                call["id"],
                request.model_dump(mode="json"),
                allowed,
                frozenset(() if allowed else expected.get("principles", ())),
            )
        )
        if allowed:
            desk.tools[asked.tool](**asked.arguments)
    return cases


async def _sign_in(public: Api, name: str, password: str) -> str:
    token = await public.post("auth", "/api/v1/sessions", {"username": name, "password": password}, AccessToken)
    return token.access_token


async def _agent(http: httpx.AsyncClient, settings: PlatformSettings, client_id: str, secret: str) -> Agent:
    form = {"grant_type": "client_credentials"}
    response = await http.post(settings.url("auth") + "/oauth2/token", data=form, auth=(client_id, secret))
    return Agent(client_id, secret, AccessToken.model_validate_json(response.content).access_token)


def basic(agent: Agent) -> str:
    """HTTP Basic credentials (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{agent.id}:{agent.secret}".encode()).decode()


async def _entries(desk: Api) -> list[Entry]:
    """Up to 40 entries that the newest checkpoint covers."""
    for _ in range(50):
        checkpoint = await desk.get("integrity", "/api/v1/checkpoints/latest", Checkpoint)
        page = await desk.get("integrity", "/api/v1/entries", Page[Entry], limit=100)
        covered = [entry for entry in page.items if entry.leaf_index < checkpoint.tree_size]
        if len(covered) >= 20:
            return covered[:40]
        await asyncio.sleep(0.2)
    raise NotReady("the newest checkpoint covers fewer than 20 entries")
