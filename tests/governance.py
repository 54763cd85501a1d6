"""Policy governance with fakes for the parts beside it, on the airline example. The database, the spool and the kernel are real."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from acgs1.contracts.auth import Identity, Role, User
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Commitment
from acgs1.contracts.formal_verification import (
    Certificate,
    CertificateBody,
    ObligationEvidence,
    RequestEnvironment,
    VerifierKey,
)
from acgs1.contracts.policy_governance import (
    DecisionRecord,
    EvaluationRequest,
    GovernanceState,
    LedgerReceipt,
    Member,
    NewBundle,
    Proposal,
)
from acgs1.core.canonical import canonical_json
from acgs1.core.clock import ManualClock
from acgs1.core.hashing import sha256_hex, text_hash
from acgs1.core.ids import new_id
from acgs1.kit.constitution_file import load_constitution
from acgs1.kit.db import Database, Store
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.signing import SigningKey, base64url_encode
from acgs1.ledger.errors import ProgramError
from acgs1.services.policy_governance.adapters.engine import KernelLoader
from acgs1.services.policy_governance.adapters.parts import RemoteVerifier
from acgs1.services.policy_governance.adapters.sealer import KeySealer
from acgs1.services.policy_governance.adapters.spool import DecisionSpool
from acgs1.services.policy_governance.domain import Emergencies, Recorded, commitment, request_digest
from acgs1.services.policy_governance.repository import GovernanceRepository
from acgs1.services.policy_governance.service.approvals import Approvals
from acgs1.services.policy_governance.service.bundles import Bundles
from acgs1.services.policy_governance.service.decisions import DecisionPoint
from acgs1.services.policy_governance.service.voting import Voting

AIRLINE = Path(__file__).parents[1] / "examples" / "airline"
MIGRATIONS = Path(__file__).parents[1] / "src" / "acgs1" / "services" / "policy_governance" / "migrations"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def person(*roles: Role) -> Identity:
    return Identity(id=new_id("usr"), name="tester", roles=roles)


AGENT = Identity(id="desk-agent", name="desk-agent", roles=(Role.AGENT,))
OPERATOR = Identity(id="usr_operator", name="olu", roles=(Role.OPERATOR,))


def airline() -> Constitution:
    return load_constitution(AIRLINE / "constitution.yaml")


def airline_policies() -> str:
    return (AIRLINE / "policies.cedar").read_text()


class FakeLedger:
    """The program's rules as far as this service meets them: one vote per member, enactment by weight, being away."""

    def __init__(self) -> None:
        self.constitution: str | None = None
        self.away = False
        self.acting: Emergencies = Emergencies()
        self.weights: dict[str, int] = {}
        self.proposals: list[Proposal] = []
        self.content: dict[int, str] = {}
        self.voted: set[tuple[int, str]] = set()
        self.enacted: set[str] = set()

    def _here(self) -> None:
        if self.away:
            raise DependencyUnavailable("`ledger` is not available: it was switched off by the test")

    async def state(self) -> GovernanceState:
        self._here()
        return GovernanceState(
            program_id="p",
            constitution_hash=self.constitution,
            constitution_version=1 if self.constitution else 0,
            ratified=self.constitution is not None,
            threshold_bp=6000,
            quorum_bp=5000,
            members=len(self.weights),
            total_weight=sum(self.weights.values()),
            proposals=len(self.proposals),
        )

    async def ratify(self, constitution: Constitution) -> LedgerReceipt:
        self._here()
        self.constitution = constitution.hash
        return LedgerReceipt(signature="ratified", constitution_hash=constitution.hash, constitution_version=1)

    async def register_member(self, user_id: str, weight: int) -> Member:
        self._here()
        self.weights.setdefault(user_id, weight)
        index = list(self.weights).index(user_id)
        return Member(user_id=user_id, wallet=f"wallet-{index}", weight=self.weights[user_id], index=index)

    async def propose(self, proposal: Proposal, content_hash: str, proposer: str, seconds: int) -> Proposal:
        self._here()
        for known in self.proposals:
            if known.certificate_hash == proposal.certificate_hash and known.proposed_by == proposer:
                return known.model_copy(update={"id": proposal.id})
        closes = NOW + timedelta(seconds=seconds)
        change = {"status": "open", "index": len(self.proposals), "address": "address", "closes_at": closes}
        opened = proposal.model_copy(update=change)
        self.proposals.append(opened)
        self.content[opened.index or 0] = content_hash
        return opened

    async def follow(self, proposal: Proposal) -> Proposal:
        self._here()
        if proposal.index is None:
            return proposal
        known = self.proposals[proposal.index]
        names = ("status", "for_weight", "against_weight", "abstain_weight")
        return proposal.model_copy(update={name: getattr(known, name) for name in names})

    async def vote(self, user_id: str, proposal: Proposal, choice: str) -> str:
        self._here()
        assert proposal.index is not None
        if (proposal.index, user_id) in self.voted:
            raise ProgramError("AlreadyVoted", 6006, "the member has voted on this proposal", {})
        self.voted.add((proposal.index, user_id))
        known = self.proposals[proposal.index]
        name = f"{choice}_weight"
        self.proposals[proposal.index] = known.model_copy(update={name: getattr(known, name) + self.weights[user_id]})
        return f"vote-{user_id}"

    async def finalize(self, proposal: Proposal) -> Proposal:
        self._here()
        assert proposal.index is not None
        known = self.proposals[proposal.index]
        counted = known.for_weight + known.against_weight
        accepted = counted > 0 and known.for_weight * 10_000 >= 6000 * counted
        self.proposals[proposal.index] = known.model_copy(update={"status": "accepted" if accepted else "rejected"})
        return await self.follow(proposal)

    async def enact(self, proposal: Proposal) -> Proposal:
        self._here()
        assert proposal.index is not None
        self.enacted.add(self.content[proposal.index])
        known = self.proposals[proposal.index]
        self.proposals[proposal.index] = known.model_copy(update={"status": "enacted"})
        followed = await self.follow(proposal)
        return followed.model_copy(update={"signatures": {**proposal.signatures, "enact": "enacted"}})

    async def is_enacted(self, policies_hash: str) -> bool:
        self._here()
        return policies_hash in self.enacted

    async def emergencies(self, now: datetime) -> Emergencies:
        self._here()
        return self.acting

    async def emergency(self, kind: str, target: str | None, reason: str, seconds: int) -> int:
        self._here()
        held = {
            "suspended": self.acting.suspended | ({target} if kind == "suspend_policy" and target else set()),
            "revoked": self.acting.revoked | ({text_hash(target)} if kind == "revoke_agent" and target else set()),
            "frozen": self.acting.frozen or kind == "freeze_activation",
        }
        self.acting = Emergencies(**held)
        return 0


