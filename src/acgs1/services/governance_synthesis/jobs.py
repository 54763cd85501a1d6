"""Background work of governance_synthesis."""

import asyncio
from contextlib import suppress

import structlog

from acgs1.core.errors import DomainError
from acgs1.services.governance_synthesis.ports import Monitor, Runs
from acgs1.services.governance_synthesis.runs import WorkflowRuns

_log = structlog.get_logger()
# A third of a lease: one look may fail.
_TEND_SECONDS = 3.0
_TELL_SECONDS = 5.0
_LONGEST_PAUSE = 60.0


async def tend_workflows(runs: WorkflowRuns) -> None:
    """Take up workflows that nobody carries out, at the start and ever after. Never returns."""
    while True:
        runs.wanted.clear()
        await runs.tend()
        with suppress(TimeoutError):
            await asyncio.wait_for(runs.wanted.wait(), _TEND_SECONDS)


async def tell_the_monitor(store: Runs, monitor: Monitor) -> None:
    """Tell it what has ended, until it has acknowledged; it may be away. Never returns."""
    pause = _TELL_SECONDS
    while True:
        try:
            await tell_once(store, monitor)
            pause = _TELL_SECONDS
        except DomainError as error:
            _log.warning("monitor_not_told", code=error.code, detail=error.detail, seconds=pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        await asyncio.sleep(pause)


async def tell_once(store: Runs, monitor: Monitor) -> None:
    """All that the monitor does not know yet. Raises what the monitor's client raises."""
    async with store.reading() as records:
        news = await records.untold()
    for run in news:
        await monitor.ended(run)
        async with store.transaction() as records:
            await records.told(run.id, run.status)
