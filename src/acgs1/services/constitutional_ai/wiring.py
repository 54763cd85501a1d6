"""How constitutional_ai is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from acgs1.kit.db import Store
from acgs1.kit.platform import Platform
from acgs1.optimizer.web import optimized
from acgs1.services.constitutional_ai.adapters.checker import KernelChecker
from acgs1.services.constitutional_ai.adapters.ledger import GovernanceLedger
from acgs1.services.constitutional_ai.adapters.reads import ConstitutionReads
from acgs1.services.constitutional_ai.jobs import carry_adoptions_through, follow_amendments
from acgs1.services.constitutional_ai.repository import ConstitutionRepository
from acgs1.services.constitutional_ai.service import ConstitutionService


@asynccontextmanager
async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """Builds the service and starts its jobs."""
    async with optimized(app, platform.settings, "constitutional_ai"):
        reads = ConstitutionReads(app.state.reads)
        service = ConstitutionService(
            Store(platform.database, ConstitutionRepository),
            KernelChecker(),
            GovernanceLedger(platform.client("policy_governance")),
            reads,
            platform.clock,
        )
        app.state.service, app.state.constitution_reads = service, reads
        platform.deliver_to_log()
        platform.spawn("adoptions", partial(carry_adoptions_through, service))
        platform.spawn("amendments", partial(follow_amendments, service))
        yield
