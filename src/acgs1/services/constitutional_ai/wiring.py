"""How constitutional_ai is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from acgs1.contracts.constitutional_ai import ConstitutionDocument, PrincipleInForce
from acgs1.kit.db import Store
from acgs1.kit.platform import Platform
from acgs1.optimizer.web import OUTAGE_SECONDS, optimized
from acgs1.services.constitutional_ai.adapters.checker import KernelChecker
from acgs1.services.constitutional_ai.adapters.ledger import GovernanceLedger
from acgs1.services.constitutional_ai.jobs import carry_adoptions_through, follow_amendments
from acgs1.services.constitutional_ai.repository import ConstitutionRepository
from acgs1.services.constitutional_ai.service import ConstitutionService


@asynccontextmanager
async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """Builds the service and starts its jobs."""
    service = ConstitutionService(
        Store(platform.database, ConstitutionRepository),
        KernelChecker(),
        GovernanceLedger(platform.client("policy_governance")),
        platform.clock,
    )
    platform.deliver_to_log()
    platform.spawn("adoptions", partial(carry_adoptions_through, service))
    platform.spawn("amendments", partial(follow_amendments, service))
    app.state.service = service
    async with optimized(app, platform.settings, "constitutional_ai"):
        # A constitution's content never changes under its hash. Which one is in force does, and nobody announces it: two seconds is
        # the bound, and how much of it is used is learned from how often it happens.
        reads = app.state.reads
        reads.declare("in_force", ConstitutionDocument, ttl=2.0, at_least=0.5, stale_if_error=OUTAGE_SECONDS)
        reads.declare("principle", PrincipleInForce, ttl=2.0, at_least=0.5, stale_if_error=OUTAGE_SECONDS)
        reads.declare(
            "document", ConstitutionDocument, ttl=1.0, stale_if_error=OUTAGE_SECONDS, cacheable=_is_superseded
        )
        yield


def _is_superseded(document: ConstitutionDocument) -> bool:
    return document.meta.status == "superseded"
