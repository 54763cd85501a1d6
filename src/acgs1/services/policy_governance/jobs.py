"""Background work of policy_governance."""

import asyncio

import structlog

from acgs1.contracts.events import Event
from acgs1.core.errors import DomainError
from acgs1.kit.db import Store
from acgs1.kit.errors import DependencyUnavailable
from acgs1.services.policy_governance.adapters.ledger import SolanaGovernance
from acgs1.services.policy_governance.domain import Recorded
from acgs1.services.policy_governance.repository import GovernanceRepository
from acgs1.services.policy_governance.service.bundles import Bundles
from acgs1.services.policy_governance.service.emergencies import EmergencyPowers
from acgs1.services.policy_governance.service.voting import Voting

_log = structlog.get_logger()
_FIRST_PAUSE = 0.2
_CARRY_ON_SECONDS = 2.0
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
    # Not validated once more: all of it comes from a record that was.
    return Event.model_construct(
        id=record.id,
        type="decision.made",
        time=record.time,
        service="policy_governance",
        actor=record.caller,
        subject=record.subject,
        data=data,
        personal={"request": record.request},
    )


class LedgerWatch:
    """Follows the ledger once in an interval: emergency actions are obeyed within one. While the ledger is away the last known ones stay in
    effect until their time is over, also over a restart, and no constitution is taken for changed."""

    def __init__(
        self,
        ledger: SolanaGovernance,
        powers: EmergencyPowers,
        bundles: Bundles,
        voting: Voting,
        seconds: float,
    ) -> None:
        self._ledger = ledger
        self._powers = powers
        self._bundles = bundles
        self._voting = voting
        self._seconds = seconds
        self._initialized = False
        self._failure: DomainError | None = DependencyUnavailable("the ledger has not been asked yet")

    async def run(self) -> None:
        while True:
            try:
                await self.once()
                self._failure = None
            except DomainError as error:
                _log.warning("ledger_not_followed", code=error.code, detail=error.detail)
                self._failure = error
            await asyncio.sleep(self._seconds)

    async def once(self) -> None:
        """One look: initialise the program on the first start, take in what happened, obey it."""
        if not self._initialized:
            await self._ledger.initialize()
            self._initialized = True
        await self._powers.watch()
        try:
            await self._bundles.bind()
        except DomainError as error:
            # Nobody but the operator can mend a bundle; the ledger is followed all the same.
            _log.error("active_bundle_refused", code=error.code, detail=error.detail)

    async def carry_on(self) -> None:
        """Go on with what a crash cut off. Apart from `run`: a ledger that is slow to take a transaction must not hold up the look."""
        pause = _FIRST_PAUSE
        while True:
            if self._initialized:
                try:
                    await self._voting.resume()
                    pause = _CARRY_ON_SECONDS
                except DomainError as error:
                    _log.warning("votes_not_carried_on", code=error.code, detail=error.detail, seconds=pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def check(self) -> None:
        """For `/health`: raises what the last look at the ledger raised. Asks nobody, so that probes cannot open its breaker."""
        if self._failure is not None:
            raise self._failure
