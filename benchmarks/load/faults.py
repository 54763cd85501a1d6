"""Faults, one after the other, while the load runs; and what the users saw of each."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

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
PULSE: Final = 0.1
SLOW_SERVICE: Final = "integrity"


@dataclass(frozen=True, slots=True)
class Fault:
    """`begin` does it, `end` takes it back after `LASTING` seconds; without `end` the system has to recover by itself."""

    name: str
    does: str
    begin: Callable[[], None]
    end: Callable[[], None] | None = None
    pulses: bool = False
    kills: str | None = None


@dataclass(slots=True)
class Happened:
    """When a fault was done (seconds after the load's start), and for a killed part how long until it said that it is healthy again."""

    fault: Fault
    at: float
    healthy_after: float | None = None


def faults_for(settings: PlatformSettings, around: Surroundings) -> list[Fault]:
    """Everything that can be done here, in order."""

    def kill(name: str) -> Callable[[], None]:
        return lambda: os.kill(pid_of(settings, name), signal.SIGKILL)

    found = [
        Fault(f"kill -9 {part.name}", "the supervisor brings it back", kill(part.name), kills=part.name)
        for part in PARTS
    ]
    if around.redis is not None:
        redis = around.redis
        found.append(Fault("redis gone", f"redis-server killed, back after {LASTING:g} s", redis.kill, redis.start))
    if around.postgres is not None:
        postgres = around.postgres
        found.append(
            Fault("postgresql gone", f"immediate shutdown, started after {LASTING:g} s", postgres.kill, postgres.start)
        )
    if around.disk is not None:
        disk = around.disk
        what = f"the whole system's writes limited to {SLOW_WRITES}/s for {LASTING:g} s (blkio throttle)"
        found.append(Fault("disk slow", what, lambda: disk.slow(all_pids(settings)), disk.fast))
    if around.clock is not None:
        clock = around.clock
        what = f"wall clock {JUMP} s ahead for {LASTING:g} s, then set back"
        found.append(Fault("clock jump", what, lambda: clock.jump(JUMP), lambda: clock.jump(0)))
    slow = Fault(
        f"{SLOW_SERVICE} slow",
        f"stopped for {PULSE * 1000:g} ms, running for {PULSE * 1000:g} ms, for {LASTING:g} s",
        lambda: None,
        lambda: None,
        pulses=True,
    )
    return [*found, slow]


def seconds_for(faults: Sequence[Fault]) -> float:
    """How long the load has to be."""
    return QUIET + SPACING * len(faults) + QUIET


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
    for number, fault in enumerate(faults):
        await asyncio.sleep(max(0.0, start + warm_up + QUIET + SPACING * number - time.monotonic()))
        done = Happened(fault, time.monotonic() - start)
        happened.append(done)
        print(f"  fault: {fault.name} ({fault.does})", flush=True)
        try:
            await asyncio.to_thread(fault.begin)
            if fault.kills is not None:
                done.healthy_after = await _healthy_after(settings, fault.kills)
            elif fault.pulses:
                await _pulse(pid_of(settings, SLOW_SERVICE))
            else:
                await asyncio.sleep(LASTING)
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


async def _pulse(pid: int) -> None:
    try:
        for _ in range(int(LASTING / PULSE / 2)):
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(PULSE)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(PULSE)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def seen(happened: Sequence[Happened], samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Per fault: the requests intended from its beginning to the next one's, and how they went without and with the one retry."""
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(happened):
        until = happened[number + 1].at if number + 1 < len(happened) else one.at + SPACING
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
