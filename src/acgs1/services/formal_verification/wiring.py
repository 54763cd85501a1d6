"""How formal_verification is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from acgs1.kit.db import Store
from acgs1.kit.platform import Platform
from acgs1.services.formal_verification.adapters.pool import PoolLimits, ProverPool
from acgs1.services.formal_verification.adapters.signer import CertificateSigner
from acgs1.services.formal_verification.repository import VerificationRepository
from acgs1.services.formal_verification.service import VerificationService
from acgs1.services.formal_verification.settings import ProverSettings


@asynccontextmanager
async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """Builds the service, takes up interrupted verifications, delivers events. No prover runs until there is work."""
    settings = ProverSettings()
    limits = PoolLimits(
        workers=settings.workers,
        memory_mb=settings.memory_mb,
        solver_timeout_ms=settings.solver_timeout_ms,
        second_opinion_ms=settings.second_opinion_ms,
        item_seconds=settings.item_seconds,
        idle_seconds=settings.idle_seconds,
    )
    pool = ProverPool(limits, platform.clock)
    service = VerificationService(
        Store(platform.database, VerificationRepository),
        pool,
        CertificateSigner(platform.home.keys("formal_verification")),
        platform.clock,
    )
    platform.deliver_to_log()
    platform.spawn("resume", service.resume)
    app.state.service = service
    app.state.pool = pool
    try:
        yield
    finally:
        await service.stop()
        await pool.close()
