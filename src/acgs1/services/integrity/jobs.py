"""Work in the background."""

import asyncio
from contextlib import suppress

import structlog

from acgs1.core.errors import DomainError
from acgs1.services.integrity.anchoring import Anchorer
from acgs1.services.integrity.errors import LedgerNotReady, NothingToAnchor

_log = structlog.get_logger()

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


async def keep_anchored(anchorer: Anchorer, seconds: float) -> None:
    """Anchor whenever the log has grown: after `seconds`, or at once when somebody waits. Never returns.

    While the ledger fails the pause between tries doubles from 1 to 60 seconds, whoever waits: it is given time to come back.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            await anchorer.anchor_now()
        except NothingToAnchor:
            pass
        except LedgerNotReady:
            await asyncio.sleep(_FIRST_PAUSE)
            continue
        except DomainError as error:
            _log.warning("anchoring_failed", code=error.code, detail=error.detail, retry_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            continue
        pause = _FIRST_PAUSE
        with suppress(TimeoutError):
            await asyncio.wait_for(anchorer.wanted(), seconds)
