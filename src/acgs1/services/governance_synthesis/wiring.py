"""How governance_synthesis is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from acgs1.contracts.governance_synthesis import Draft
from acgs1.core.ids import new_id
from acgs1.kit.db import Store
from acgs1.kit.platform import Platform
from acgs1.kit.steps import Body
from acgs1.kit.workflows import Engine
from acgs1.optimizer.web import optimized
from acgs1.services.governance_synthesis.adapters.grammar.drafter import GrammarDrafter
from acgs1.services.governance_synthesis.adapters.kernel import KernelCedar
from acgs1.services.governance_synthesis.adapters.parts import HttpMonitor, HttpParts
from acgs1.services.governance_synthesis.creation import PolicyCreation
from acgs1.services.governance_synthesis.jobs import tell_the_monitor, tend_workflows
from acgs1.services.governance_synthesis.repository import DraftRepository, RunRepository
from acgs1.services.governance_synthesis.runs import WorkflowRuns
from acgs1.services.governance_synthesis.service import SynthesisService


@asynccontextmanager
async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """Builds the service, starts delivering its events, and takes up the workflows that nobody carries out."""
    service = SynthesisService(
        Store(platform.database, DraftRepository), GrammarDrafter(), KernelCedar(), platform.clock
    )
    executor = new_id("exe")

    def engine(body: Body) -> Engine:
        return Engine.for_service("governance_synthesis", platform.settings, platform.home, executor, body)

    store = Store(platform.database, RunRepository)
    creation = PolicyCreation(service, HttpParts(platform), platform.clock)
    monitor = HttpMonitor(platform.client("console"), platform.clock)
    runs = WorkflowRuns(store, engine, creation, platform.clock, executor, monitor.running)
    app.state.service, app.state.runs = service, runs
    platform.deliver_to_log()
    platform.spawn("workflows", partial(tend_workflows, runs))
    platform.spawn("monitor", partial(tell_the_monitor, store, monitor))
    async with optimized(app, platform.settings, "governance_synthesis"):
        # A draft never changes.
        app.state.reads.declare("draft", Draft, ttl=3600.0)
        try:
            yield
        finally:
            await runs.stop()
