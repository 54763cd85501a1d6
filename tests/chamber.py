"""Policy governance on the real program: the embedded node in this process, on a clock that the test owns."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from solders.keypair import Keypair

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Certificate
from acgs1.contracts.policy_governance import Bundle, NewBallot, NewMember, NewProposal, Proposal
from acgs1.core.clock import ManualClock
from acgs1.kit.breaker import Breakers
from acgs1.kit.db import Database, Store
from acgs1.ledger.client import LedgerClient
from acgs1.ledger.instructions import Parameters
from acgs1.ledger.keys import load_or_create_keypair
from acgs1.ledger.node.app import create_app, open_chain
from acgs1.ledger.node.settings import NodeSettings
from acgs1.services.policy_governance.adapters.engine import KernelLoader
from acgs1.services.policy_governance.adapters.ledger import SolanaGovernance
from acgs1.services.policy_governance.adapters.parts import RemoteVerifier
from acgs1.services.policy_governance.adapters.sealer import KeySealer
from acgs1.services.policy_governance.adapters.spool import DecisionSpool
from acgs1.services.policy_governance.jobs import LedgerWatch
from acgs1.services.policy_governance.repository import GovernanceRepository
from acgs1.services.policy_governance.service.bundles import Bundles
from acgs1.services.policy_governance.service.chronicle import Chronicle
from acgs1.services.policy_governance.service.decisions import DecisionPoint
from acgs1.services.policy_governance.service.emergencies import EmergencyPowers
from acgs1.services.policy_governance.service.members import Members
from acgs1.services.policy_governance.service.voting import Voting
from acgs1.services.policy_governance.service.wallets import Wallets
from governance import (
    MIGRATIONS,
    OPERATOR,
    FakePeople,
    FakeReaders,
    FakeTexts,
    VerifierClient,
    airline,
    airline_policies,
)


class ChainVerifier(RemoteVerifier):
    """Formal verification with its authority on the ledger: attests what it has certified."""

    def __init__(self, remote: VerifierClient, client: LedgerClient, keys: Path) -> None:
        super().__init__(remote)  # type: ignore[arg-type] - answers the calls that are made
        self._client_ = client
        self._keys = keys
        self.certified: dict[str, Certificate] = {}

    async def attest(self, certificate_hash: str) -> str:
        key = load_or_create_keypair(self._keys / "verifier.json")
        version = (await self._client_.governance()).constitution_version
        known = await self._client_.get_attestation(certificate_hash)
        if known is not None and known.constitution_version == version:
            return "attested before"
        await self._client_.ensure_funded(key.pubkey(), 10_000_000, 1_000_000_000)
        content = self.certified[certificate_hash].body.policies_hash
        return (await self._client_.attest(key, certificate_hash, content, version)).signature


@dataclass
class Chamber:
    """One process of policy governance on its database and the node."""

    home: Path
    clock: ManualClock
    http: httpx.AsyncClient
    client: LedgerClient
    database: Database
    people: FakePeople
    texts: FakeTexts
    remote: VerifierClient
    rules: Parameters
    names: dict[str, Identity] = field(default_factory=dict)
    wallets_held: dict[str, Keypair] = field(default_factory=dict)
    certified: dict[str, Certificate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Everything that lives in memory anew, as after a kill."""
        keys = self.home / "keys"
        self.store = Store(self.database, GovernanceRepository)
        self.ledger = SolanaGovernance(self.client, keys, self.rules, Breakers().get("test->ledger"))
        self.verifier = ChainVerifier(self.remote, self.client, keys)
        self.verifier.certified = self.certified
        self.spool = DecisionSpool(self.home / "spool")
        self.point = DecisionPoint(self.store, self.spool, self.clock)
        (self.home / "seal").mkdir(exist_ok=True)
        sealer, loader, readers = KeySealer(self.home / "seal"), KernelLoader(), FakeReaders()
        self.bundles = Bundles(
            self.store, self.ledger, self.verifier, sealer, loader, self.point, self.texts, readers, self.clock
        )
        self.chronicle = Chronicle(self.store, self.ledger, readers, self.clock)
        self.powers = EmergencyPowers(self.store, self.ledger, self.chronicle, self.point, self.clock)
        self.members = Members(self.store, self.ledger, self.chronicle, self.people, self.clock)
        self.voting = Voting(
            self.store, self.ledger, self.chronicle, self.members, self.verifier, self.texts, self.clock
        )
        self.wallets = Wallets(self.store, self.ledger, self.chronicle, self.members, self.voting, self.clock)
        self.watch = LedgerWatch(self.ledger, self.powers, self.bundles, self.voting, 0.01)

    async def found(self, **weights: int) -> None:
        """Initialise the program, register these people, ratify the airline's constitution."""
        await self.watch.once()
        for name, weight in weights.items():
            self.names[name] = self.people.add(Role.MEMBER)
            await self.members.register(NewMember(user_id=self.names[name].id, weight=weight), OPERATOR)
        await self.members.ratify(airline())

    async def built(self, policies: str | None = None, constitution: Constitution | None = None) -> Bundle:
        from acgs1.contracts.policy_governance import NewBundle

        policies, constitution = policies or airline_policies(), constitution or airline()
        certificate = self.remote.certificate(policies, constitution)
        self.certified[certificate.hash] = certificate
        body = NewBundle(name="desk", policies=policies, constitution=constitution, certificate=certificate)
        return await self.bundles.build(body, OPERATOR)

    async def proposed(self, by: str, bundle: Bundle, title: str = "A bundle") -> Proposal:
        request = NewProposal(bundle_hash=bundle.hash, title=title, voting_seconds=3600)
        return await self.voting.propose(request, self.names[by])

    async def ballots(self, proposal: Proposal, **choices: str) -> None:
        for name, choice in choices.items():
            await self.voting.vote(proposal.id, NewBallot.model_validate({"choice": choice}), self.names[name])

    async def carried(self, proposal: Proposal, **choices: str) -> Proposal:
        await self.ballots(proposal, **choices)
        return await self.voting.finalize(proposal.id, next(iter(self.names.values())))

    async def entries(self, *prefixes: str) -> list[dict[str, Any]]:
        """What waits for the log, in order."""
        import json

        async with self.database.reading() as session:
            rows = (await session.execute(sa.text("SELECT event FROM outbox ORDER BY sequence"))).all()
        events = [json.loads(row.event) for row in rows]
        return [event for event in events if not prefixes or event["type"].startswith(prefixes)]


@asynccontextmanager
async def chamber_at(home: Path) -> AsyncIterator[Chamber]:
    clock = ManualClock()
    settings = NodeSettings(data_dir=home / "node", snapshot_every=50)
    app = create_app(settings, open_chain(settings, clock=clock))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        http = await stack.enter_async_context(httpx.AsyncClient(transport=httpx.ASGITransport(app)))
        database = Database(f"sqlite+aiosqlite:///{home / 'governance.sqlite3'}")
        await database.migrate(MIGRATIONS)
        client = LedgerClient("http://node/", http=http, clock=clock)
        rules = Parameters(60, 6000, 5000)
        chamber = Chamber(home, clock, http, client, database, FakePeople(), FakeTexts(), VerifierClient(), rules)
        yield chamber
        await chamber.spool.close()
        await database.close()
