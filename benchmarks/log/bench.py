"""Measure the transparency log on this machine: appends per second, proof latency, start-up and audit time.

    python benchmarks/log/bench.py [--entries 100000] [--seconds 5] [--out results/log.json]

Everything runs against the real repository on a SQLite file with `synchronous = FULL`; every append is durable and under a
signed checkpoint when it counts. Figures are wall-clock times of this process alone; the result records machine, seed and commit.
"""

import argparse
import asyncio
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.events import Event, new_event
from acgs1.core.clock import SystemClock
from acgs1.core.merkle import verify_inclusion
from acgs1.kit.db import Database, Store
from acgs1.kit.notes import NoteSigner, open_checkpoint
from acgs1.kit.signing import SigningKey
from acgs1.services.integrity import app
from acgs1.services.integrity.adapters.memory import CheckpointFile
from acgs1.services.integrity.audit import audit
from acgs1.services.integrity.repository import IntegrityRepository
from acgs1.services.integrity.sequencer import Sequencer
from acgs1.services.integrity.service import LogService

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import record

AUDITOR = Identity(id="usr_bench", name="bench", roles=(Role.AUDITOR,))
CLOCK = SystemClock()


def decision(rng: random.Random) -> Event:
    """An event of the size and shape of a decision record."""
    return new_event(
        "bench",
        "decision.made",
        CLOCK.now(),
        actor=f"agt_{rng.randrange(100):03d}",
        subject=f"reservation-{rng.randrange(10_000)}",
        allowed=rng.random() < 0.9,
        action="cancel_reservation",
        policies=[f"policy{rng.randrange(40)}"],
        bundle=rng.randbytes(32).hex(),
        arguments=rng.randbytes(32).hex(),
    )


def quantiles(seconds: list[float]) -> dict[str, float | int]:
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 3)

    return {
        "count": len(ordered),
        "p50_ms": at(0.5),
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
        "max_ms": round(ordered[-1] * 1000, 3),
    }


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


async def measure_appends(
    sequencer: Sequencer, rng: random.Random, submitters: int, batch: int, seconds: float
) -> dict[str, Any]:
    """`submitters` callers, each sending `batch` events at a time and waiting for the receipts, for `seconds`."""
    latencies: list[float] = []
    count = 0
    ends = time.perf_counter() + seconds

    async def submit() -> None:
        nonlocal count
        while time.perf_counter() < ends:
            events = [decision(rng) for _ in range(batch)]
            started = time.perf_counter()
            await sequencer.append(events)
            latencies.append(time.perf_counter() - started)
            count += batch

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(submitters):
            group.create_task(submit())
    elapsed = time.perf_counter() - started
    return {
        "submitters": submitters,
        "events_per_request": batch,
        "events": count,
        "seconds": round(elapsed, 3),
        "events_per_second": round(count / elapsed, 1),
        "latency": quantiles(latencies),
    }


async def measure_proofs(
    service: LogService, ids: list[str], size: int, rng: random.Random, samples: int
) -> dict[str, Any]:
    inclusion: list[float] = []
    consistency: list[float] = []
    hashes = 0
    signed = await service.checkpoint()
    verifier = service.verifier
    head = open_checkpoint(signed.note, verifier).head
    for _ in range(samples):
        event_id = rng.choice(ids)
        started = time.perf_counter()
        proof = await service.inclusion(event_id, None, AUDITOR)
        inclusion.append(time.perf_counter() - started)
        hashes = max(hashes, len(proof.hashes))
        if not verify_inclusion(
            proof.leaf_index, bytes.fromhex(proof.leaf_hash), head, [bytes.fromhex(h) for h in proof.hashes]
        ):
            raise SystemExit("a proof does not verify: the measurement is void")
        old = rng.randrange(1, size)
        consistency.append(await timed(lambda old=old: service.consistency(old, None)))
    return {
        "tree_size": size,
        "longest_proof": hashes,
        "inclusion": quantiles(inclusion),
        "consistency": quantiles(consistency),
    }


def fsync_ms(folder: Path, samples: int = 200) -> dict[str, float | int]:
    """What one 4 KiB write with fsync costs here: the floor under every durable commit."""
    times: list[float] = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(samples):
            started = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return quantiles(times)


