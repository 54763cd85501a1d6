"""Bringing a constitution and its policies into force through the public APIs: people, adoption, proof, vote, activation."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from acgs1.contracts.auth import AccessToken, AgentCredentials, Identity, Role, User
from acgs1.contracts.common import Page
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionVersion
from acgs1.contracts.formal_verification import Certificate, VerificationReport
from acgs1.contracts.policy_governance import Ballot, Bundle, GovernanceState, Member, Proposal
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.api import Api, ApiProblem
from acgs1.runtime.notes import Person, UnreadableNotes, read_notes

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

    After `people`, `admin`, `operator` and `agent` are who they say. Steps raise FoundingFailed or ApiProblem. `password` is the
    administrator's; without it, the file that the first start wrote is read.
    """

    admin: Api

    def __init__(
        self,
        settings: PlatformSettings,
        http: httpx.AsyncClient,
        constitution: Constitution,
        narrator: Narrator,
        *,
        password: str | None = None,
    ) -> None:
        self._settings = settings
        self._home = Home(settings.home)
        self._narrate = narrator
        self._http = http
        self.constitution = constitution
        self.public = Api(http, settings)
        self._password = password
        try:
            self._notes = read_notes(self._home)
        except UnreadableNotes as error:
            raise FoundingFailed(str(error)) from None

    # --- people ---

    async def sign_in(self) -> str:
        """Sign the administrator in; where the password came from."""
        file = self._home.admin_password
        where, password = "given", self._password
        if password is None:
            try:
                where, password = f"in {file}", file.read_text().strip()
            except OSError as error:
                raise FoundingFailed(
                    f"the administrator's password is needed, and `{file}` cannot be read ({error.strerror}): set ACGS_PASSWORD to it"
                ) from None
        try:
            self.admin = await self.public.sign_in("admin", password)
        except ApiProblem as problem:
            if problem.problem.code != "invalid_credentials":
                raise
            raise FoundingFailed(
                f"the password of `admin` is not the one {where}: set ACGS_PASSWORD to the one it was changed to"
            ) from None
        return where

    async def people(self) -> None:
        """Sign the administrator in; make the members, an operator and an agent, those that are not there yet."""
        self._narrate.step("Sign in, register the agent and three voting members")
        self._narrate.say(f"administrator signed in; the password is the one {await self.sign_in()}")
        self.operator = await self._person("olu", (Role.OPERATOR, Role.LEGISLATOR, Role.AUDITOR))
        self._members: dict[str, Api] = {}
        for name, weight in _MEMBERS.items():
            self._members[name] = await self._person(name, (Role.MEMBER,))
            user_id = self._notes.people[name].id
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
        """Somebody of the example, signed in; their account is made where it is not there yet."""
        noted = self._notes.people.setdefault(name, Person(password=secrets.token_urlsafe(18)))
        if noted.id is None:
            # Kept before the account exists: a job that is cut off between the two can sign in all the same.
            self._notes.keep(self._home)
            try:
                body = {"username": name, "password": noted.password, "roles": list(roles)}
                await self.admin.post("auth", "/api/v1/users", body, User)
            except ApiProblem as problem:
                if problem.problem.code != "name_taken":
                    raise
        try:
            person = await self.public.sign_in(name, noted.password)
        except ApiProblem as problem:
            if problem.problem.code != "invalid_credentials":
                raise
            raise FoundingFailed(
                f"there is an account `{name}` whose password this job does not know; the example needs that name"
            ) from None
        if noted.id is None:
            noted.id = (await person.get("auth", "/api/v1/me", Identity)).id
            self._notes.keep(self._home)
        return person

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
        bundle = await self._built_before(policies)
        if bundle is None:
            body = {
                "name": name,
                "policies": policies,
                "constitution": self.constitution.model_dump(mode="json"),
                "certificate": certificate.model_dump(mode="json"),
            }
            bundle = await self.operator.post("policy_governance", "/api/v1/bundles", body, Bundle)
            # Before it can be active: from then on an active bundle that is not noted is somebody else's.
            self._notes.bundles.append(bundle.hash)
            self._notes.keep(self._home)
        self._narrate.say(f"bundle {bundle.hash[:16]}: policies, schema, guards, certificate; signed")
        if bundle.status != "built":
            self._narrate.say(f"it is {bundle.status} already: an earlier vote accepted it")
            return bundle
        proposal = await self._proposed_before(bundle)
        if proposal is None:
            body = {"bundle_hash": bundle.hash, "title": f"The first policies: {name}", "voting_seconds": 86_400}
            proposal = await self._members["ines"].post("policy_governance", "/api/v1/proposals", body, Proposal)
        self._narrate.say(f"proposal {proposal.index} at {proposal.address}; closes {proposal.closes_at}")
        for voter, choice in (("ines", "for"), ("jonas", "for"), ("mei", "against")):
            path = f"/api/v1/proposals/{proposal.id}/ballots"
            try:
                ballot = await self._members[voter].post("policy_governance", path, {"choice": choice}, Ballot)
            except ApiProblem as problem:
                if problem.problem.code not in {"ledger_already_voted", "proposal_not_open"}:
                    raise
                self._narrate.say(f"{voter} has voted already")
            else:
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

    async def _built_before(self, policies: str) -> Bundle | None:
        """The bundle that an earlier run has built of these policies: a certificate names its hour, so a new one makes a new bundle."""
        for noted in reversed(self._notes.bundles):
            bundle = await self.operator.find("policy_governance", f"/api/v1/bundles/{noted}", Bundle)
            if bundle and (bundle.policies, bundle.constitution_hash) == (policies, self.constitution.hash):
                return bundle
        return None

    async def _proposed_before(self, bundle: Bundle) -> Proposal | None:
        """The vote on it that an earlier run has begun, if it can still be carried on."""
        page = await self.operator.get("policy_governance", "/api/v1/proposals", Page[Proposal], limit=200)
        votes = (p for p in page.items if p.bundle_hash == bundle.hash and p.status in {"open", "accepted"})
        return next(votes, None)

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
