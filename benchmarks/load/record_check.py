"""After the load: is everything that was acknowledged where it was promised? Every event in the log and as it was answered, every ballot
on the ledger, everything else with the service that made it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import httpx
from benchmarks.load.mix import APPENDED, Record
from benchmarks.load.scene import Scene

from acgs1.contracts.common import Page
from acgs1.contracts.integrity import Entry
from acgs1.ledger.client import ledger_client
from acgs1.runtime.api import Api, ApiProblem

_DEADLINE_SECONDS: Final = 60.0

KEYS: Final[dict[str, tuple[Callable[[Entry], str], Callable[[Entry], str]]]] = {
    "decision.made": (lambda e: e.event.id, lambda e: str(e.event.data["decision"])),
    "ballot.cast": (lambda e: str(e.event.data["signature"]), lambda e: str(e.event.data["choice"])),
    "constitution.drafted": (lambda e: e.event.subject, lambda e: str(e.event.data["name"])),
    "verification.completed": (lambda e: e.event.subject, lambda e: str(e.event.data["verdict"])),
    "certificate.issued": (lambda e: e.event.subject, lambda e: str(e.event.data["verification"])),
    "draft.created": (lambda e: e.event.subject, lambda e: str(e.event.data["policies_hash"])),
    "run.started": (lambda e: e.event.subject, lambda e: str(e.event.data["seed"])),
    "run.finished": (lambda e: e.event.subject, lambda e: str(e.event.data["status"])),
    APPENDED: (lambda e: e.event.id, lambda e: str(e.event.data["number"])),
}
"""Every type of event that the load has acknowledged: what names the fact, and what the entry says of it."""

_LEDGER_SECOND: Final = timedelta(seconds=1)
"""The ledger tells time in whole seconds: a ballot of the load's first second may bear one from just before."""
_FIRST: Final = "decision.made"


@dataclass(slots=True)
class Logged:
    """One type of event: how many were acknowledged, how many of any origin the log took since the load began, keys of those that are
    missing or say something else, and how many entries nobody was told of or somebody else was."""

    acknowledged: int = 0
    logged: int = 0
    missing: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    unacknowledged: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """`acknowledged`, `logged` and `unacknowledged` are of decisions, `made` counts all other acknowledged events; `missing` and
    `different` are of all types, and `by_type` has each type's own. `seconds` is how long after the end of the load the log had them all.
    `lost` names what was acknowledged and its service does not know any more, `not_on_ledger` the ballots that the ledger does not have.
    """

    acknowledged: int
    logged: int
    missing: list[str]
    different: list[str]
    unacknowledged: int
    seconds: float
    made: int
    lost: list[str]
    ballots: int
    not_on_ledger: list[str]
    by_type: dict[str, dict[str, Any]]


async def check(scene: Scene, since: datetime, record: Record) -> Kept:
    """Read the log's entries since the start of the load until all acknowledged events are there, for at most a minute; then ask for
    everything that was made, and the ledger for every ballot."""
    started = time.monotonic()
    logged: dict[str, dict[str, str]] = {event_type: {} for event_type in KEYS}
    async with httpx.AsyncClient(timeout=30.0, trust_env=False) as http:
        desk = Api(http, scene.settings).acting_as(scene.token)
        waiting = [event_type for event_type in KEYS if record.events.get(event_type)]
        while True:
            for event_type in waiting:
                earliest = since - _LEDGER_SECOND if event_type == "ballot.cast" else since
                await _read_newer(desk, earliest, event_type, logged[event_type])
            waiting = [t for t in waiting if record.events[t].keys() - logged[t].keys()]
            if not waiting or time.monotonic() - started > _DEADLINE_SECONDS:
                break
            await asyncio.sleep(0.5)
        seconds = time.monotonic() - started
        lost = [path for part, path in record.made if not await _found(desk, part, path)]
    types = {t: _compared(record.events.get(t, {}), logged[t]) for t in KEYS}
    return Kept(
        acknowledged=types[_FIRST].acknowledged,
        logged=types[_FIRST].logged,
        missing=[key for one in types.values() for key in one.missing],
        different=[key for one in types.values() for key in one.different],
        unacknowledged=types[_FIRST].unacknowledged,
        seconds=round(seconds, 2),
        made=sum(one.acknowledged for name, one in types.items() if name != _FIRST),
        lost=lost,
        ballots=len(record.ballots),
        not_on_ledger=await _not_on_ledger(scene, record),
        by_type={name: asdict(one) for name, one in types.items() if one.acknowledged},
    )


def _compared(acknowledged: dict[str, str], logged: dict[str, str]) -> Logged:
    return Logged(
        acknowledged=len(acknowledged),
        logged=len(logged),
        missing=sorted(acknowledged.keys() - logged.keys()),
        different=sorted(key for key, says in acknowledged.items() if logged.get(key, says) != says),
        unacknowledged=len(logged.keys() - acknowledged.keys()),
    )


async def _found(desk: Api, part: str, path: str) -> bool:
    try:
        await desk.call("GET", part, path)
    except ApiProblem as problem:
        if problem.problem.status == 404:
            return False
        raise
    return True


async def _not_on_ledger(scene: Scene, record: Record) -> list[str]:
    """Signatures of acknowledged ballots whose transaction the ledger does not have, or refused; asked of the ledger itself."""
    absent: list[str] = []
    async with ledger_client(scene.settings) as ledger:
        for signature in record.ballots:
            landed = await ledger.transaction(signature)
            if landed is None or landed.error is not None:
                absent.append(signature)
    return absent


async def _read_newer(desk: Api, since: datetime, event_type: str, logged: dict[str, str]) -> None:
    """Add what the log took since the last reading; it lists the newest first, so the first known entry ends the reading."""
    name, says = KEYS[event_type]
    known = set(logged)
    cursor: str | None = None
    while True:
        asked = {"type": event_type, "since": since.isoformat(), "limit": 200} | ({"cursor": cursor} if cursor else {})
        page = await desk.get("integrity", "/api/v1/entries", Page[Entry], **asked)
        for entry in page.items:
            if name(entry) in known:
                return
            logged[name(entry)] = says(entry)
        cursor = page.next_cursor
        if cursor is None:
            return