async def run(folder: Path, entries: int, seconds: float, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    result: dict[str, Any] = {
        "context": {**record.context(seed), "sqlite": sqlite3.sqlite_version},
        "fsync_4k": fsync_ms(folder),
        "appends": [],
        "proofs": [],
    }
    database = Database(f"sqlite+aiosqlite:///{folder / 'log.sqlite3'}")
    await database.migrate(Path(app.__file__).parent / "migrations")
    store = Store(database, IntegrityRepository)
    signer = NoteSigner("example.org/bench", SigningKey.load_or_create(folder / "log.pem"))
    memory = CheckpointFile(folder / "last-checkpoint")

    def fresh() -> Sequencer:
        return Sequencer(store, signer, memory, CLOCK)

    sequencer = fresh()
    await sequencer.start()
    # Proofs do not touch the anchorer, so none is given.
    service = LogService(store, sequencer, None, signer.verifier)  # pyright: ignore[reportArgumentType]
    for target in (10_000, entries):
        size = (await service.checkpoint()).tree_size
        while size < target:
            await sequencer.append([decision(rng) for _ in range(min(1000, target - size))])
            size = (await service.checkpoint()).tree_size
        async with store.reading() as records:
            ids = [row.event_id for row in await records.stored_leaves(0, size)]
        result["proofs"].append(await measure_proofs(service, ids, size, rng, 500))
    for submitters, batch in ((1, 1), (16, 1), (64, 1), (256, 1), (1, 200), (4, 200)):
        result["appends"].append(await measure_appends(sequencer, rng, submitters, batch, seconds))
    restarted = fresh()
    result["start_ms"] = round(await timed(restarted.start) * 1000, 2)
    if restarted.halted is not None:
        raise SystemExit(f"the log halted: {restarted.halted}")
    started = time.perf_counter()
    async with store.reading() as records:
        report = await audit(records, signer.verifier, await memory.recall())
    elapsed = time.perf_counter() - started
    if not report.ok:
        raise SystemExit(f"the log is not sound: {report.findings[:3]}")
    result["audit"] = {
        "entries": report.entries,
        "seconds": round(elapsed, 2),
        "entries_per_second": round(report.entries / elapsed),
    }
    await database.close()
    size_bytes = (folder / "log.sqlite3").stat().st_size
    result["storage"] = {
        "entries": report.entries,
        "bytes": size_bytes,
        "bytes_per_entry": round(size_bytes / report.entries),
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument(
        "--entries", type=int, default=100_000, help="size of the larger tree that proofs are measured on"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each append measurement")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "log.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="acgs-log-bench-", dir=options.out.parent) as folder:
        result = asyncio.run(run(Path(folder), options.entries, options.seconds, options.seed))
    record.write(options.out, result)
    record.keep("log", result["context"], figures(result))
    print_summary(result)


def figures(result: dict[str, Any]) -> dict[str, record.Figure | None]:
    """What the history keeps."""
    kept: dict[str, record.Figure | None] = {
        f"appends, {row['submitters']} writers x {row['events_per_request']} events": record.higher(
            row["events_per_second"], "events/s"
        )
        for row in result["appends"]
    }
    largest = result["proofs"][-1]
    return {
        **kept,
        "P50 of an inclusion proof": record.lower(largest["inclusion"]["p50_ms"], "ms"),
        "start": record.lower(result["start_ms"], "ms"),
        "audit": record.higher(result["audit"]["entries_per_second"], "entries/s"),
        "storage": record.lower(result["storage"]["bytes_per_entry"], "bytes/entry"),
    }


def print_summary(result: dict[str, Any]) -> None:
    for row in result["appends"]:
        rate, p99 = row["events_per_second"], row["latency"]["p99_ms"]
        print(
            f"{row['submitters']:>4} submitters x {row['events_per_request']:>3} events: {rate:>9} events/s, p99 {p99} ms"
        )
    for row in result["proofs"]:
        for kind in ("inclusion", "consistency"):
            print(
                f"{kind} proof in {row['tree_size']} leaves: p50 {row[kind]['p50_ms']} ms, p99 {row[kind]['p99_ms']} ms"
            )
    print(f"start {result['start_ms']} ms; audit {result['audit']['entries_per_second']} entries/s")
    print(
        f"{result['storage']['bytes_per_entry']} bytes per entry; fsync of 4 KiB p50 {result['fsync_4k']['p50_ms']} ms"
    )


if __name__ == "__main__":
    main()
