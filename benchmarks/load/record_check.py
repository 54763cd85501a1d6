"""After the load: is every acknowledged decision in the log, as it was answered?"""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime

import httpx
from benchmarks.load.mix import Record
from benchmarks.load.scene import Scene

from acgs1.contracts.common import Page
from acgs1.contracts.integrity import Entry
from acgs1.runtime.api import Api, ApiProblem

_DEADLINE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Kept:
    """`missing` and `different` hold ids of acknowledged decisions; `unacknowledged` counts entries whose answer never arrived or was
    somebody else's. `seconds` is how long after the end of the load the log had them all. `made` counts drafts, verifications and runs that
    were acknowledged, `lost` names those that their service does not know any more."""

    acknowledged: int
    logged: int
    missing: list[str]
    different: list[str]
    unacknowledged: int
    seconds: float
    made: int
    lost: list[str]


async def check(scene: Scene, since: datetime, record: Record) -> Kept:
    """Read the log's `decision.made` entries since the start of the load until all acknowledged decisions are there, for at most two
    minutes; then ask for everything else that was made."""
    decisions = record.decisions
    started = time.monotonic()
    logged: dict[str, bool] = {}
    async with httpx.AsyncClient(timeout=30.0, trust_env=False) as http:
        desk = Api(http, scene.settings).acting_as(scene.token)
        while True:
            await _read_newer(desk, since, logged)
            missing = decisions.keys() - logged.keys()
            if not missing or time.monotonic() - started > _DEADLINE_SECONDS:
                break
            await asyncio.sleep(0.5)
        seconds = time.monotonic() - started
        lost = [path for part, path in record.made if not await _found(desk, part, path)]
    return Kept(
        acknowledged=len(decisions),
        logged=len(logged),
        missing=sorted(missing),
        different=sorted(i for i, allowed in decisions.items() if logged.get(i, allowed) is not allowed),
        unacknowledged=len(logged.keys() - decisions.keys()),
        seconds=round(seconds, 2),
        made=len(record.made),
        lost=lost,
    )


async def _found(desk: Api, part: str, path: str) -> bool:
    try:
        await desk.call("GET", part, path)
    except ApiProblem as problem:
        if problem.problem.status == 404:
            return False
        raise
    return True


async def _read_newer(desk: Api, since: datetime, logged: dict[str, bool]) -> None:
    """Add what the log took since the last reading; it lists the newest first, so the first known entry ends the reading."""
    known = set(logged)
    cursor: str | None = None
    while True:
        asked = {"type": "decision.made", "since": since.isoformat(), "limit": 200} | (
            {"cursor": cursor} if cursor else {}
        )
        page = await desk.get("integrity", "/api/v1/entries", Page[Entry], **asked)
        for entry in page.items:
            if entry.event.id in known:
                return
            logged[entry.event.id] = entry.event.data["decision"] == "allow"
        cursor = page.next_cursor
        if cursor is None:
            return
