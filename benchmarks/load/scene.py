"""What the load needs to exist before it starts: agents with tokens, a person who may look into things, documents to ask for, and
proposals to vote on. All of it is made through the public API; credentials are kept in the system's own data directory (0600)."""

import asyncio
import base64
import importlib.util
import json
import secrets
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, TypeVar

import httpx
from benchmarks.load.inputs import SEARCHED, Inputs, Outcomes, fresh_numbers, labels, some
from benchmarks.load.system import NotReady

from acgs1.agents.calls import ToolCall, evaluation_request
from acgs1.contracts.auth import AccessToken, AgentCredentials, Role, User
from acgs1.contracts.common import Page
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionDocument, ConstitutionVersion
from acgs1.contracts.evolutionary_computation import Run
from acgs1.contracts.formal_verification import Certificate, VerificationReport
from acgs1.contracts.governance_synthesis import Draft
from acgs1.contracts.integrity import Checkpoint, Entry
from acgs1.contracts.policy_governance import Bundle, DecisionRecord, Proposal
from acgs1.kit.home import Home, write_private_json
from acgs1.kit.notes import NoteVerifier
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.api import Api, ApiProblem
from acgs1.runtime.demo import example_folder
from acgs1.runtime.notes import read_notes

T = TypeVar("T")

EXAMPLE = "Airline service desk"
_PEOPLE = 12
_CONSTITUTIONS, _VERIFICATIONS, _DRAFTS, _RUNS, _DECISIONS = 24, 24, 24, 8, 60
_AT_A_TIME = 4
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
class Document:
    """Something that does not change: every answer must be the same JSON as `body`. `reader`: the token that may read it, or None where
    any of those may who read its kind."""

    path: str
    body: bytes
    reader: str | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    settings: PlatformSettings
    agents: list[Agent]
    people: list[str]
    """Tokens of people each of whom is operator, legislator and auditor."""
    service_token: str
    """Of policy_governance."""
    members: dict[str, str]
    """Tokens of the voting members, by name; the first can decide a vote, where there are more than the example's three."""
    cases: list[Case]
    whole: Constitution
    """The constitution in force."""
    constitution_hash: str
    amendments: list[str]
    """Hashes of drafts that amend one principle of it."""
    bundle: Bundle
    pattern: str
    """Policies drafted from `Inputs.pattern()`."""
    verified: list[tuple[int, bool]]
    """What was verified: the ceiling, and whether the policies complied with it."""
    thresholds: list[str]
    """Names of the thresholds in the bundle in force that a search may move, as `policy_id/attribute`."""
    entries: list[Entry]
    """In the order of `library["entry"]`."""
    log: NoteVerifier
    library: dict[str, list[Document]]
    """By kind of request; the most asked for come first."""
    proposals: list[Proposal]

    @property
    def token(self) -> str:
        return self.people[0]

    def to_verify(self, ceiling: int, proved: bool) -> dict[str, Any]:
        """A verification of policies that comply with `law(ceiling)`, or allow one unit too much."""
        return to_verify(Inputs(self.whole), ceiling, proved)

    def to_search(self, outcomes: Outcomes, seed: int) -> dict[str, Any]:
        return to_search(self.bundle, self.whole, self.thresholds[0], outcomes, seed)


