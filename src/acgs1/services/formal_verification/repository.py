"""All queries of formal_verification."""

import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Certificate, VerificationReport, VerificationSummary
from acgs1.core.hashing import text_hash
from acgs1.kit.db import ids, page
from acgs1.kit.outbox import Recorder
from acgs1.services.formal_verification.domain import JobKind, Status, StoredAnalysis, StoredVerification
from acgs1.services.formal_verification.models import (
    AnalysisRow,
    CachedObligationRow,
    CertificateRow,
    ProofTextRow,
    VerificationRow,
)

# SQLite takes 32766 parameters in one statement (SQLITE_MAX_VARIABLE_NUMBER), asyncpg 32767.
_KEYS_PER_QUERY = 10_000


class VerificationRepository(Recorder):
    """Verifications, cached obligations and certificates, inside the transaction of its session."""

    async def add_verification(self, verification: StoredVerification) -> None:
        self.session.add(
            VerificationRow(
                id=verification.id,
                status=verification.status,
                policies=verification.policies,
                constitution=verification.constitution.model_dump(mode="json"),
                policies_hash=text_hash(verification.policies),
                constitution_hash=verification.constitution_hash,
                deadline_seconds=verification.deadline_seconds,
                requested_by=verification.requested_by,
                proofs=verification.proofs,
                created_at=verification.created_at,
            )
        )
        await self.session.flush()

    async def verification(self, verification_id: str) -> StoredVerification | None:
        row = await self.session.get(VerificationRow, verification_id)
        return _verification(row) if row is not None else None

    async def verifications(self, cursor: str | None, limit: int) -> tuple[list[VerificationSummary], str | None]:
        columns = select(VerificationRow)
        rows, following = await page(self.session, columns, VerificationRow.id, cursor, limit, ids("ver"))
        return [_summary(row) for row in rows], following

    async def running(self) -> list[StoredVerification]:
        rows = await self.session.scalars(
            select(VerificationRow).where(VerificationRow.status == "running").order_by(VerificationRow.id)
        )
        return [_verification(row) for row in rows]

    async def finish(
        self,
        verification_id: str,
        status: Status,
        at: datetime,
        report: VerificationReport | None = None,
        detail: str | None = None,
    ) -> None:
        await self.session.execute(
            update(VerificationRow)
            .where(VerificationRow.id == verification_id)
            .values(
                status=status,
                report=report.model_dump(mode="json") if report is not None else None,
                verdict=report.verdict if report is not None else None,
                certificate_hash=report.certificate_hash if report is not None else None,
                detail=detail,
                finished_at=at,
            )
        )

    async def cached(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            rows = await self.session.execute(
                select(CachedObligationRow.key, CachedObligationRow.result).where(
                    CachedObligationRow.key.in_(keys[start : start + _KEYS_PER_QUERY])
                )
            )
            found.update((row.key, row.result) for row in rows)
        return found

    async def cache(self, results: dict[str, dict[str, Any]], at: datetime) -> None:
        rows = [{"key": key, "result": result, "proved_at": at} for key, result in results.items()]
        if rows:
            # Two verifications may have proved the same at once; equal keys hold equal verdicts.
            await self._add_missing(CachedObligationRow, rows)

    async def keep_texts(self, texts: dict[str, str], at: datetime) -> None:
        if texts:
            rows = [{"hash": key, "data": zlib.compress(text.encode()), "kept_at": at} for key, text in texts.items()]
            await self._add_missing(ProofTextRow, rows)

    async def text(self, digest: str) -> str | None:
        row = await self.session.get(ProofTextRow, digest)
        return zlib.decompress(row.data).decode() if row is not None else None

    async def _add_missing(self, table: type[CachedObligationRow | ProofTextRow], rows: list[dict[str, Any]]) -> None:
        dialect = sqlite if self.session.get_bind().dialect.name == "sqlite" else postgresql
        await self.session.execute(dialect.insert(table).on_conflict_do_nothing(), rows)

    async def add_certificate(self, certificate: Certificate, verification_id: str, at: datetime) -> None:
        if await self.session.get(CertificateRow, certificate.hash) is None:
            self.session.add(
                CertificateRow(
                    hash=certificate.hash,
                    certificate=certificate.model_dump(mode="json"),
                    verification_id=verification_id,
                    issued_at=at,
                )
            )
            await self.session.flush()

    async def certificate(self, certificate_hash: str) -> tuple[Certificate, str] | None:
        row = await self.session.get(CertificateRow, certificate_hash)
        return (Certificate.model_validate(row.certificate), row.verification_id) if row is not None else None

    async def add_analysis(self, analysis: StoredAnalysis) -> None:
        self.session.add(
            AnalysisRow(
                id=analysis.id,
                kind=analysis.kind,
                input=analysis.input,
                status=analysis.status,
                requested_by=analysis.requested_by,
                created_at=analysis.created_at,
            )
        )
        await self.session.flush()

    async def analysis(self, analysis_id: str) -> StoredAnalysis | None:
        row = await self.session.get(AnalysisRow, analysis_id)
        return _analysis(row) if row is not None else None

    async def running_analyses(self) -> list[StoredAnalysis]:
        rows = await self.session.scalars(
            select(AnalysisRow).where(AnalysisRow.status == "running").order_by(AnalysisRow.id)
        )
        return [_analysis(row) for row in rows]

    async def finish_analysis(
        self,
        analysis_id: str,
        status: Status,
        at: datetime,
        result: dict[str, Any] | None = None,
        detail: str | None = None,
    ) -> None:
        await self.session.execute(
            update(AnalysisRow)
            .where(AnalysisRow.id == analysis_id)
            .values(status=status, result=result, detail=detail, finished_at=at)
        )


def _analysis(row: AnalysisRow) -> StoredAnalysis:
    return StoredAnalysis(
        id=row.id,
        kind=cast("JobKind", row.kind),
        input=row.input,
        status=cast("Status", row.status),
        requested_by=row.requested_by,
        created_at=row.created_at,
        result=row.result,
        detail=row.detail,
    )


def _verification(row: VerificationRow) -> StoredVerification:
    return StoredVerification(
        id=row.id,
        status=cast("Status", row.status),
        policies=row.policies,
        constitution=Constitution.model_validate(row.constitution),
        constitution_hash=row.constitution_hash,
        deadline_seconds=row.deadline_seconds,
        requested_by=row.requested_by,
        proofs=row.proofs,
        created_at=row.created_at,
        finished_at=row.finished_at,
        report=VerificationReport.model_validate(row.report) if row.report is not None else None,
        detail=row.detail,
    )


def _summary(row: VerificationRow) -> VerificationSummary:
    return VerificationSummary.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "verdict": row.verdict,
            "policies_hash": row.policies_hash,
            "constitution_hash": row.constitution_hash,
            "certificate_hash": row.certificate_hash,
            "requested_by": row.requested_by,
            "created_at": row.created_at,
        }
    )
