"""One whole measurement: scene, steady load, check of the record, and a ramp to saturation when asked for."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import uvloop
from benchmarks.load import cache, record_check, report
from benchmarks.load.mix import BALLOTS_PER_SECOND, Kind, Record, build
from benchmarks.load.run import Sample, console_progress, drive, schedule
from benchmarks.load.scene import Scene, close_votes, prepare
from benchmarks.load.system import processor_seconds
from benchmarks.record import context

from acgs1.kit.settings import PlatformSettings

RAMP_FACTOR: Final = 1.4
RAMP_SECONDS: Final = 8.0
RAMP_SETTLE: Final = 2.0
RAMP_P95_MS: Final = 250.0
_HIGHEST_RATE: Final = 20_000.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the run was asked for."""

    users: int = 100
    rate: float = 500.0
    seconds: float = 60.0
    warm_up: float = 5.0
    ramp: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """The result (JSON), and the samples that it was made from."""

    result: dict[str, Any]
    samples: list[Sample]
    kinds: list[Kind]


def measure(settings: PlatformSettings, asked: Asked) -> Measured:
    """Drive the running system at `settings` and say what was measured."""
    return uvloop.run(_measure(settings, asked))


async def _measure(settings: PlatformSettings, asked: Asked) -> Measured:
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
    samples, connections = await drive(
        settings,
        kinds,
        plan,
        warm_up=asked.warm_up,
        seed=asked.seed,
        progress=console_progress(kinds, rate=asked.rate, warm_up=asked.warm_up),
    )
    whole = max((s.answered or 0.0 for s in samples), default=0.0)
    used = {name: now - processor[name] for name, now in processor_seconds(settings).items() if name in processor}
    print("reading the log: is every acknowledged decision there?", flush=True)
    kept = await record_check.check(scene, since, record.decisions)
    effectiveness = cache.rate(before, await cache.counts(settings, scene.token))
    closed = await close_votes(scene)
    own = os.times()
    result: dict[str, Any] = {
        "context": where,
        "load_after": os.getloadavg()[0],
        "asked": asdict(asked),
        "planned": len(plan),
        "load": report.summarise(samples, kinds, warm_up=asked.warm_up, seconds=asked.seconds),
        "connections": connections,
        "processor": {name: round(seconds / whole, 3) for name, seconds in used.items()} if whole else {},
        "generator_processor_seconds": round(own.user + own.system, 2),
        "cache": effectiveness,
        "record": asdict(kept),
        "votes": {"proposals": len(scene.proposals), "closed_afterwards": closed},
        "ledger": report.ledger_rows(),
        "histogram": report.histogram(samples),
        "ramp": await _ramp(settings, asked, scene) if asked.ramp else None,
    }
    result["verdict"] = report.verdict(result)
    return Measured(result, samples, kinds)


async def _ramp(settings: PlatformSettings, asked: Asked, scene: Scene) -> dict[str, Any]:
    """Offer more and more until less than 99.7 % succeed or the P95 passes 250 ms. Ballots stay out: a member votes once."""
    kinds = [kind for kind in build(scene, Record()) if kind.name != "ballot"]
    steps: list[dict[str, Any]] = []
    good, rate = None, asked.rate
    stopped = f"{_HIGHEST_RATE:g}/s is as far as the ramp goes"
    while rate <= _HIGHEST_RATE:
        plan = schedule(kinds, asked.users, rate, RAMP_SETTLE + RAMP_SECONDS, asked.seed)
        samples, _ = await drive(settings, kinds, plan, warm_up=RAMP_SETTLE, seed=asked.seed, progress=_silent)
        step = _step(rate, samples, kinds)
        steps.append(step)
        print(
            f"  ramp {rate:7.0f}/s  success {step['success']:.4%}  P95 {step['p95_ms']:.1f} ms  {'good' if step['good'] else 'saturated'}",
            flush=True,
        )
        if not step["good"]:
            stopped = f"at {rate:g}/s success was {step['success']:.3%} and P95 {step['p95_ms']:.0f} ms"
            break
        good, rate = rate, round(rate * RAMP_FACTOR)
        await asyncio.sleep(
            1.0
        )  # the system works off what is behind the answers (spool, outbox); part of the procedure
    return {"steps": steps, "last_good_rate": good, "stopped": stopped}


def _step(rate: float, samples: Sequence[Sample], kinds: Sequence[Kind]) -> dict[str, Any]:
    figures = report.summarise(samples, kinds, warm_up=RAMP_SETTLE, seconds=RAMP_SECONDS)
    latency = figures["latency"]
    return {
        "rate": rate,
        "intended": figures["intended"],
        "success": figures["success"],
        "throughput": figures["throughput"],
        **latency,
        "send_lag_p99_ms": figures["send_lag_ms"]["p99"] if figures["send_lag_ms"] else None,
        "failures": figures["failures"],
        "good": figures["success"] >= report.PLAN["success"] and latency["p95_ms"] <= RAMP_P95_MS,
    }


def _silent(_: int, __: list[Sample]) -> None:
    """The ramp prints a line per step instead."""
