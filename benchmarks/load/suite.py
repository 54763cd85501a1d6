"""One whole measurement: a steady load, a ramp to saturation and a load with faults when asked for; each checked against the log."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import uvloop
from benchmarks.load import cache, faults, record_check, report
from benchmarks.load.mix import BALLOTS_PER_SECOND, Kind, Record, build
from benchmarks.load.run import Driven, Sample, console_progress, drive, schedule
from benchmarks.load.scene import Scene, close_votes, prepare
from benchmarks.load.surroundings import Surroundings
from benchmarks.load.system import processor_seconds
from benchmarks.record import context

from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.supervisor import is_healthy

RAMP_FACTOR: Final = 1.4
RAMP_SECONDS: Final = 6.0
RAMP_SETTLE: Final = 2.0
RAMP_P99_MS: Final = 250.0
RAMP_NARROW: Final = 2
"""Halvings of the step between the last good rate and the first that was too much."""
_HIGHEST_RATE: Final = 20_000.0
_RAMP_MOST_SECONDS: Final = 150.0
"""No step begins later: the whole measurement is bounded."""
_RECOVER_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the run was asked for."""

    users: int = 100
    rate: float = 500.0
    seconds: float = 60.0
    warm_up: float = 5.0
    ramp: bool = False
    faults: bool = False
    seed: int = 1
    database: str = "sqlite"


@dataclass(frozen=True, slots=True)
class Measured:
    """The result (JSON), and the samples that it was made from."""

    result: dict[str, Any]
    samples: list[Sample]
    kinds: list[Kind]


@dataclass(frozen=True, slots=True)
class Steady:
    """A load without faults, as far as the report needs it."""

    figures: dict[str, Any]
    samples: list[Sample]
    kinds: list[Kind]


def measure(settings: PlatformSettings, asked: Asked) -> Steady:
    """Drive the running system at `settings`: the steady load and, where asked for, the ramp."""
    return uvloop.run(_measure(settings, asked))


def measure_faults(
    settings: PlatformSettings, asked: Asked, around: Surroundings, *, database_only: bool = False
) -> dict[str, Any]:
    """Drive the running system at `settings` while everything that can be taken away here is taken away in turn; with `database_only`,
    what comes out differently on another database."""
    return uvloop.run(_measure_faults(settings, asked, around, database_only))


def conclude(
    steady: Steady, faulted: dict[str, Any] | None, on_postgres: dict[str, Any] | None = None, took: float | None = None
) -> Measured:
    """The whole result, with its verdict. `on_postgres`: the faults that were done to a second system for its database's sake; `took`:
    seconds of the whole run."""
    result = {**steady.figures, "faults": faulted, "faults_postgres": on_postgres, "took_s": took}
    result["verdict"] = report.verdict(result)
    return Measured(result, steady.samples, steady.kinds)


async def _measure(settings: PlatformSettings, asked: Asked) -> Steady:
    print("making the scene: agents, tokens, documents, proposals", flush=True)
    where = context(asked.seed)
    scene = await prepare(settings, asked.users, int(BALLOTS_PER_SECOND * (asked.seconds + asked.warm_up)) + 1)
    record = Record()
    kinds = build(scene, record)
    plan = schedule(kinds, asked.users, asked.rate, asked.seconds + asked.warm_up, asked.seed)
    print(
        f"load: {asked.users} users, {asked.rate:g}/s, {asked.seconds:g} s after {asked.warm_up:g} s of warm-up",
        flush=True,
    )
    before = await cache.counts(settings, scene.token)
    since, processor = datetime.now(UTC), processor_seconds(settings)
    driven = await drive(
        settings,
        kinds,
        plan,
        warm_up=asked.warm_up,
        seed=asked.seed,
        progress=console_progress(kinds, rate=asked.rate, warm_up=asked.warm_up),
    )
    used = {name: now - processor[name] for name, now in processor_seconds(settings).items() if name in processor}
    print("reading the log: is everything acknowledged there?", flush=True)
    kept = await record_check.check(scene, since, record)
    by_service = cache.rates(before, await cache.counts(settings, scene.token))
    closed = await close_votes(scene)
    figures: dict[str, Any] = {
        "context": where,
        "load_after": os.getloadavg()[0],
        "asked": asdict(asked),
        "planned": len(plan),
        "load": report.summarise(driven.samples, kinds, warm_up=asked.warm_up, seconds=asked.seconds),
        "connections": driven.connections,
        **_processor(driven, used),
        "cache": by_service.pop("all", None),
        "cache_by_service": by_service,
        "record": asdict(kept),
        "votes": {"proposals": len(scene.proposals), "closed_afterwards": closed},
        "ledger": report.ledger_rows(),
        "histograms": report.histograms(driven.samples, kinds),
        "ramp": await _ramp(settings, asked, scene) if asked.ramp else None,
    }
    return Steady(figures, driven.samples, kinds)


def _processor(driven: Driven, used: dict[str, float]) -> dict[str, Any]:
    """Cores by part, and what one request cost the system and this generator (warm-up included: it was paid for too)."""
    whole = max((s.answered or 0.0 for s in driven.samples), default=0.0)
    requests = len(driven.samples)
    if not whole:
        return {"processor": {}, "processor_ms_per_request": None}
    return {
        "processor": {
            **{name: round(seconds / whole, 3) for name, seconds in used.items()},
            "load generator": round(driven.processor_seconds / whole, 3),
        },
        "processor_ms_per_request": {
            "system": round(sum(used.values()) / requests * 1000, 4) if used else None,
            "load generator": round(driven.processor_seconds / requests * 1000, 4),
        },
    }


