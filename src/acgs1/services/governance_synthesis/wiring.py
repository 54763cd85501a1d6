"""How governance_synthesis is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from acgs1.contracts.governance_synthesis import Draft
from acgs1.kit.db import Store
from acgs1.kit.platform import Platform
from acgs1.optimizer.web import optimized
from acgs1.services.governance_synthesis.adapters.grammar.drafter import GrammarDrafter
from acgs1.services.governance_synthesis.adapters.kernel import KernelCedar
from acgs1.services.governance_synthesis.repository import DraftRepository
from acgs1.services.governance_synthesis.service import SynthesisService


@asynccontextmanager
async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """Builds the service and starts delivering its events."""
    app.state.service = SynthesisService(
        Store(platform.database, DraftRepository), GrammarDrafter(), KernelCedar(), platform.clock
    )
    platform.deliver_to_log()
    async with optimized(app, platform.settings, "governance_synthesis"):
        # A draft never changes.
        app.state.reads.declare("draft", Draft, ttl=3600.0)
        yield
