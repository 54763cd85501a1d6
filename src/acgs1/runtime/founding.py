"""Bringing a constitution and its policies into force through the public APIs: people, adoption, proof, vote, activation."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from acgs1.contracts.auth import AccessToken, AgentCredentials, Role, User
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionVersion
from acgs1.contracts.formal_verification import Certificate, VerificationReport
from acgs1.contracts.policy_governance import Ballot, Bundle, GovernanceState, Member, Proposal
from acgs1.kit.home import Home, write_private_json
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.api import Api, ApiProblem

_MEMBERS = {"ines": 3, "jonas": 2, "mei": 1}


class FoundingFailed(Exception):
    """A step did not come out as it must; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Narrator:
    """Says what happens: `step` opens a step, `say` adds a line to it."""

    step: Callable[[str], None]
    say: Callable[[str], None]


class Founding:
    """The founding of a governed system, step by step. Repeating it on the same data directory goes on with what is there.

    After `people`, `admin`, `operator` and `agent` are who they say. Steps raise FoundingFailed or ApiProblem.
    """

    def __init__(
        self, settings: PlatformSettings, http: httpx.AsyncClient, constitution: Constitution, narrator: Narrator
    ) -> None:
        self._settings = settings
        self._home = Home(settings.home)
        self._narrate = narrator
        self._http = http
        self.constitution = constitution
        self.public = Api(http, settings)
        # What these people need to sign in again; theirs alone (0600).
        self._notes = self._home.run / "demo.json"
        self._people: dict[str, str] = json.loads(self._notes.read_text()) if self._notes.exists() else {}

    # --- people ---

    async def people(self) -> None:
        """Sign the administrator in; make the members, an operator and an agent, those that are not there yet."""
        self._narrate.step("Sign in, register the agent and three voting members")
        password = self._home.admin_password.read_text().strip()
        self.admin = await self._sign_in("admin", password)
        self._narrate.say(f"administrator signed in; the password is in {self._home.admin_password}")
        self.operator = await self._person("olu", (Role.OPERATOR, Role.LEGISLATOR, Role.AUDITOR))
        self._members: dict[str, Api] = {}
        for name, weight in _MEMBERS.items():
            self._members[name] = await self._person(name, (Role.MEMBER,))
            user_id = self._people[f"{name}.id"]
            try:
                body = {"user_id": user_id, "weight": weight}
                member = await self.admin.post("policy_governance", "/api/v1/members", body, Member)
                self._narrate.say(f"member {name}: weight {member.weight}, wallet {member.wallet}")
            except ApiProblem as problem:
                if problem.problem.code != "member_exists":
                    raise
                self._narrate.say(f"member {name} is registered")
        name = f"desk-agent-{secrets.token_hex(3)}"
        self.agent = await self.admin.post("auth", "/api/v1/agents", {"name": name}, AgentCredentials)
        self._narrate.say(f"agent {name}: {self.agent.client_id}")

    async def _person(self, name: str, roles: tuple[Role, ...]) -> Api:
        if name not in self._people:
            password = secrets.token_urlsafe(18)
            body = {"username": name, "password": password, "roles": list(roles)}
            user = await self.admin.post("auth", "/api/v1/users", body, User)
            self._people |= {name: password, f"{name}.id": user.id}
            write_private_json(self._notes, self._people)
        return await self._sign_in(name, self._people[name])

    async def _sign_in(self, name: str, password: str) -> Api:
        token = await self.public.post(
            "auth", "/api/v1/sessions", {"username": name, "password": password}, AccessToken
        )
        return self.public.acting_as(token.access_token)

    # --- adoption ---

    async def adopt(self) -> None:
        """Keep the constitution and adopt it."""
        self._narrate.step("Adopt the constitution")
        kept = await self.operator.post(
            "constitutional_ai", "/api/v1/constitutions", self.constitution, ConstitutionVersion
        )
        self._narrate.say(f"{kept.name}: {kept.principles} principles, {kept.hash[:16]}")
        adopted = await self.operator.post(
            "constitutional_ai", f"/api/v1/constitutions/{kept.hash}/adoption", {}, ConstitutionVersion, wait=30
        )
        if adopted.status != "in_force":
            raise FoundingFailed(f"the constitution is `{adopted.status}`: {adopted.refusal}")
        self._narrate.say(f"in force as version {adopted.version}; ledger transaction {adopted.ledger_signature}")

    # --- proof ---

    async def prove(self, policies: str) -> VerificationReport:
        """The report on `policies`, whatever its verdict."""
        body = {"policies": policies, "constitution": self.constitution.model_dump(mode="json")}
        response = await self.operator.call(
            "POST", "formal_verification", "/api/v1/verifications", body=body, params={"wait": 60}
        )
        if response.status_code == 202:
            raise FoundingFailed("the proof took longer than a minute")
        return VerificationReport.model_validate_json(response.content)

    # --- vote ---

    async def vote(self, name: str, policies: str, certificate: Certificate) -> Bundle:
        """Build the bundle, propose it, vote, finalise; the bundle, adopted."""
        self._narrate.step("Propose, vote, finalise on the ledger")
        body = {
            "name": name,
            "policies": policies,
            "constitution": self.constitution.model_dump(mode="json"),
            "certificate": certificate.model_dump(mode="json"),
        }
        bundle = await self.operator.post("policy_governance", "/api/v1/bundles", body, Bundle)
        self._narrate.say(f"bundle {bundle.hash[:16]}: policies, schema, guards, certificate; signed")
        if bundle.status != "built":
            self._narrate.say(f"it is {bundle.status} already: an earlier vote accepted it")
            return bundle
        proposal = await self._members["ines"].post(
            "policy_governance",
            "/api/v1/proposals",
            {"bundle_hash": bundle.hash, "title": f"The first policies: {name}", "voting_seconds": 86_400},
            Proposal,
        )
        self._narrate.say(f"proposal {proposal.index} at {proposal.address}; closes {proposal.closes_at}")
        for voter, choice in (("ines", "for"), ("jonas", "for"), ("mei", "against")):
            path = f"/api/v1/proposals/{proposal.id}/ballots"
            ballot = await self._members[voter].post("policy_governance", path, {"choice": choice}, Ballot)
            self._narrate.say(f"{voter} votes {choice} with weight {ballot.weight}: {ballot.signature[:20]}…")
        path = f"/api/v1/proposals/{proposal.id}/finalization"
        final = await self._members["ines"].post("policy_governance", path, {}, Proposal)
        if final.status != "enacted":
            raise FoundingFailed(f"the proposal is `{final.status}`")
        state = await self.operator.get("policy_governance", "/api/v1/ledger/state", GovernanceState)
        share = 100 * final.for_weight / (final.for_weight + final.against_weight)
        self._narrate.say(
            f"accepted with {share:.1f} % (threshold {state.threshold_bp / 100:g} %) and enacted: {final.signatures['enact'][:20]}…"
        )
        return bundle

    # --- activation ---

    async def activate(self, bundle: Bundle) -> None:
        """Have the decision point serve the bundle."""
        self._narrate.step("Activate the bundle")
        path = f"/api/v1/bundles/{bundle.hash}/activation"
        active = await self.operator.post("policy_governance", path, {}, Bundle)
        self._narrate.say(f"the decision point serves {active.hash[:16]} since {active.activated_at}")

    async def agent_token(self) -> str:
        """A fresh access token of the agent."""
        response = await self._http.post(
            self._settings.url("auth") + "/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=(self.agent.client_id, self.agent.client_secret),
        )
        return AccessToken.model_validate_json(response.content).access_token
