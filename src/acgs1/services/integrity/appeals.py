"""Use cases of appeals: a challenge, a ruling; each step is an entry of the log."""

import secrets

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Page
from acgs1.contracts.events import Event
from acgs1.contracts.integrity import Appeal, NewAppeal, Ruling
from acgs1.core.clock import Clock
from acgs1.core.ids import new_id
from acgs1.services.integrity.domain import READERS, commit
from acgs1.services.integrity.errors import AppealClosed, AppealNotFound
from acgs1.services.integrity.ports import AppealRecord, LogStore


class AppealService:
    """Appeals and their rulings. What people wrote goes into the log only as commitments."""

    def __init__(self, store: LogStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def appeal(self, request: NewAppeal, by: Identity) -> Appeal:
        """Challenge a decision, policy or bundle; anybody who is signed in may."""
        salt = secrets.token_bytes(32)
        appeal = Appeal(
            id=new_id("apl"),
            subject=request.subject,
            grounds=request.grounds,
            appellant=by.id,
            status="open",
            ruling=None,
            ruled_by=None,
            created_at=self._clock.now(),
            ruled_at=None,
        )
        event = Event(
            id=new_id("evt"),
            type="appeal.filed",
            time=appeal.created_at,
            service="integrity",
            actor=by.id,
            subject=appeal.subject,
            data={"appeal": appeal.id},
            personal={"grounds": commit(appeal.grounds, salt)},
        )
        async with self._store.transaction() as records:
            await records.add_appeal(AppealRecord(appeal, salt))
            await records.record(event)
        return appeal

    async def rule(self, appeal_id: str, ruling: Ruling, by: Identity) -> Appeal:
        """Decide an appeal, once; raises AppealNotFound, AppealClosed."""
        salt = secrets.token_bytes(32)
        async with self._store.transaction() as records:
            found = await records.appeal(appeal_id)
            if found is None:
                raise AppealNotFound(f"`{appeal_id}` is not an appeal here")
            now = self._clock.now()
            ruled = found.appeal.model_copy(
                update={"status": ruling.outcome, "ruling": ruling, "ruled_by": by.id, "ruled_at": now}
            )
            if not await records.close_appeal(AppealRecord(ruled, found.grounds_salt, salt)):
                raise AppealClosed(f"`{appeal_id}` was {found.appeal.status} on {found.appeal.ruled_at:%Y-%m-%d}")
            await records.record(
                Event(
                    id=new_id("evt"),
                    type="appeal.ruled",
                    time=now,
                    service="integrity",
                    actor=by.id,
                    subject=ruled.subject,
                    data={"appeal": appeal_id, "outcome": ruling.outcome},
                    personal={"reason": commit(ruling.reason, salt)},
                )
            )
        return ruled

    async def get(self, appeal_id: str, by: Identity) -> Appeal:
        """One appeal; to those who may not read all, another's does not exist."""
        async with self._store.reading() as records:
            found = await records.appeal(appeal_id)
        if found is None or not (_reads_all(by) or found.appeal.appellant == by.id):
            raise AppealNotFound(f"`{appeal_id}` is not an appeal here")
        return found.appeal

    async def list(self, subject: str | None, cursor: str | None, limit: int, by: Identity) -> Page[Appeal]:
        """Newest first; one's own only, unless one may read all."""
        appellant = None if _reads_all(by) else by.id
        async with self._store.reading() as records:
            rows, following = await records.appeals(subject, appellant, cursor, limit)
        return Page[Appeal](items=[row.appeal for row in rows], next_cursor=following)


def _reads_all(identity: Identity) -> bool:
    return bool(READERS.intersection(identity.roles))