async def _ramp(settings: PlatformSettings, asked: Asked, scene: Scene) -> dict[str, Any]:
    """Offer more and more until less than 99.7 % succeed or the P99 passes 250 ms, then look between the last two rates; at the end, look
    for everything that was acknowledged. Ballots stay out: a member votes once."""
    record, since = Record(), datetime.now(UTC)
    kinds = [kind for kind in build(scene, record) if kind.name != "ballot"]
    steps: list[dict[str, Any]] = []

    async def good_at(rate: float) -> bool:
        await _recovered(settings)
        plan = schedule(kinds, asked.users, rate, RAMP_SETTLE + RAMP_SECONDS, asked.seed)
        before = processor_seconds(settings)
        driven = await drive(settings, kinds, plan, warm_up=RAMP_SETTLE, seed=asked.seed, progress=_silent)
        used = {name: now - before[name] for name, now in processor_seconds(settings).items() if name in before}
        step = _step(rate, driven, kinds) | _processor(driven, used)
        steps.append(step)
        print(
            f"  ramp {rate:7.0f}/s  success {step['success']:.4%}  P50 {step['p50_ms']:.1f}  P99 {step['p99_ms']:.1f} ms"
            f"  cores {sum(step['processor'].values()):.2f}  {'good' if step['good'] else 'too much'}",
            flush=True,
        )
        return step["good"]

    good, rate = 0.0, asked.rate
    too_much = None
    until = asyncio.get_running_loop().time() + _RAMP_MOST_SECONDS

    def in_time() -> bool:
        return asyncio.get_running_loop().time() < until

    while rate <= _HIGHEST_RATE and too_much is None and in_time():
        if await good_at(rate):
            good, rate = rate, float(round(rate * RAMP_FACTOR))
        else:
            too_much = rate
    if good and too_much is not None:
        for _ in range(RAMP_NARROW):
            if not in_time():
                break
            between = float(round((good + too_much) / 2))
            if await good_at(between):
                good = between
            else:
                too_much = between
    ordered = sorted(steps, key=lambda step: step["rate"])
    print("reading the log: is everything acknowledged in the ramp there?", flush=True)
    await _recovered(settings)
    kept = asdict(await record_check.check(scene, since, record))
    return {"steps": ordered, "knee": good or None, "too_much": too_much, "p99_bound_ms": RAMP_P99_MS, "record": kept}


def _step(rate: float, driven: Driven, kinds: Sequence[Kind]) -> dict[str, Any]:
    figures = report.summarise(driven.samples, kinds, warm_up=RAMP_SETTLE, seconds=RAMP_SECONDS)
    latency = figures["latency"]
    return {
        "rate": rate,
        "intended": figures["intended"],
        "success": figures["success"],
        "throughput": figures["throughput"],
        **latency,
        "send_lag_p99_ms": figures["send_lag_ms"]["p99"] if figures["send_lag_ms"] else None,
        "failures": figures["failures"],
        "good": figures["success"] >= report.PLAN["success"] and latency["p99_ms"] <= RAMP_P99_MS,
    }


async def _recovered(settings: PlatformSettings) -> None:
    """Wait until every service answers at once again: what is behind the answers (spool, outbox, proofs) has been worked off. Part of the
    procedure, bounded; a system that does not recover shows it in the next step."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await asyncio.sleep(1.0)
    while loop.time() - begun < _RECOVER_SECONDS:
        asked = loop.time()
        healthy = await asyncio.to_thread(is_healthy, settings.host, settings.port("policy_governance"))
        if healthy and loop.time() - asked < 0.05:
            return
        await asyncio.sleep(0.5)


def _silent(_: int, __: list[Sample]) -> None:
    """The ramp prints a line per step instead."""


async def _measure_faults(
    settings: PlatformSettings, asked: Asked, around: Surroundings, database_only: bool
) -> dict[str, Any]:
    schedule_of_faults = faults.faults_for(settings, around, database_only=database_only)
    seconds = faults.seconds_for(schedule_of_faults)
    print("making the scene for the faults", flush=True)
    scene = await prepare(settings, asked.users, int(BALLOTS_PER_SECOND * (seconds + asked.warm_up)) + 1)
    record = Record()
    kinds = build(scene, record)
    plan = schedule(kinds, asked.users, asked.rate, seconds + asked.warm_up, asked.seed)
    print(f"faults: {len(schedule_of_faults)} of them during {seconds:g} s at {asked.rate:g}/s", flush=True)
    # The clock is moved about: entries are looked for from well before.
    since = datetime.now(UTC) - timedelta(seconds=5)
    watch = faults.BreakerWatch(settings, scene.token)
    doing = asyncio.create_task(faults.carry_out(settings, schedule_of_faults, asked.warm_up))
    try:
        driven = await drive(
            settings,
            kinds,
            plan,
            warm_up=asked.warm_up,
            seed=asked.seed,
            progress=console_progress(kinds, rate=asked.rate, warm_up=asked.warm_up),
            retry=True,
        )
        happened = await doing
    finally:
        doing.cancel()
    print("reading the log: is everything acknowledged there?", flush=True)
    await _recovered(settings)
    kept = await record_check.check(scene, since, record)
    await close_votes(scene)
    # What came of the last fault is told with the processes' next reports.
    await asyncio.sleep(settings.report_seconds + 2.0)
    breakers = await watch.stop()
    return report.summarise_faults(
        driven.samples,
        kinds,
        database=asked.database,
        rows=faults.seen(happened, driven.samples),
        breakers=breakers,
        not_done=around.missing,
        kept=asdict(kept),
        seconds=seconds,
    )
