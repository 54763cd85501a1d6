"""How evolutionary_computation is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from acgs1.contracts.evolutionary_computation import Run
from acgs1.kit.db import Store
from acgs1.kit.platform import Platform
from acgs1.optimizer.web import optimized
from acgs1.services.evolutionary_computation.adapters.bench import KernelBench
from acgs1.services.evolutionary_computation.adapters.fitness import RememberingBench
from acgs1.services.evolutionary_computation.adapters.overseer import KernelOverseer
from acgs1.services.evolutionary_computation.adapters.verifier import HttpVerifier
from acgs1.services.evolutionary_computation.jobs import carry_runs_out
from acgs1.services.evolutionary_computation.repository import RunRepository
from acgs1.services.evolutionary_computation.service import EvolutionService


@asynccontextmanager
async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """Builds the service and starts its jobs."""
    async with optimized(app, platform.settings, "evolutionary_computation"):
        # A run that is over never changes; one that goes on is not kept.
        app.state.reads.declare("run", Run, ttl=3600.0, cacheable=_is_over)
        verifier = HttpVerifier(platform.client("formal_verification"))
        service = EvolutionService(
            Store(platform.database, RunRepository),
            RememberingBench(KernelBench(), app.state.reads),
            verifier,
            KernelOverseer(verifier),
            platform.clock,
        )
        platform.deliver_to_log()
        platform.spawn("runs", partial(carry_runs_out, service))
        app.state.service = service
        yield


def _is_over(run: Run) -> bool:
    return run.status != "running"
