"""All queries of governance_synthesis."""

from sqlalchemy import select
from sqlalchemy.orm import undefer

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.governance_synthesis import Draft, DraftSummary
from acgs1.kit.db import page
from acgs1.kit.outbox import Recorder
from acgs1.services.governance_synthesis.models import DraftRow

_ACCOUNT = {"sentences", "actions_without_policy", "notes"}


class DraftRepository(Recorder):
    """The drafts, inside the transaction of its session."""

    async def add(self, draft: Draft, constitution: Constitution) -> None:
        columns = draft.model_dump(exclude=_ACCOUNT)
        account = draft.model_dump(mode="json", include=_ACCOUNT)
        self.session.add(DraftRow(**columns, account=account, constitution=constitution.model_dump(mode="json")))
        await self.session.flush()

    async def get(self, draft_id: str) -> tuple[Draft, Constitution] | None:
        everything = [undefer(DraftRow.constitution), undefer(DraftRow.policies), undefer(DraftRow.account)]
        row = await self.session.get(DraftRow, draft_id, options=everything)
        if row is None:
            return None
        draft = Draft.model_validate({**_summary(row).model_dump(), "policies": row.policies, **row.account})
        return draft, Constitution.model_validate(row.constitution)

    async def page(self, cursor: str | None, limit: int) -> tuple[list[DraftSummary], str | None]:
        rows, following = await page(self.session, select(DraftRow), DraftRow.id, cursor, limit)
        return [_summary(row) for row in rows], following


def _summary(row: DraftRow) -> DraftSummary:
    return DraftSummary.model_validate({name: getattr(row, name) for name in DraftSummary.model_fields})
