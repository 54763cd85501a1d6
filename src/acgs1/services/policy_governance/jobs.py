"""Background work of policy_governance."""

import asyncio
import json
from pathlib import Path

import structlog

from acgs1.contracts.events import Event
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.kit.db import Store
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.home import write_private_json
from acgs1.services.policy_governance.adapters.ledger import SolanaGovernance
from acgs1.services.policy_governance.domain import Emergencies, Recorded
from acgs1.services.policy_governance.repository import GovernanceRepository
from acgs1.services.policy_governance.service.bundles import Bundles
from acgs1.services.policy_governance.service.decisions import DecisionPoint
from acgs1.services.policy_governance.service.voting import Voting

_log = structlog.get_logger()
_FOLLOW_SECONDS = 2.0
_LONGEST_PAUSE = 15.0


async def keep_decisions(store: Store[GovernanceRepository], decisions: list[Recorded]) -> None:
    """Move decisions from the spool into the database and, in the same transaction, into the outbox for the log."""
    async with store.transaction() as records:
        known = await records.known_decisions([decision.record.id for decision in decisions])
        fresh = [decision for decision in decisions if decision.record.id not in known]
        if fresh:
            await records.keep_decisions(fresh)
            await records.record_all([decision_event(decision) for decision in fresh])


def decision_event(decision: Recorded) -> Event:
    """The event of one decision: the request itself is in it only as a commitment."""
    record = decision.record
    data = record.model_dump(mode="json", exclude={"id", "time", "subject", "caller", "request"})
    return Event(
        id=record.id,
        type="decision.made",
        time=record.time,
        service="policy_governance",
        actor=record.caller,
        subject=record.subject,
        data=data,
        personal={"request": record.request},
    )


async def follow_the_ledger(ledger: SolanaGovernance, voting: Voting) -> None:
    """Initialise the program on the first start, then keep unfinished proposals in step with the ledger."""
    pause, initialized = 0.2, False
    while True:
        try:
            if not initialized:
                await ledger.initialize()
                initialized = True
            await voting.resume()
            pause = _FOLLOW_SECONDS
        except DomainError as error:
            _log.warning("ledger_not_followed", code=error.code, detail=error.detail, seconds=pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        await asyncio.sleep(pause)


class EmergencyWatch:
    """Obeys emergency actions within one interval. While the ledger is away the last known ones stay in effect, also over a restart:
    they are kept in `file`."""

    def __init__(self, point: DecisionPoint, bundles: Bundles, clock: Clock, seconds: float, file: Path) -> None:
        self._point = point
        self._bundles = bundles
        self._clock = clock
        self._seconds = seconds
        self._file = file
        self._failure: DomainError | None = DependencyUnavailable("the ledger has not been asked yet")
        if file.exists():
            known = json.loads(file.read_text())
            point.emergencies = Emergencies(frozenset(known["suspended"]), frozenset(known["revoked"]), known["frozen"])

    async def run(self) -> None:
        kept = self._point.emergencies
        while True:
            try:
                await self._bundles.watch_emergencies(self._clock.now())
                self._failure = None
            except DomainError as error:
                _log.warning("emergencies_not_read", code=error.code)
                self._failure = error
            if self._point.emergencies != kept:
                kept = self._point.emergencies
                document = {"suspended": sorted(kept.suspended), "revoked": sorted(kept.revoked), "frozen": kept.frozen}
                await asyncio.to_thread(write_private_json, self._file, document)
            await asyncio.sleep(self._seconds)

    async def check(self) -> None:
        """For `/health`: raises what the last look at the ledger raised. Asks nobody, so that probes cannot open its breaker."""
        if self._failure is not None:
            raise self._failure
