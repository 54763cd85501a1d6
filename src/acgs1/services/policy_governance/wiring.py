"""How policy_governance is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI

from acgs1.core.errors import DomainError
from acgs1.kit.breaker import breakers
from acgs1.kit.db import Store
from acgs1.kit.platform import Platform
from acgs1.optimizer.batching import KeyedBatcher
from acgs1.optimizer.web import optimized
from acgs1.services.policy_governance.adapters.engine import KernelLoader
from acgs1.services.policy_governance.adapters.parts import AuthPeople, RemoteTexts, RemoteVerifier
from acgs1.services.policy_governance.adapters.reads import GovernanceReads
from acgs1.services.policy_governance.adapters.sealer import KeySealer
from acgs1.services.policy_governance.adapters.workers import WorkerSpool
from acgs1.services.policy_governance.repository import GovernanceRepository
from acgs1.services.policy_governance.service.approvals import Approvals
from acgs1.services.policy_governance.service.bundles import Bundles
from acgs1.services.policy_governance.service.chronicle import Chronicle
from acgs1.services.policy_governance.service.decisions import DecisionPoint
from acgs1.services.policy_governance.service.emergencies import EmergencyPowers
from acgs1.services.policy_governance.service.members import Members
from acgs1.services.policy_governance.service.voting import Voting
from acgs1.services.policy_governance.service.wallets import Wallets
from acgs1.services.policy_governance.settings import GovernanceSettings

_log = structlog.get_logger()


@asynccontextmanager
async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """Loads the active bundle, then everything that may be missing without stopping decisions."""
    # Heavy, and needed by a running service only.
    from acgs1.ledger.client import ledger_client
    from acgs1.ledger.instructions import Parameters
    from acgs1.services.policy_governance import jobs
    from acgs1.services.policy_governance.adapters.ledger import SolanaGovernance

    own = GovernanceSettings()
    store = Store(platform.database, GovernanceRepository)
    spool = WorkerSpool(platform.home.spool, own.worker)
    verifier = RemoteVerifier(platform.client("formal_verification"))
    point = DecisionPoint(store, spool, platform.clock)
    async with (
        ledger_client(platform.settings, clock=platform.clock, service="policy_governance") as client,
        optimized(app, platform.settings, "policy_governance"),
    ):
        readers = GovernanceReads(app.state.reads)
        # Look-ups of the same moment go to the node in one request.
        lookups = KeyedBatcher(client.accounts, name="ledger-reads", max_batch=100)
        client.read_accounts_by(lookups.get)
        rules = Parameters(own.voting_seconds, own.threshold_bp, own.quorum_bp)
        keys = platform.home.keys("ledger")
        ledger = SolanaGovernance(client, keys, rules, breakers().get("policy_governance->ledger"))
        sealer = KeySealer(platform.home.keys("policy_governance"))
        texts = RemoteTexts(platform.client("constitutional_ai"))
        bundles = Bundles(store, ledger, verifier, sealer, KernelLoader(), point, texts, readers, platform.clock)
        chronicle = Chronicle(store, ledger, readers, platform.clock)
        powers = EmergencyPowers(store, ledger, chronicle, point, platform.clock)
        members = Members(store, ledger, chronicle, AuthPeople(platform.client("auth")), platform.clock)
        voting = Voting(store, ledger, chronicle, members, verifier, texts, platform.clock)
        # Before the first decision, and whether or not the ledger is there.
        await powers.obey()
        try:
            await bundles.load_active()
        except DomainError as error:
            # Nothing is allowed then; a database that was tampered with must not stop people from looking into it.
            _log.error("active_bundle_refused", code=error.code, detail=error.detail)
        point.look = bundles.bind
        app.state.voting, app.state.bundles, app.state.point = voting, bundles, point
        app.state.members, app.state.powers, app.state.chronicle = members, powers, chronicle
        app.state.wallets = Wallets(store, ledger, chronicle, members, voting, platform.clock)
        app.state.approvals = Approvals(store, spool, platform.clock)
        watch = jobs.LedgerWatch(ledger, powers, bundles, voting, own.emergency_poll_seconds)
        platform.add_check("ledger", watch.check)
        platform.deliver_to_log()
        platform.spawn("decisions", partial(spool.drain, partial(jobs.keep_decisions, store)))
        # Every worker follows the ledger, so that each obeys it within one interval; one of them carries on what was cut off.
        platform.spawn("ledger", watch.run)
        if own.worker == 0:
            platform.spawn("votes", watch.carry_on)
            platform.spawn("spools", partial(spool.adopt, partial(jobs.keep_decisions, store)))
        try:
            yield
        finally:
            await spool.close()
            await lookups.close()
