"""Faults, one after the other, while the load runs; and what the users saw of each."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from benchmarks.load.run import Sample
from benchmarks.load.surroundings import SLOW_WRITES, Surroundings

from acgs1.contracts.topology import PARTS
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.supervisor import is_healthy, supervised

SPACING: Final = 6.0
"""Seconds from the beginning of one fault to that of the next."""
LASTING: Final = 4.0
"""Seconds that a fault lasts that has an end."""
QUIET: Final = 3.0
"""Seconds of load before the first fault and after the last one's turn."""
JUMP: Final = 120
SLOW_ANSWERS: Final = 3.0
SLOW_LASTING: Final = 36.0
"""A breaker judges the calls of the last 30 s, and opens when 80 % of them took 2 s or more: it takes about that long to show."""
SLOW_SPACING: Final = SLOW_LASTING + 16.0
"""An open breaker waits 5 s, then three probes decide; one that is still held back takes the longest."""
SLOW: Final = "ledger slow"


@dataclass(frozen=True, slots=True)
class Fault:
    """`begin` does it, `end` takes it back after `lasting` seconds; without `end` the system has to recover by itself. `turn`: seconds
    until the next fault."""

    name: str
    does: str
    begin: Callable[[], None]
    end: Callable[[], None] | None = None
    kills: str | None = None
    lasting: float = LASTING
    turn: float = SPACING


@dataclass(slots=True)
class Happened:
    """When a fault was done (seconds after the load's start), and for a killed part how long until it said that it is healthy again."""

    fault: Fault
    at: float
    healthy_after: float | None = None


def faults_for(settings: PlatformSettings, around: Surroundings, *, database_only: bool = False) -> list[Fault]:
    """Everything that can be done here, in order; with `database_only`, what comes out differently on another database: each part killed,
    and the database itself gone."""

    def kill(name: str) -> Callable[[], None]:
        return lambda: os.kill(pid_of(settings, name), signal.SIGKILL)

    found = [
        Fault(f"kill -9 {part.name}", "the supervisor brings it back", kill(part.name), kills=part.name)
        for part in PARTS
    ]
    if around.redis is not None and not database_only:
        redis = around.redis
        found.append(Fault("redis gone", f"redis-server killed, back after {LASTING:g} s", redis.kill, redis.start))
    if around.postgres is not None:
        postgres = around.postgres
        found.append(
            Fault("postgresql gone", f"immediate shutdown, started after {LASTING:g} s", postgres.kill, postgres.start)
        )
    if database_only:
        return found
    if around.disk is not None:
        disk, postgres = around.disk, around.postgres
        what = f"the whole system's writes limited to {SLOW_WRITES}/s for {LASTING:g} s (blkio throttle)"
        found.append(
            Fault(
                "disk slow",
                what,
                lambda: disk.slow([*all_pids(settings), *(postgres.pids() if postgres else ())]),
                disk.fast,
            )
        )
    if around.clock is not None:
        clock = around.clock
        what = f"wall clock {JUMP} s ahead for {LASTING:g} s, then set back"
        found.append(Fault("clock jump", what, lambda: clock.jump(JUMP), lambda: clock.jump(0)))
    if around.ledger is not None:
        ledger = around.ledger
        found.append(
            Fault(
                SLOW,
                f"every answer of the ledger node held back by {SLOW_ANSWERS:g} s for {SLOW_LASTING:g} s (a relay)",
                lambda: ledger.hold_back(SLOW_ANSWERS),
                lambda: ledger.hold_back(0),
                lasting=SLOW_LASTING,
                turn=SLOW_SPACING,
            )
        )
    return found


def seconds_for(faults: Sequence[Fault]) -> float:
    """How long the load has to be."""
    return QUIET + sum(fault.turn for fault in faults) + QUIET


