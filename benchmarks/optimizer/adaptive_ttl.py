"""Adaptive TTLs against fixed ones on a replayed trace.

The trace is generated from a documented seed: requests come as a Poisson process at the rates that the load mix
(`benchmarks/load/mix.py`) gives these reads at 500 requests/s; changes come in regimes, quiet ones and busy ones, because
that is what votes and amendments look like. It is replayed in virtual time through the real cache, once per TTL rule; every
answer is compared with the truth at that instant.

    .venv/bin/python benchmarks/optimizer/adaptive_ttl.py
"""

import asyncio
import heapq
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acgs1.core.clock import ManualClock
from acgs1.optimizer.adaptive import AdaptiveTtl
from acgs1.optimizer.cache import IntelligentCache
from acgs1.optimizer.policy import CachePolicy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import record

SEED = 20260311
SECONDS = 1800.0
STALE_COST = 20.0
"""How many loads one stale answer is worth avoiding: the default of `AdaptiveTtl`."""

RESULT = Path(__file__).parent / "results" / "adaptive_ttl.json"


@dataclass(frozen=True)
class Read:
    """One hot read: requests per second, (seconds, seconds between changes) of its regimes in turn, declared bounds of its TTL."""

    name: str
    per_second: float
    regimes: tuple[tuple[float, float], ...]
    shortest: float
    longest: float


READS = (
    Read("constitution in force", 25.0, ((900.0, 600.0), (60.0, 20.0)), 0.5, 2.0),
    Read("ledger state", 10.0, ((240.0, 120.0), (60.0, 2.0)), 0.25, 1.0),
    # The same kind of read where minutes of staleness would be admissible, rare and busy: where a fixed TTL is hardest to choose.
    Read("rarely changed, wide bounds", 5.0, ((1800.0, 600.0),), 0.1, 60.0),
    Read("often changed, wide bounds", 20.0, ((1800.0, 3.0),), 0.1, 60.0),
    Read("changing habits, wide bounds", 20.0, ((600.0, 300.0), (300.0, 2.0)), 0.1, 60.0),
)


def poisson(rng: random.Random, rate_at: Any) -> Iterator[float]:
    """Instants of a Poisson process whose mean interval is `rate_at(now)`."""
    now = 0.0
    while (now := now + rng.expovariate(1 / rate_at(now))) < SECONDS:
        yield now


def interval_between_changes(read: Read, now: float) -> float:
    cycle = sum(length for length, _ in read.regimes)
    within = now % cycle
    for length, interval in read.regimes:
        if within < length:
            return interval
        within -= length
    raise AssertionError("INVARIANT: within < cycle")


def trace(read: Read) -> tuple[list[float], list[float]]:
    """Instants of requests and of changes."""
    rng = random.Random(f"{SEED} {read.name}")
    requests = list(poisson(rng, lambda _: 1 / read.per_second))
    return requests, list(poisson(rng, lambda now: interval_between_changes(read, now)))


async def replay(requests: list[float], changes: list[float], policy: CachePolicy) -> dict[str, float]:
    clock = ManualClock()
    cache = IntelligentCache(clock=clock, default=policy, rng=random.Random(SEED))
    version = stale = 0
    oldest = 0.0
    changed_at = [0.0]

    async def source() -> int:
        return version

    for at, is_change in heapq.merge(((t, False) for t in requests), ((t, True) for t in changes)):
        clock.advance(at - clock.monotonic())
        if is_change:
            version += 1
            changed_at.append(at)
            continue
        answer = await cache.get_or_compute("s", "op", {}, source)
        if answer != version:
            stale += 1
            oldest = max(oldest, at - changed_at[answer + 1])
        # A refresh in the background is done before the next request: a load takes no virtual time.
        while cache.loading:  # noqa: ASYNC110 - a task of the cache's own, a few turns of the loop away
            await asyncio.sleep(0)
    stats = cache.operations["s", "op"]
    await cache.close()
    return {
        "requests": len(requests),
        "loads": stats.loads,
        "hit_rate": 1 - stats.loads / len(requests),
        "stale_share": stale / len(requests),
        "longest_out_of_date_seconds": oldest,
        "cost_per_request": (stats.loads + STALE_COST * stale) / len(requests),
    }


def fixed(ttl: float) -> CachePolicy:
    return CachePolicy(ttl=ttl, shared=False)


async def main() -> None:
    rows: list[dict[str, Any]] = []
    for read in READS:
        requests, changes = trace(read)
        ratio = read.longest / read.shortest
        rules = {
            f"fixed {read.shortest * ratio ** (n / 8):.3g} s": fixed(read.shortest * ratio ** (n / 8)) for n in range(9)
        }
        rule = AdaptiveTtl(shortest=read.shortest, longest=read.longest, stale_cost=STALE_COST)
        rules["adaptive"] = CachePolicy(ttl=read.longest, shared=False, adaptive=rule)
        results = {name: await replay(requests, changes, policy) for name, policy in rules.items()}
        costs = {name: result["cost_per_request"] for name, result in results.items() if name != "adaptive"}
        best = min(costs, key=lambda name: costs[name])
        adaptive = results["adaptive"]
        assert adaptive["longest_out_of_date_seconds"] <= read.longest, "the declared bound holds"
        rows.append(
            {
                "read": read.name,
                "changes": len(changes),
                "bounds_seconds": [read.shortest, read.longest],
                "rules": results,
                "best_fixed": best,
                "adaptive_cost_over_best_fixed": adaptive["cost_per_request"] / costs[best],
                "adaptive_cost_over_worst_fixed": adaptive["cost_per_request"] / max(costs.values()),
                "last_ttl_seconds": rule.ttl(),
            }
        )
        print(f"{read.name}: adaptive {adaptive['cost_per_request']:.4f}, best fixed ({best}) {costs[best]:.4f}")
    where = record.context(SEED)
    record.write(
        RESULT,
        {
            "context": where,
            "trace_seconds": SECONDS,
            "stale_cost_in_loads": STALE_COST,
            "reads": rows,
            "note": "cost_per_request = loads + stale_cost * stale answers, per request; the best fixed TTL is chosen with hindsight",
        },
    )
    record.keep(
        "optimizer",
        where,
        {
            f"adaptive TTL, {row['read']}: cost over the best fixed": record.lower(
                row["adaptive_cost_over_best_fixed"], "ratio"
            )
            for row in rows
        },
    )
    print(json.dumps({row["read"]: round(row["adaptive_cost_over_best_fixed"], 3) for row in rows}))


if __name__ == "__main__":
    asyncio.run(main())