async def prepare(settings: PlatformSettings, users: int, ballots: int) -> Scene:
    """Make the scene for `users` agents and `ballots` ballots, as far as the members go.

    Raises NotReady where the airline example is not in force.
    """
    home = Home(settings.home)
    founders = read_notes(home).people
    if not {"ines", "jonas", "mei"} <= founders.keys():
        raise NotReady(f"the airline example is not in force on `{settings.home}`: run `acgs1 demo` there first")
    async with httpx.AsyncClient(timeout=60.0, trust_env=False) as http:
        public = Api(http, settings)
        desk, agents, people, voters = await _callers(http, public, settings, users)
        service = await _agent(http, settings, "policy_governance", home.service_secret("policy_governance"))
        passwords = {**{name: founders[name].password for name in ("ines", "jonas", "mei")}, **voters}
        members = dict(zip(passwords, await _each(_sign_in(public, *pair) for pair in passwords.items()), strict=True))

        bundle = await desk.get("policy_governance", "/api/v1/bundles/active", Bundle)
        if bundle.name != EXAMPLE:
            raise NotReady(
                f"the active bundle is `{bundle.name}`; the load knows the right answers of `{EXAMPLE}` only"
            )
        document = await desk.get("constitutional_ai", "/api/v1/constitutions/in-force", ConstitutionDocument)
        cases = await example_cases()
        await _each(
            http.post(settings.url("policy_governance") + "/access/v1/evaluation", json=case_body(agent, case),
                      headers={"Authorization": f"Bearer {agent.token}"})
            for agent, case in zip(agents[:_DECISIONS], cycle(cases))
        )  # fmt: skip
        shelves = _Shelves(desk, document, bundle)
        library, verified, amendments, pattern, thresholds = await shelves.fill()
        # One by each member: a second proposal of the same certificate by the same member is taken for the first one repeated.
        proposers = list(members.values())[: -(-ballots // len(members))]
        about = {"bundle_hash": bundle.hash, "title": "Ballots of a load test", "voting_seconds": _VOTING_SECONDS}
        proposals = [
            await public.acting_as(proposer).post("policy_governance", "/api/v1/proposals", about, Proposal)
            for proposer in proposers
        ]
        vkey = (await public.call("GET", "integrity", "/log-key")).text.strip()
        # Last: by now the log has entries of everything above.
        entries = await _entries(desk)
        own = {agent.id: agent.token for agent in agents}
        library["entry"] = [
            replace(document, reader=own.get(entry.event.actor))
            for document, entry in zip(
                await shelves.read("integrity", [f"/api/v1/entries/{e.event.id}" for e in entries]),
                entries,
                strict=True,
            )
        ]
    return Scene(
        settings, agents, people, service.token, members, cases, document.constitution, bundle.constitution_hash, amendments, bundle,
        pattern, verified, thresholds, entries, NoteVerifier.from_vkey(vkey), library, proposals,
    )  # fmt: skip


async def _callers(
    http: httpx.AsyncClient, public: Api, settings: PlatformSettings, users: int
) -> tuple[Api, list[Agent], list[str], dict[str, str]]:
    """Whoever asks during the load: agents and people, made where they are missing, each with a token; and the passwords of the members
    that the load has added, if any. The notes with their credentials are only for whoever owns the data directory (0600)."""
    home = Home(settings.home)
    notes_file = home.run / "load.json"
    notes: dict[str, Any] = json.loads(notes_file.read_text()) if notes_file.exists() else {}
    admin = await public.sign_in("admin", home.admin_password.read_text().strip())
    people: dict[str, str] = notes.setdefault("people", {})

    async def introduced(name: str) -> None:
        password, roles = secrets.token_urlsafe(18), [Role.OPERATOR, Role.LEGISLATOR, Role.AUDITOR]
        await admin.post("auth", "/api/v1/users", {"username": name, "password": password, "roles": roles}, User)
        people[name] = password
        write_private_json(notes_file, notes)

    names = [f"load-person-{number:02d}" for number in range(_PEOPLE)]
    await _each(introduced(name) for name in names if name not in people)
    agents: dict[str, str] = notes.setdefault("agents", {})

    async def made() -> AgentCredentials:
        return await admin.post("auth", "/api/v1/agents", {"name": f"load-{secrets.token_hex(6)}"}, AgentCredentials)

    fresh = await _each(made() for _ in range(users - len(agents)))
    agents |= {one.client_id: one.client_secret for one in fresh}
    write_private_json(notes_file, notes)
    tokens = await _each(_sign_in(public, *pair) for pair in people.items())
    ready = await _each(_agent(http, settings, *pair) for pair in list(agents.items())[:users])
    return public.acting_as(tokens[0]), ready, tokens, notes.get("members", {})


class _Shelves:
    """Makes documents of every kind through the API, and reads each once: what was said then must be said during the load."""

    def __init__(self, desk: Api, document: ConstitutionDocument, bundle: Bundle) -> None:
        self._desk = desk
        self._document = document
        self._bundle = bundle
        self._inputs = Inputs(document.constitution)
        self._numbers = fresh_numbers()

    async def read(self, part: str, paths: Iterable[str]) -> list[Document]:
        paths = list(paths)
        answers = await _each(self._desk.call("GET", part, path) for path in paths)
        return [Document(path, answer.content) for path, answer in zip(paths, answers, strict=True)]

    async def fill(self) -> tuple[dict[str, list[Document]], list[tuple[int, bool]], list[str], str, list[str]]:
        """The library, what was verified, the amendments, the drafted pattern, and the thresholds that runs have searched."""
        library: dict[str, list[Document]] = {}
        amendments = [await self._amendment() for _ in range(_CONSTITUTIONS)]
        verified = [(next(self._numbers), number % 3 > 0) for number in range(_VERIFICATIONS)]
        reports = await _each(self._report(*asked) for asked in verified)
        certificates = [self._bundle.certificate_hash, *(r.certificate_hash for r in reports if r.certificate_hash)]
        bundles = await _each(
            self._built(*pair) for pair in list(zip(verified, reports, strict=True)) if pair[1].certificate_hash
        )
        drafts = await _each(
            self._draft(self._inputs.to_draft(next(self._numbers), beside)) for beside in range(_DRAFTS)
        )
        pattern = await self._draft(self._inputs.pattern())
        runs = [await self._run(number) for number in range(_RUNS)]
        decisions = await self._desk.get("policy_governance", "/api/v1/decisions", Page[DecisionRecord], limit=200)
        shelf = {
            "jwks": ("auth", ["/.well-known/jwks.json"]),
            "in-force": ("constitutional_ai", ["/api/v1/constitutions/in-force"]),
            "constitution": ("constitutional_ai", [f"/api/v1/constitutions/{h}" for h in (self._document.meta.hash, *amendments)]),
            "principle": ("constitutional_ai", [f"/api/v1/principles/{p.id}" for p in self._document.constitution.principles]),
            "certificate": ("formal_verification", [f"/api/v1/certificates/{h}" for h in certificates]),
            "report": ("formal_verification", [f"/api/v1/verifications/{r.id}" for r in reports]),
            "draft": ("governance_synthesis", [f"/api/v1/drafts/{d.id}" for d in drafts]),
            "run": ("evolutionary_computation", [f"/api/v1/runs/{r.id}" for r in runs]),
            "bundle": ("policy_governance", ["/api/v1/bundles/active", *(f"/api/v1/bundles/{b.hash}" for b in bundles)]),
            "decision": ("policy_governance", [f"/api/v1/decisions/{d.id}" for d in decisions.items]),
        }  # fmt: skip
        for kind, (part, paths) in shelf.items():
            library[kind] = await self.read(part, paths)
        return library, verified, amendments, pattern.policies, list(runs[0].baseline)

    async def _amendment(self) -> str:
        body = self._inputs.amendment(next(self._numbers))
        return (await self._desk.post("constitutional_ai", "/api/v1/constitutions", body, ConstitutionVersion)).hash

    async def _report(self, ceiling: int, proved: bool) -> VerificationReport:
        body = to_verify(self._inputs, ceiling, proved)
        return await self._desk.post("formal_verification", "/api/v1/verifications", body, VerificationReport, wait=60)

    async def _built(self, asked: tuple[int, bool], report: VerificationReport) -> Bundle:
        path = f"/api/v1/certificates/{report.certificate_hash}"
        certificate = await self._desk.get("formal_verification", path, Certificate)
        body = to_verify(self._inputs, *asked) | {
            "name": f"{EXAMPLE}, variant {asked[0]}",
            "certificate": certificate.model_dump(mode="json"),
        }
        return await self._desk.post("policy_governance", "/api/v1/bundles", body, Bundle)

    async def _draft(self, constitution: Constitution) -> Draft:
        body = {"constitution": constitution.model_dump(mode="json")}
        return await self._desk.post("governance_synthesis", "/api/v1/drafts", body, Draft)

    async def _run(self, number: int) -> Run:
        earlier = await self._desk.get("evolutionary_computation", "/api/v1/runs", Page[Run])
        if not earlier.items:
            raise NotReady("evolutionary_computation has no run; run `acgs1 demo --again`")
        (threshold,) = earlier.items[-1].baseline
        body = to_search(self._bundle, self._document.constitution, threshold, some(labels(), number), number)
        run = await self._desk.post("evolutionary_computation", "/api/v1/runs", body, Run)
        while run.status == "running":
            run = await self._desk.get("evolutionary_computation", f"/api/v1/runs/{run.id}", Run, wait=20)
        return run


def to_verify(inputs: Inputs, ceiling: int, proved: bool) -> dict[str, Any]:
    """The body of a verification of policies that comply with `law(ceiling)`, or allow one unit too much."""
    return {
        "policies": inputs.rules(ceiling if proved else ceiling + 1),
        "constitution": inputs.law(ceiling).model_dump(mode="json"),
    }


def to_search(bundle: Bundle, whole: Constitution, threshold: str, outcomes: Outcomes, seed: int) -> dict[str, Any]:
    """The body of a run that moves `threshold` (`policy_id/attribute`) of the bundle's policies."""
    policy, _, attribute = threshold.partition("/")
    bounds = {"minimum": SEARCHED.start, "maximum": SEARCHED.stop - 1}
    return {
        "policies": bundle.policies,
        "constitution": whole.model_dump(mode="json"),
        "tunables": [{"policy_id": policy, "attribute": attribute, **bounds}],
        "outcomes": outcomes,
        "seed": seed,
    }


def case_body(agent: Agent, case: Case) -> dict[str, Any]:
    """The case, asked by `agent`."""
    return {**case.facts, "subject": {**case.facts["subject"], "id": agent.id}}


async def _each(asked: Iterable[Awaitable[T]]) -> list[T]:
    """All of them, a few at a time."""
    few = asyncio.Semaphore(_AT_A_TIME)

    async def one(work: Awaitable[T]) -> T:
        async with few:
            return await work

    return await asyncio.gather(*(one(work) for work in asked))


async def close_votes(scene: Scene) -> int:
    """Finalise the proposals of the load, all of them voted down, so that nobody has to follow them any more; how many were closed.

    The ledger refuses to close a vote early in which somebody could still turn the result; such a one ends with its window.
    """
    closed = 0
    async with httpx.AsyncClient(timeout=60.0, trust_env=False) as http:
        member = Api(http, scene.settings).acting_as(next(iter(scene.members.values())))
        for proposal in scene.proposals:
            path = f"/api/v1/proposals/{proposal.id}"
            with suppress(ApiProblem):
                # Where this one has not voted yet, nobody knows the result.
                await member.call("POST", "policy_governance", f"{path}/ballots", body={"choice": "against"})
            with suppress(ApiProblem):
                done = await member.post("policy_governance", f"{path}/finalization", {}, Proposal)
                closed += done.status == "rejected"
    return closed


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
    """Up to 200 entries that the newest checkpoint covers, the newest first; waits for those of the agents' decisions."""
    covered: list[Entry] = []
    for _ in range(50):
        checkpoint = await desk.get("integrity", "/api/v1/checkpoints/latest", Checkpoint)
        page = await desk.get("integrity", "/api/v1/entries", Page[Entry], limit=200)
        covered = [entry for entry in page.items if entry.leaf_index < checkpoint.tree_size]
        if len(covered) >= min(200, _DECISIONS) and len(covered) > len(page.items) - 20:
            return covered
        await asyncio.sleep(0.2)
    if len(covered) < 20:
        raise NotReady("the newest checkpoint covers fewer than 20 entries")
    return covered
