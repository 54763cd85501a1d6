"""Emergency actions: taken and ended by the emergency authority, confirmed or ended by a vote; obeyed by the decision point."""

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Page
from acgs1.contracts.events import new_event
from acgs1.contracts.policy_governance import Emergency, EmergencyReceipt, NewEmergency
from acgs1.core.clock import Clock
from acgs1.services.policy_governance.ports import Governance, Ledger
from acgs1.services.policy_governance.service.chronicle import Chronicle
from acgs1.services.policy_governance.service.decisions import DecisionPoint


class EmergencyPowers:
    """The decision point obeys what the ledger has said so far, also over a restart. While the ledger is away, actions that no vote
    has confirmed end by the clock here; a confirmation that nobody could hear of counts as soon as it is heard."""

    def __init__(
        self, store: Governance, ledger: Ledger, chronicle: Chronicle, point: DecisionPoint, clock: Clock
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._chronicle = chronicle
        self._point = point
        self._clock = clock

    async def act(self, request: NewEmergency, by: Identity) -> EmergencyReceipt:
        """Put an emergency action on the ledger; the decision point obeys it at once here, elsewhere within one polling interval."""
        index = await self._ledger.emergency(request.kind, request.target, request.reason, request.seconds)
        data = {
            "emergency": request.kind,
            "target": request.target,
            "reason": request.reason,
            "seconds": request.seconds,
        }
        await self._note("emergency.declared", index, by, data)
        await self.watch()
        return EmergencyReceipt(index=index)

    async def end(self, index: int, by: Identity) -> Emergency:
        """End an action before its time. One that a vote has confirmed is ended by a vote alone."""
        await self._chronicle.catch_up()
        await self._chronicle.acting(index)
        await self._note("emergency.end_asked", index, by, {})
        await self._ledger.end_emergency(index)
        await self.watch()
        return next(action for action in await self._chronicle.actions() if action.index == index)

    async def actions(self, cursor: str | None, limit: int) -> Page[Emergency]:
        """The actions, newest first."""
        async with self._store.reading() as records:
            rows, following = await records.emergency_page(cursor, limit)
        return Page[Emergency](items=rows, next_cursor=following)

    async def watch(self) -> None:
        """Take in what has happened on the ledger and obey it."""
        await self._chronicle.catch_up()
        await self.obey()

    async def obey(self) -> None:
        """Obey what is known here; asks nobody."""
        self._point.obey(await self._chronicle.emergencies())

    async def _note(self, kind: str, index: int, by: Identity, data: dict[str, str | int | None]) -> None:
        async with self._store.transaction() as records:
            event = new_event("policy_governance", kind, self._clock.now(), actor=by.id, subject=str(index), **data)
            await records.record(event)
