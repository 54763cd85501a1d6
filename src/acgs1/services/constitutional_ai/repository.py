"""All queries of constitutional_ai."""

from datetime import datetime

from sqlalchemy import select, update

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionStatus
from acgs1.core.ids import new_id
from acgs1.kit.db import ids, page
from acgs1.kit.outbox import Recorder
from acgs1.services.constitutional_ai.domain import StoredConstitution
from acgs1.services.constitutional_ai.models import ConstitutionRow


class ConstitutionRepository(Recorder):
    """The constitutions, inside the transaction of its session."""

    async def add(self, stored: StoredConstitution) -> None:
        self.session.add(
            ConstitutionRow(
                hash=stored.hash,
                sequence=new_id("con"),
                document=stored.constitution.model_dump(mode="json"),
                status=stored.status,
                created_by=stored.created_by,
                created_at=stored.created_at,
            )
        )
        await self.session.flush()

    async def get(self, constitution_hash: str) -> StoredConstitution | None:
        row = await self.session.get(ConstitutionRow, constitution_hash, populate_existing=True)
        return _stored(row) if row else None

    async def with_status(self, status: ConstitutionStatus) -> StoredConstitution | None:
        row = await self.session.scalar(select(ConstitutionRow).where(ConstitutionRow.status == status))
        return _stored(row) if row else None

    async def page(self, cursor: str | None, limit: int) -> tuple[list[StoredConstitution], str | None]:
        rows, following = await page(
            self.session, select(ConstitutionRow), ConstitutionRow.sequence, cursor, limit, ids("con")
        )
        return [_stored(row) for row in rows], following

    async def set_status(self, constitution_hash: str, status: ConstitutionStatus, refusal: str | None = None) -> None:
        change = update(ConstitutionRow).where(ConstitutionRow.hash == constitution_hash)
        await self.session.execute(change.values(status=status, refusal=refusal))

    async def bring_into_force(self, constitution_hash: str, version: int, at: datetime, signature: str | None) -> None:
        await self.session.execute(
            update(ConstitutionRow).where(ConstitutionRow.status == "in_force").values(status="superseded")
        )
        await self.session.execute(
            update(ConstitutionRow)
            .where(ConstitutionRow.hash == constitution_hash)
            .values(status="in_force", version=version, in_force_at=at, ledger_signature=signature, refusal=None)
        )


def _stored(row: ConstitutionRow) -> StoredConstitution:
    return StoredConstitution(
        hash=row.hash,
        constitution=Constitution.model_validate(row.document),
        status=row.status,  # pyright: ignore[reportArgumentType] - only this repository writes it
        version=row.version,
        created_by=row.created_by,
        created_at=row.created_at,
        in_force_at=row.in_force_at,
        ledger_signature=row.ledger_signature,
        refusal=row.refusal,
    )
