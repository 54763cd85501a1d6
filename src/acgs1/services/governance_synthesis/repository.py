"""All queries of governance_synthesis."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import undefer

from acgs1.contracts.auth import Identity
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.governance_synthesis import (
    Draft,
    DraftSummary,
    NewPolicyCreation,
    WorkflowProblem,
    WorkflowStatus,
    WorkflowStep,
)
from acgs1.kit.db import ids, page
from acgs1.kit.outbox import Recorder
from acgs1.services.governance_synthesis.models import DraftRow, WorkflowRow
from acgs1.services.governance_synthesis.ports import Run

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
        rows, following = await page(self.session, select(DraftRow), DraftRow.id, cursor, limit, ids("drf"))
        return [_summary(row) for row in rows], following


def _summary(row: DraftRow) -> DraftSummary:
    return DraftSummary.model_validate({name: getattr(row, name) for name in DraftSummary.model_fields})


_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""A lease that has lapsed, whoever looks."""


class RunRepository(Recorder):
    """The workflows, inside the transaction of its session. Each change names in its condition the state that it is a change of, so that
    of two processes one changes it."""

    async def add(self, run: Run) -> None:
        self.session.add(
            WorkflowRow(
                id=run.id,
                key=run.key,
                name=run.request.name,
                request=run.request.model_dump(mode="json"),
                status=run.status,
                started_by=run.starter.id,
                starter=run.starter.model_dump(mode="json"),
                started_at=run.started_at,
                lease_until=_NEVER,
            )
        )
        await self.session.flush()

    async def get(self, run_id: str) -> Run | None:
        row = await self.session.get(WorkflowRow, run_id, options=[undefer(WorkflowRow.steps)])
        return None if row is None else _run(row, row.steps)

    async def by_key(self, starter_id: str, key: str) -> Run | None:
        found = select(WorkflowRow).where(WorkflowRow.started_by == starter_id, WorkflowRow.key == key)
        row = await self.session.scalar(found)
        return None if row is None else _run(row, None)

    async def page(self, status: WorkflowStatus | None, cursor: str | None, limit: int) -> tuple[list[Run], str | None]:
        statement = select(WorkflowRow)
        if status is not None:
            statement = statement.where(WorkflowRow.status == status)
        rows, following = await page(self.session, statement, WorkflowRow.id, cursor, limit, ids("wfl"))
        return [_run(row, None) for row in rows], following

    async def enter(self, run_id: str, step: str, owner: str, lease_until: datetime) -> bool:
        return await self._change(
            run_id, ["running"], step=step, waiting_for=None, owner=owner, lease_until=lease_until
        )

    async def note(self, run_id: str, waiting_for: str) -> bool:
        return await self._change(run_id, ["running"], waiting_for=waiting_for)

    async def complete(self, run_id: str, at: datetime, outcome: str, steps: list[WorkflowStep]) -> bool:
        kept = [step.model_dump(mode="json") for step in steps]
        return await self._change(
            run_id, ["running"], status="completed", outcome=outcome, finished_at=at, waiting_for=None, steps=kept
        )

    async def fail(self, run_id: str, at: datetime, problem: WorkflowProblem) -> bool:
        return await self._change(
            run_id,
            ["running"],
            status="failed",
            problem=problem.model_dump(mode="json"),
            finished_at=at,
            waiting_for=None,
        )

    async def cancel(self, run_id: str, at: datetime) -> bool:
        return await self._change(
            run_id, ["running", "failed"], status="cancelled", problem=None, finished_at=at, waiting_for=None
        )

    async def reopen(self, run_id: str) -> bool:
        return await self._change(
            run_id, ["failed", "cancelled"], status="running", problem=None, finished_at=None, lease_until=_NEVER
        )

    async def renew(self, run_ids: Iterable[str], owner: str, lease_until: datetime) -> None:
        ours = WorkflowRow.id.in_(list(run_ids)) & (WorkflowRow.owner == owner)
        await self.session.execute(update(WorkflowRow).where(ours).values(lease_until=lease_until))

    async def lapsed(self, now: datetime) -> list[str]:
        found = select(WorkflowRow.id).where(WorkflowRow.status == "running", WorkflowRow.lease_until < now)
        return list((await self.session.scalars(found.order_by(WorkflowRow.id))).all())

    async def claim(self, run_id: str, owner: str, now: datetime, lease_until: datetime) -> bool:
        return await self._change(
            run_id, ["running"], WorkflowRow.lease_until < now, owner=owner, lease_until=lease_until
        )

    async def release(self, owner: str) -> None:
        ours = (WorkflowRow.owner == owner) & (WorkflowRow.status == "running")
        await self.session.execute(update(WorkflowRow).where(ours).values(owner=None, lease_until=_NEVER))

    async def untold(self) -> list[Run]:
        ended = WorkflowRow.status != "running"
        news = select(WorkflowRow).where(ended, func.coalesce(WorkflowRow.told, "") != WorkflowRow.status)
        rows = (await self.session.scalars(news.order_by(WorkflowRow.id).limit(100))).all()
        return [_run(row, None) for row in rows]

    async def told(self, run_id: str, status: WorkflowStatus) -> None:
        await self.session.execute(update(WorkflowRow).where(WorkflowRow.id == run_id).values(told=status))

    async def _change(self, run_id: str, among: list[str], *conditions: ColumnElement[bool], **values: Any) -> bool:
        where = (WorkflowRow.id == run_id) & WorkflowRow.status.in_(among)
        result: Any = await self.session.execute(update(WorkflowRow).where(where, *conditions).values(**values))
        return result.rowcount == 1


def _run(row: WorkflowRow, steps: list[dict[str, Any]] | None) -> Run:
    status: Any = row.status
    return Run(
        id=row.id,
        key=row.key,
        request=NewPolicyCreation.model_validate(row.request),
        starter=Identity.model_validate(row.starter),
        status=status,
        step=row.step,
        waiting_for=row.waiting_for,
        outcome=row.outcome,
        problem=None if row.problem is None else WorkflowProblem.model_validate(row.problem),
        started_at=row.started_at,
        finished_at=row.finished_at,
        steps=None if steps is None else [WorkflowStep.model_validate(step) for step in steps],
    )
