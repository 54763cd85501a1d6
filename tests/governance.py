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
    Change,
    DecisionRecord,
    Emergency,
    EvaluationRequest,
    GovernanceState,
    LedgerReceipt,
    Member,
    NewBundle,
    Proposal,
    RatifyEmergency,
    RegisterMember,
    RemoveMember,
    SetParameters,
    SetWeight,
)
from acgs1.core.canonical import canonical_json
from acgs1.core.clock import ManualClock
from acgs1.core.hashing import content_hash, sha256_hex, text_hash
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
from acgs1.services.policy_governance.domain import (
    Chapter,
    Emergencies,
    Happened,
    Opened,
    Recorded,
    Snapshot,
    Unsigned,
    digest_and_commitment,
    in_effect,
)
from acgs1.services.policy_governance.errors import CursorLost, InvalidWallet
from acgs1.services.policy_governance.repository import GovernanceRepository
from acgs1.services.policy_governance.service.approvals import Approvals
from acgs1.services.policy_governance.service.bundles import Bundles
from acgs1.services.policy_governance.service.chronicle import Chronicle
from acgs1.services.policy_governance.service.decisions import DecisionPoint
from acgs1.services.policy_governance.service.emergencies import EmergencyPowers
from acgs1.services.policy_governance.service.members import Members
from acgs1.services.policy_governance.service.voting import Voting
from acgs1.services.policy_governance.service.wallets import Wallets

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
    """The program's rules as far as this service meets them (one vote per member, enactment by weight, being away), and its history of
    events. The real program stands behind the tests in `integration/policy_governance`."""

    def __init__(self) -> None:
        self.constitution: str | None = None
        self.version = 1
        self.away = False
        self.history: list[Happened] = []
        self.known_from = 0
        self.weights: dict[str, int] = {}
        self.proposals: list[dict[str, Any]] = []
        self.intents: dict[str, Opened] = {}
        self.actions: list[Emergency] = []
        self.voted: set[tuple[int, str]] = set()
        self.enacted: set[str] = set()
        self.stale = False

    def _here(self) -> None:
        if self.away:
            raise DependencyUnavailable("`ledger` is not available: it was switched off by the test")

    def happen(self, event: str, /, **data: Any) -> str:
        """One more event, in a transaction of its own; its signature."""
        number = len(self.history)
        self.history.append(Happened(f"sig-{number}", number, 0, event, {"at": int(NOW.timestamp()), **data}))
        return f"sig-{number}"

    async def events(self, cursor: str | None) -> Chapter:
        self._here()
        start = 0 if cursor is None else int(cursor)
        if start < self.known_from or start > len(self.history):
            raise CursorLost(f"`{cursor}` is not known")
        page = self.history[start : start + 2]
        end = start + len(page)
        return Chapter(tuple(page), str(end) if page else cursor, end == len(self.history))

    async def state(self) -> GovernanceState:
        self._here()
        return GovernanceState(
            program_id="p",
            constitution_hash=self.constitution,
            constitution_version=self.version if self.constitution else 0,
            ratified=self.constitution is not None,
            threshold_bp=6000,
            quorum_bp=5000,
            members=len(self.weights),
            total_weight=sum(self.weights.values()),
            proposals=len(self.proposals),
            voting_seconds=60,
        )

    async def ratify(self, constitution: Constitution) -> LedgerReceipt:
        self._here()
        self.constitution = constitution.hash
        self.happen("Ratified", constitution_hash=constitution.hash, constitution_version=1, total_weight=1)
        return LedgerReceipt(signature="ratified", constitution_hash=constitution.hash, constitution_version=1)

    def amend(self, constitution_hash: str) -> None:
        self.version += 1
        self.constitution = constitution_hash
        told = {"constitution_hash": constitution_hash, "constitution_version": self.version, "proposal": 0}
        self.happen("ConstitutionAmended", **told)

    async def principles(self) -> dict[str, int]:
        self._here()
        return {content_hash(p.model_dump(mode="json")): i for i, p in enumerate(airline().principles)}

    def wallet_of(self, user_id: str) -> str:
        return f"wallet-of-{user_id[-12:]}"

    def check_wallet(self, address: str) -> None:
        if address.startswith("1111"):
            raise InvalidWallet(f"`{address}` is not a wallet's")

    async def register_member(self, wallet: str, weight: int) -> Member:
        self._here()
        if wallet not in self.weights:
            self.weights[wallet] = weight
            self._changed(wallet)
        return Member(user_id=None, wallet=wallet, weight=self.weights[wallet], index=self._slot(wallet))

    def _slot(self, wallet: str) -> int:
        return list(self.weights).index(wallet)

    def _changed(self, wallet: str) -> None:
        total = sum(self.weights.values())
        told = {"slot": self._slot(wallet), "weight": self.weights[wallet], "total_weight": total}
        self.happen("MemberChanged", wallet=wallet, from_proposal=len(self.proposals), **told)

    def content_of(self, change: Change) -> str:
        return content_hash(change.model_dump(mode="json"))

    async def find(self, proposal: Proposal) -> Opened | None:
        self._here()
        return self.intents.get(proposal.id)

    async def propose(self, proposal: Proposal) -> Opened:
        self._here()
        if (known := self.intents.get(proposal.id)) is not None:
            return known
        assert proposal.content_hash is not None
        opened = self.open(proposal.kind, proposal.content_hash, proposal.wallet or "", proposal.certificate_hash)
        self.intents[proposal.id] = opened
        return opened

    def open(self, kind: str, content: str, wallet: str, certificate: str | None = None) -> Opened:
        """A vote opened by whoever, through us or past us."""
        index, starts = len(self.proposals), int(NOW.timestamp())
        terms: dict[str, Any] = {
            "index": index,
            "kind": kind,
            "proposer": wallet,
            "content_hash": content,
            "certificate_hash": certificate or "0" * 64,
            "constitution_version": self.version,
            "total_weight": sum(self.weights.values()),
            "starts_at": starts,
            "ends_at": starts + 86_400,
            "address": f"address-{index}",
        }
        sums = {"votes_for": 0, "votes_against": 0, "votes_abstain": 0}
        self.proposals.append({**terms, **sums, "status": "active"})
        return Opened(index, f"address-{index}", self.happen("ProposalCreated", **terms))

    async def vote(self, user_id: str, proposal: Proposal, choice: str) -> str:
        assert proposal.index is not None
        return self.cast(self.wallet_of(user_id), proposal.index, choice)

    def cast(self, wallet: str, index: int, choice: str) -> str:
        self._here()
        if (index, wallet) in self.voted:
            raise ProgramError("AlreadyVoted", 6006, "the member has voted on this proposal", {})
        self.voted.add((index, wallet))
        known = self.proposals[index]
        known[f"votes_{choice}"] += self.weights[wallet]
        sums = {name: known[name] for name in ("votes_for", "votes_against", "votes_abstain")}
        told = {"voter": wallet, "choice": choice, "changed": False, "weight": self.weights[wallet]}
        return self.happen("VoteCast", proposal=index, **told, **sums)

    async def finalize(self, proposal: Proposal) -> None:
        self._here()
        assert proposal.index is not None
        known = self.proposals[proposal.index]
        counted = known["votes_for"] + known["votes_against"]
        accepted = counted > 0 and known["votes_for"] * 10_000 >= 6000 * counted
        reached = (counted + known["votes_abstain"]) * 10_000 >= 5000 * known["total_weight"]
        known["status"] = "accepted" if accepted and reached else "rejected"
        told = {name: known[name] for name in ("index", "kind", "status", "content_hash", "total_weight")}
        sums = {name: known[name] for name in ("votes_for", "votes_against", "votes_abstain")}
        self.happen("ProposalFinalized", **told, **sums, quorum_reached=reached, early=True)

    async def enact(self, proposal: Proposal) -> str:
        self._here()
        assert proposal.index is not None
        if self.stale:
            raise ProgramError("StaleAttestation", 6018, "the attestation is for another constitution version", {})
        known = self.proposals[proposal.index]
        known["status"] = "enacted"
        told = {name: known[name] for name in ("index", "kind", "content_hash")}
        signature = self.happen("ProposalEnacted", **told)
        match proposal.change:
            case None:
                self.enacted.add(known["content_hash"])
            case RegisterMember() | SetWeight():
                self.weights[proposal.change.wallet] = proposal.change.weight
                self._changed(proposal.change.wallet)
            case RemoveMember():
                self.weights[proposal.change.wallet] = 0
                self._changed(proposal.change.wallet)
            case RatifyEmergency():
                self._resolve(proposal.change.emergency, "confirmed" if known["votes_for"] else "ended")
            case SetParameters():
                pass
            case _:
                self.amend(proposal.change.constitution_hash)
        return signature

    async def cancel(self, user_id: str, proposal: Proposal) -> None:
        self._here()
        assert proposal.index is not None
        self.proposals[proposal.index]["status"] = "cancelled"
        self.happen("ProposalCancelled", index=proposal.index)

    async def close(self, user_id: str, proposal: Proposal) -> None:
        self._here()
        assert proposal.index is not None
        if self.proposals[proposal.index]["status"] == "active":
            raise ProgramError("ProposalNotClosable", 6021, "the proposal is neither finished nor lapsed", {})
        self.happen("ProposalClosed", index=proposal.index, status="enacted", lamports=1_000_000)

    async def unsigned(self, act: str, wallet: str, proposal: Proposal, choice: str | None) -> Unsigned:
        self._here()
        return Unsigned("dW5zaWduZWQ=", f"{act}:{proposal.id}:{choice}:{wallet}".encode(), 100)

    def countersign(self, message: bytes, wallet: str, transaction: str) -> bytes:
        return message

    async def land(self, signed: bytes, last_valid_block_height: int) -> str:
        """Does what the message says."""
        self._here()
        act, proposal_id, choice, wallet = signed.decode().split(":")
        assert act == "vote"
        return self.cast(wallet, self.intents[proposal_id].index, choice)

    async def snapshot(self, cursor: str | None) -> Snapshot:
        self._here()
        members = (Member(user_id=None, wallet=w, weight=n, index=i) for i, (w, n) in enumerate(self.weights.items()))
        in_force = self.constitution
        return Snapshot(
            in_force, self.version, tuple(members), tuple(dict(p) for p in self.proposals), tuple(self.actions)
        )

    async def is_enacted(self, policies_hash: str) -> bool:
        self._here()
        return policies_hash in self.enacted

    async def emergencies(self, now: datetime) -> Emergencies:
        self._here()
        return in_effect(self.actions, now)

    async def emergency(self, kind: str, target: str | None, reason: str, seconds: int) -> int:
        self._here()
        index, ends = len(self.actions), NOW + timedelta(seconds=seconds)
        named = text_hash(target) if kind == "revoke_agent" and target else target
        self.actions.append(
            Emergency.model_validate(
                {"index": index, "kind": kind, "target": named, "status": "active", "expires_at": ends}
            )
        )
        told = {"target": named or "0" * 64, "reason_hash": text_hash(reason), "issuer": "emergency"}
        self.happen("EmergencyTaken", index=index, kind=kind, expires_at=int(ends.timestamp()), **told)
        return index

    async def end_emergency(self, index: int) -> None:
        self._here()
        self._resolve(index, "ended")

    def _resolve(self, index: int, status: str) -> None:
        action = self.actions[index].model_copy(update={"status": status, "expires_at": None})
        self.actions[index] = action
        told = {"kind": action.kind, "target": action.target or "0" * 64, "expires_at": int(NOW.timestamp())}
        self.happen("EmergencyResolved", index=index, status=status, **told)


