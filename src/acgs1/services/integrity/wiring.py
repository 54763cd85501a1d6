"""How integrity is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from cachebox import LRUCache
from fastapi import FastAPI

from acgs1.contracts.events import Event
from acgs1.contracts.integrity import ConsistencyProof, Entry, EvidenceBundle, InclusionProof
from acgs1.core.merkle import TileId
from acgs1.kit.breaker import breakers
from acgs1.kit.db import Store
from acgs1.kit.notes import NoteSigner
from acgs1.kit.outbox import OutboxRelay
from acgs1.kit.platform import Platform
from acgs1.kit.signing import SigningKey
from acgs1.kit.web import Lifespan
from acgs1.optimizer.batching import KeyedBatcher
from acgs1.optimizer.web import optimized
from acgs1.services.integrity.adapters.memory import CheckpointFile
from acgs1.services.integrity.anchoring import Anchorer
from acgs1.services.integrity.appeals import AppealService
from acgs1.services.integrity.jobs import keep_anchored
from acgs1.services.integrity.repository import IntegrityRepository
from acgs1.services.integrity.sequencer import Sequencer
from acgs1.services.integrity.service import LogService
from acgs1.services.integrity.settings import IntegritySettings

_TILES = 512
"""Full tiles that are kept in memory: 8 KiB each, 256 leaves each."""


def log_signer(platform_keys: SigningKey, origin: str | None) -> NoteSigner:
    """The log's identity. Its default name holds part of the key, so that two installations never share one."""
    return NoteSigner(origin or f"acgs1.local/log-{platform_keys.public.raw.hex()[:16]}", platform_keys)


def wiring(own: IntegritySettings) -> Lifespan:
    """The wiring for these settings."""

    @asynccontextmanager
    async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
        # Heavy, and needed by a running service only.
        from acgs1.ledger.client import ledger_client
        from acgs1.services.integrity.adapters.ledger import SolanaLedger

        keys = platform.home.keys("integrity")
        signer = log_signer(SigningKey.load_or_create(keys / "log.pem"), own.origin)
        store = Store(platform.database, IntegrityRepository)
        sequencer = Sequencer(store, signer, CheckpointFile(keys / "last-checkpoint"), platform.clock)
        await sequencer.start()
        async with (
            optimized(app, platform.settings, "integrity"),
            ledger_client(platform.settings, clock=platform.clock, service="integrity") as client,
        ):
            # Look-ups of the same moment go to the node in one request.
            lookups = KeyedBatcher(client.accounts, name="ledger-reads", max_batch=100)
            client.read_accounts_by(lookups.get)
            key_file = platform.home.keys("ledger") / "log.json"
            ledger = SolanaLedger(client, key_file, breakers().get("integrity->ledger"))
            anchorer = Anchorer(store, sequencer, ledger, platform.clock)
            # Entries never change, nor do proofs between given sizes. What names people stays in this process.
            reads = app.state.reads
            reads.declare("entry", Entry, ttl=3600.0, shared=False)
            reads.declare("evidence", EvidenceBundle, ttl=60.0, shared=False)
            reads.declare("inclusion", InclusionProof, ttl=3600.0)
            reads.declare("consistency", ConsistencyProof, ttl=3600.0)
            # A SQLite file has one process that writes; on PostgreSQL there may be several.
            app.state.log = LogService(
                store,
                sequencer,
                anchorer,
                signer.verifier,
                reads,
                LRUCache[TileId, bytes](_TILES),
                only_writer=platform.database.is_sqlite,
            )
            app.state.appeals = AppealService(store, platform.clock)
            platform.add_check("log", sequencer.check)
            platform.add_check("ledger", anchorer.check)

            async def deliver(events: list[str]) -> None:
                await sequencer.append([Event.model_validate_json(event) for event in events])

            app.state.outbox = relay = OutboxRelay("integrity", platform.database, deliver, platform.clock)
            platform.spawn("outbox", relay.run)
            platform.spawn("anchoring", lambda: keep_anchored(anchorer, own.anchor_seconds))
            try:
                yield
            finally:
                await sequencer.close()
                await lookups.close()

    return wire
