"""How formal_verification is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from acgs1.contracts.formal_verification import Certificate, VerificationProgress, VerificationReport
from acgs1.kit.breaker import breakers
from acgs1.kit.db import Store
from acgs1.kit.platform import Platform
from acgs1.optimizer.web import optimized
from acgs1.services.formal_verification.adapters.attestor import LedgerAttestor
from acgs1.services.formal_verification.adapters.defects import Defects
from acgs1.services.formal_verification.adapters.ethos import CheckerUnusable, EthosChecker
from acgs1.services.formal_verification.adapters.pool import PoolLimits, ProverPool
from acgs1.services.formal_verification.adapters.signer import CertificateSigner
from acgs1.services.formal_verification.analyses import Analyses
from acgs1.services.formal_verification.repository import VerificationRepository
from acgs1.services.formal_verification.service import VerificationService
from acgs1.services.formal_verification.settings import ProverSettings


def _checker(settings: ProverSettings) -> EthosChecker | None:
    if settings.ethos is None and settings.cpc_signature is None:
        return None
    if settings.ethos is None or settings.cpc_signature is None:
        raise CheckerUnusable("`ACGS_PROVER_ETHOS` and `ACGS_PROVER_CPC_SIGNATURE` are needed both, or neither")
    return EthosChecker(settings.ethos, settings.cpc_signature)


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
    defects = Defects(platform.home.root / "reproducers")
    platform.add_check("provers", defects.check)
    pool = ProverPool(limits, platform.clock, on_defect=defects.keep)
    store = Store(platform.database, VerificationRepository)
    analyses = Analyses(store, pool, platform.clock)
    service = VerificationService(
        store,
        pool,
        CertificateSigner(platform.home.keys("formal_verification")),
        platform.clock,
        _checker(settings),
    )
    app.state.attestor = LedgerAttestor(
        platform.settings,
        platform.home.keys("ledger") / "verifier.json",
        breakers().get("formal_verification->ledger"),
    )
    platform.deliver_to_log()
    platform.spawn("resume", service.resume)
    platform.spawn("resume-analyses", analyses.resume)
    app.state.service = service
    app.state.analyses = analyses
    app.state.pool = pool
    try:
        async with optimized(app, platform.settings, "formal_verification"):
            # Certificates and finished reports never change; progress is not kept.
            app.state.reads.declare("certificate", Certificate, ttl=3600.0)
            app.state.reads.declare(
                "report",
                VerificationReport | VerificationProgress,
                ttl=3600.0,
                cacheable=_is_report,
            )
            yield
    finally:
        await service.stop()
        await analyses.stop()
        await pool.close()


def _is_report(outcome: VerificationReport | VerificationProgress) -> bool:
    return isinstance(outcome, VerificationReport)
