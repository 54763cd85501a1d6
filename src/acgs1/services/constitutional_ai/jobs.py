"""Background work of constitutional_ai."""

import asyncio
from contextlib import suppress

import structlog

from acgs1.kit.errors import DependencyUnavailable
from acgs1.services.constitutional_ai.service import ConstitutionService

_log = structlog.get_logger()
_FOLLOW_SECONDS = 1.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0


async def carry_adoptions_through(service: ConstitutionService) -> None:
    """Finish the adoption that is under way, at start (after a crash in the middle of it) and whenever one begins."""
    pause = _FIRST_PAUSE
    while True:
        service.wake.clear()
        try:
            await service.carry_adoption_through()
            pause, timeout = _FIRST_PAUSE, None
        except DependencyUnavailable as error:
            _log.warning("adoption_waits", detail=error.detail, seconds=pause)
            timeout, pause = pause, min(pause * 2, _LONGEST_PAUSE)
        with suppress(TimeoutError):
            await asyncio.wait_for(service.wake.wait(), timeout)


async def follow_amendments(service: ConstitutionService) -> None:
    """Keep the constitution in force here the one that the ledger has: asked for once a second, so that nothing has to be told."""
    pause = _FOLLOW_SECONDS
    while True:
        try:
            await service.follow_ledger()
            pause = _FOLLOW_SECONDS
        except DependencyUnavailable as error:
            _log.warning("amendments_not_followed", detail=error.detail, seconds=pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        await asyncio.sleep(pause)
