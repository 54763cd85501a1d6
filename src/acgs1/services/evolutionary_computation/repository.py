"""All queries of evolutionary_computation."""

from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, func, null, select, update
from sqlalchemy.orm import undefer

from acgs1.contracts.evolutionary_computation import NewRun, Run
from acgs1.kit.db import ids, page
from acgs1.kit.outbox import Recorder
from acgs1.services.evolutionary_computation.models import RunRow

_OUTCOME = {"status", "method", "refuted_candidates", "unproved_candidates", "evaluations", "generations", "detail"}


class RunRepository(Recorder):
    """The runs, inside the transaction of its session."""

    async def add(self, run: Run, request: NewRun) -> None:
        columns = run.model_dump(exclude={"best", "oversight"})
        self.session.add(RunRow(**columns, best=null(), oversight=null(), request=request.model_dump(mode="json")))
        await self.session.flush()

    async def get(self, run_id: str) -> Run | None:
        row = await self.session.get(RunRow, run_id)
        return _run(row) if row else None

    async def oldest_running(self) -> tuple[Run, NewRun] | None:
        oldest = select(RunRow).where(RunRow.status == "running").order_by(RunRow.id).limit(1)
        row = await self.session.scalar(oldest.options(undefer(RunRow.request)))
        return (_run(row), NewRun.model_validate(row.request)) if row else None

    async def count_running(self) -> int:
        return await self.session.scalar(select(func.count()).where(RunRow.status == "running")) or 0

    async def page(self, cursor: str | None, limit: int) -> tuple[list[Run], str | None]:
        rows, following = await page(self.session, select(RunRow), RunRow.id, cursor, limit, ids("run"))
        return [_run(row) for row in rows], following

    async def finish(self, run: Run, at: datetime) -> bool:
        found = {
            "best": run.best.model_dump(mode="json") if run.best else null(),
            "oversight": run.oversight.model_dump(mode="json") if run.oversight else null(),
        }
        values = {**run.model_dump(include=_OUTCOME), **found, "finished_at": at}
        change = update(RunRow).where(RunRow.id == run.id, RunRow.status == "running").values(values)
        result: CursorResult[Any] = await self.session.execute(change)  # pyright: ignore[reportAssignmentType] - an UPDATE gives one
        return result.rowcount == 1


def _run(row: RunRow) -> Run:
    return Run.model_validate({name: getattr(row, name) for name in Run.model_fields})