class VerifierClient:
    """Formal verification over the wire: publishes the key that signs certificates here, attests whatever it is asked to."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.attested: list[str] = []

    async def get(self, path: str, answer: type[BaseModel]) -> BaseModel:
        assert path == "/api/v1/verifier-key"
        return VerifierKey(key_id=self.key.public.key_id, public_key=self.key.public.base64url)

    async def post(self, path: str, body: BaseModel, answer: type[BaseModel], **_: Any) -> BaseModel:
        self.attested.append(path)
        return answer.model_validate(
            {"certificate_hash": path.split("/")[4], "constitution_version": 1, "signature": "attested"}
        )

    def certificate(self, policies: str, constitution: Constitution, **changes: Any) -> Certificate:
        """A certificate for exactly these; `changes` alter its body before it is signed."""
        evidence = ObligationEvidence(
            id="o1",
            kind="never",
            principle_id=constitution.principles[0].id,
            environment=RequestEnvironment(principal="Agent", action='Action::"hand_over"', resource="Desk"),
            smtlib_sha256=None,
            verdict="proved",
            solver="cvc5",
            second_opinion="not_run",
        )
        body = CertificateBody.model_validate(
            {
                "policies_hash": text_hash(policies),
                "schema_hash": text_hash(constitution.schema_text),
                "constitution_hash": constitution.hash,
                "obligations": [evidence],
                "kernel": "k",
                "solver": "cvc5",
                "issued_at": NOW,
                **changes,
            }
        )
        signed = canonical_json(body.model_dump(mode="json"))
        return Certificate(
            body=body,
            hash=sha256_hex(signed),
            key_id=self.key.public.key_id,
            signature=base64url_encode(self.key.sign(signed)),
        )


class FakePeople:
    def __init__(self) -> None:
        self.accounts: dict[str, User] = {}

    def add(self, *roles: Role, active: bool = True) -> Identity:
        who = person(*roles)
        self.accounts[who.id] = User(id=who.id, username="name", roles=roles, active=active, created_at=NOW)
        return who

    async def user(self, user_id: str) -> User | None:
        return self.accounts.get(user_id)


@dataclass
class Room:
    """Policy governance without its HTTP side."""

    home: Path
    database: Database
    ledger: FakeLedger
    people: FakePeople
    verifier: VerifierClient
    clock: ManualClock
    spool: DecisionSpool
    store: Store[GovernanceRepository]
    point: DecisionPoint
    bundles: Bundles
    voting: Voting
    approvals: Approvals

    def restarted(self) -> "Room":
        """The same data, served by a process that has just started."""
        return _assemble(self.home, self.database, self.ledger, self.people, self.verifier, self.clock, self.spool)

    def new_bundle(self, policies: str | None = None, **changes: Any) -> NewBundle:
        policies, constitution = policies or airline_policies(), airline()
        certificate = self.verifier.certificate(policies, constitution, **changes)
        return NewBundle(name="desk", policies=policies, constitution=constitution, certificate=certificate)

    async def in_force(self, policies: str | None = None) -> str:
        """Adopt the constitution and put a bundle in force by a vote of one member; its hash."""
        self.ledger.constitution = airline().hash
        bundle = await self.bundles.build(self.new_bundle(policies), OPERATOR)
        self.ledger.enacted.add(text_hash(bundle.policies))
        await self.bundles.activate(bundle.hash, OPERATOR)
        return bundle.hash


def _assemble(
    home: Path,
    database: Database,
    ledger: FakeLedger,
    people: FakePeople,
    verifier: VerifierClient,
    clock: ManualClock,
    spool: DecisionSpool,
) -> Room:
    store = Store(database, GovernanceRepository)
    point = DecisionPoint(store, spool, clock)
    remote = RemoteVerifier(verifier)  # type: ignore[arg-type] - answers the two calls that are made
    (home / "seal").mkdir(exist_ok=True)
    bundles = Bundles(store, ledger, remote, KeySealer(home / "seal"), KernelLoader(), point, clock)
    voting = Voting(store, ledger, people, remote, clock)
    approvals = Approvals(store, spool, clock)
    return Room(home, database, ledger, people, verifier, clock, spool, store, point, bundles, voting, approvals)


async def open_room(home: Path, url: str | None = None, schema: str | None = None) -> Room:
    database = Database(url or f"sqlite+aiosqlite:///{home / 'governance.sqlite3'}", schema=schema)
    await database.migrate(MIGRATIONS)
    spool = DecisionSpool(home / "spool")
    return _assemble(home, database, FakeLedger(), FakePeople(), VerifierClient(), ManualClock(NOW), spool)


async def close_room(room: Room) -> None:
    await room.spool.close()
    await room.database.close()


def request(
    action: str = "look_up_booking",
    *,
    agent: str = AGENT.id,
    subject: dict[str, Any] | None = None,
    booking: dict[str, Any] | None = None,
    context: dict[str, Any] | None = None,
) -> EvaluationRequest:
    """A request that the airline's policies allow, with the given changes."""
    on_desk = action in {"search_flights", "hand_over"}
    attributes = {
        "fare": "flex",
        "insured": False,
        "trip_begun": False,
        "age_hours": 100,
        "airline_cancelled": True,
        "delay_minutes": 200,
        "customer_nationality": "NO",
        "customer_age": 40,
    }
    facts: dict[str, Any] = {} if on_desk else {"customer_identified": True, "owns_booking": True}
    if action == "pay_compensation":
        facts["amount"] = 50
    return EvaluationRequest.model_validate(
        {
            "subject": {"type": "Agent", "id": agent, "properties": {"suspended": False, **(subject or {})}},
            "action": {"name": action},
            "resource": {"type": "Desk", "id": "service-desk"}
            if on_desk
            else {"type": "Booking", "id": "BK-1", "properties": {**attributes, **(booking or {})}},
            "context": {**facts, **(context or {})},
        }
    )


def decision(number: int = 0) -> Recorded:
    """A decision as it goes into the spool; `number` tells its request from others."""
    asked = request("hand_over", context={"note": number}) if number else request("hand_over")
    salt = os.urandom(32)
    record = DecisionRecord(
        id=new_id("dec"),
        time=NOW,
        decision="allow",
        reason="allowed",
        subject="Agent::desk-agent",
        action="hand_over",
        resource_type="Desk",
        request=Commitment(sha256=commitment(salt, asked)),
        bundle_hash="0" * 64,
        determining_policies=["p"],
        principles=["q"],
        approval_id=None,
        caller="desk-agent",
    )
    return Recorded(record, asked, salt, approvable=False, digest=request_digest(asked))