class FakeReaders:
    """Notes what readers were told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def bundles_changed(self) -> None:
        self.told.append("bundles changed")

    async def ledger_moved(self) -> None:
        self.told.append("ledger moved")


class FakeTexts:
    """What constitutional_ai keeps."""

    def __init__(self) -> None:
        self.kept: dict[str, Constitution] = {airline().hash: airline()}
        self.away = False

    def keep(self, constitution: Constitution) -> str:
        self.kept[constitution.hash] = constitution
        return constitution.hash

    async def text(self, constitution_hash: str) -> Constitution | None:
        if self.away:
            raise DependencyUnavailable("`constitutional_ai` is not available")
        return self.kept.get(constitution_hash)


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
    texts: FakeTexts
    readers: FakeReaders
    bundles: Bundles
    chronicle: Chronicle
    powers: EmergencyPowers
    members: Members
    voting: Voting
    wallets: Wallets
    approvals: Approvals

    def restarted(self) -> "Room":
        """The same data, served by a process that has just started."""
        return _assemble(
            self.home,
            self.database,
            self.ledger,
            self.people,
            self.verifier,
            self.clock,
            self.spool,
            self.texts,
            self.readers,
        )

    def new_bundle(
        self, policies: str | None = None, constitution: Constitution | None = None, **changes: Any
    ) -> NewBundle:
        policies, constitution = policies or airline_policies(), constitution or airline()
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
    texts: FakeTexts,
    readers: FakeReaders,
) -> Room:
    store = Store(database, GovernanceRepository)
    point = DecisionPoint(store, spool, clock)
    remote = RemoteVerifier(verifier)  # type: ignore[arg-type] - answers the two calls that are made
    (home / "seal").mkdir(exist_ok=True)
    bundles = Bundles(store, ledger, remote, KeySealer(home / "seal"), KernelLoader(), point, texts, readers, clock)
    chronicle = Chronicle(store, ledger, readers, clock)
    members = Members(store, ledger, chronicle, people, clock)
    voting = Voting(store, ledger, chronicle, members, remote, texts, clock)
    return Room(
        home,
        database,
        ledger,
        people,
        verifier,
        clock,
        spool,
        store,
        point,
        texts,
        readers,
        bundles,
        chronicle,
        EmergencyPowers(store, ledger, chronicle, point, clock),
        members,
        voting,
        Wallets(store, ledger, chronicle, members, voting, clock),
        Approvals(store, spool, clock),
    )


async def open_room(
    home: Path, url: str | None = None, schema: str | None = None, readers: FakeReaders | None = None
) -> Room:
    database = Database(url or f"sqlite+aiosqlite:///{home / 'governance.sqlite3'}", schema=schema)
    await database.migrate(MIGRATIONS)
    spool = DecisionSpool(home / "spool")
    return _assemble(
        home,
        database,
        FakeLedger(),
        FakePeople(),
        VerifierClient(),
        ManualClock(NOW),
        spool,
        FakeTexts(),
        readers or FakeReaders(),
    )


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
    digest, committed = digest_and_commitment(salt, asked)
    record = DecisionRecord(
        id=new_id("dec"),
        time=NOW,
        decision="allow",
        reason="allowed",
        subject="Agent::desk-agent",
        action="hand_over",
        resource_type="Desk",
        request=Commitment(sha256=committed),
        bundle_hash="0" * 64,
        determining_policies=["p"],
        principles=["q"],
        approval_id=None,
        caller="desk-agent",
    )
    return Recorded(record, asked, salt, approvable=False, digest=digest)