def pid_of(settings: PlatformSettings, part: str) -> int:
    state = supervised(settings.home)
    pid = None if state is None else state["parts"][part]["pid"]
    if pid is None:
        raise RuntimeError(f"`{part}` has no process to do something to")
    return pid


def all_pids(settings: PlatformSettings) -> list[int]:
    state = supervised(settings.home) or {"pid": None, "parts": {}}
    workers = [pid for part in state["parts"].values() for pid in part["workers"].values()]
    return [pid for pid in (state["pid"], *workers) if pid is not None]


async def carry_out(settings: PlatformSettings, faults: Sequence[Fault], warm_up: float) -> list[Happened]:
    """Do the faults at their times, counted from now. Whatever ends this early, what was begun is taken back."""
    start = time.monotonic()
    happened: list[Happened] = []
    due = start + warm_up + QUIET
    for fault in faults:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due += fault.turn
        done = Happened(fault, time.monotonic() - start)
        happened.append(done)
        print(f"  fault: {fault.name} ({fault.does})", flush=True)
        try:
            await asyncio.to_thread(fault.begin)
            if fault.kills is not None:
                done.healthy_after = await _healthy_after(settings, fault.kills)
            else:
                await asyncio.sleep(fault.lasting)
        finally:
            if fault.end is not None:
                await asyncio.to_thread(fault.end)
    return happened


async def _healthy_after(settings: PlatformSettings, part: str) -> float | None:
    begun = time.monotonic()
    port = settings.port(part)
    while time.monotonic() - begun < SPACING:
        if await asyncio.to_thread(is_healthy, settings.host, port):
            return round(time.monotonic() - begun, 3)
        await asyncio.sleep(0.02)
    return None


class BreakerWatch:
    """Every change of a circuit breaker that the monitor tells of, from now until `stop`.

    The processes report every few seconds, and one that is killed takes its last changes with it. A change is told at the process's own
    wall clock, also while that is set ahead.
    """

    def __init__(self, settings: PlatformSettings, token: str) -> None:
        self._url = settings.url("console") + "/api/v1/monitoring/breakers"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._since = datetime.now(UTC)
        self._changes: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False, headers=self._headers) as http:
            while True:
                # The console is killed like the others, and may not be ready for a moment.
                with suppress(httpx.TransportError):
                    answer = await http.get(self._url)
                    if answer.status_code < 500:
                        self._take(answer.raise_for_status().json())
                await asyncio.sleep(2.0)

    def _take(self, breakers: list[dict[str, Any]]) -> None:
        for breaker in breakers:
            for change in breaker["history"]:
                seconds = (datetime.fromisoformat(change["at"]) - self._since).total_seconds()
                if seconds >= 0:
                    told = {
                        "breaker": breaker["name"],
                        "at": round(seconds, 1),
                        **{k: change[k] for k in ("old", "new", "reason")},
                    }
                    self._changes[breaker["instance"], breaker["name"], change["at"], change["new"]] = told

    async def stop(self) -> list[dict[str, Any]]:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        return sorted(self._changes.values(), key=lambda change: change["at"])


def seen(happened: Sequence[Happened], samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Per fault: the requests intended from its beginning to the next one's, and how they went without and with the one retry."""
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(happened):
        until = happened[number + 1].at if number + 1 < len(happened) else one.at + one.fault.turn
        inside = [s for s in samples if one.at <= s.intended < until]
        failing = [s for s in inside if s.first_failure is not None]
        rows.append(
            {
                "fault": one.fault.name,
                "does": one.fault.does,
                "at": round(one.at, 2),
                "healthy_after_s": one.healthy_after,
                "intended": len(inside),
                "failed_without_retry": len(failing),
                "failed": sum(1 for s in inside if s.failure is not None),
                "felt_for_s": round(max((s.intended for s in failing), default=one.at) - one.at, 2),
                "slowest_ms": round(max((s.latency for s in inside), default=0.0) * 1000, 1),
            }
        )
    return rows
