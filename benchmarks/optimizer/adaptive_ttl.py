"""Adaptive TTLs against fixed ones on replayed traces: one that was recorded, and some that are generated.

The recorded one (`trace.json`, written by `record_trace.py`) is of a running system: when each hot read was asked for, and when its answer
became another one. It is replayed as if nobody announced the changes, which is the case that a learned TTL is for.

The generated ones are made from a documented seed: requests come as a Poisson process at the rates that the load mix
(`benchmarks/load/mix.py`) gives these reads at 500 requests/s; changes come in regimes, quiet ones and busy ones, each of them a
Poisson process: the model that the rule itself has of the world, at lengths that no recording of minutes has.

Each is replayed in virtual time through the real cache, once per TTL rule; every answer is compared with the truth at that instant.

    .venv/bin/python benchmarks/optimizer/adaptive_ttl.py
"""

import asyncio
import itertools
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

TRACE = Path(__file__).parent / "trace.json"
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


BOUNDS = {"narrow bounds": (0.25, 2.0), "wide bounds": (0.1, 60.0)}
"""Of TTLs for the recorded reads: about those that are declared for them, and as if a minute of staleness were admissible."""


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


Series = dict[str, tuple[list[float], list[float]]]
"""By key: instants of requests and of changes."""


def generated(read: Read) -> Series:
    rng = random.Random(f"{SEED} {read.name}")
    requests = list(poisson(rng, lambda _: 1 / read.per_second))
    return {"": (requests, list(poisson(rng, lambda now: interval_between_changes(read, now))))}


def recorded() -> dict[str, Series]:
    """The recorded trace, by operation."""
    operations: dict[str, Series] = {}
    for one in json.loads(TRACE.read_text())["series"]:
        reads, changes = ([at / 1000 for at in itertools.accumulate(one[name])] for name in ("reads", "changes"))
        # The first one is what was so at the beginning.
        operations.setdefault(one["operation"], {})[one["key"]] = (reads, changes[1:])
    return operations


async def replay(series: Series, policy: CachePolicy) -> dict[str, float]:
    clock = ManualClock()
    cache = IntelligentCache(clock=clock, default=policy, rng=random.Random(SEED))
    changed_at: dict[str, list[float]] = {key: [0.0] for key in series}
    requests = stale = 0
    oldest = 0.0
    events = [(at, False, key) for key, (reads, _) in series.items() for at in reads]
    events += [(at, True, key) for key, (_, changes) in series.items() for at in changes]
    for at, is_change, key in sorted(events):
        clock.advance(at - clock.monotonic())
        if is_change:
            changed_at[key].append(at)
            continue

        async def source(key: str = key) -> int:
            return len(changed_at[key]) - 1

        requests += 1
        answer = await cache.get_or_compute("s", "op", {"key": key}, source)
        if answer != len(changed_at[key]) - 1:
            stale += 1
            oldest = max(oldest, at - changed_at[key][answer + 1])
        # A refresh in the background is done before the next request: a load takes no virtual time.
        while cache.loading:  # noqa: ASYNC110 - a task of the cache's own, a few turns of the loop away
            await asyncio.sleep(0)
    stats = cache.operations["s", "op"]
    await cache.close()
    return {
        "requests": requests,
        "loads": stats.loads,
        "hit_rate": 1 - stats.loads / requests,
        "stale_share": stale / requests,
        "longest_out_of_date_seconds": oldest,
        "cost_per_request": (stats.loads + STALE_COST * stale) / requests,
    }


def fixed(ttl: float) -> CachePolicy:
    return CachePolicy(ttl=ttl, shared=False)


async def compare(name: str, series: Series, shortest: float, longest: float) -> dict[str, Any]:
    """The adaptive rule against nine fixed TTLs in the same bounds."""
    ratio = longest / shortest
    rules = {f"fixed {shortest * ratio ** (n / 8):.3g} s": fixed(shortest * ratio ** (n / 8)) for n in range(9)}
    rule = AdaptiveTtl(shortest=shortest, longest=longest, stale_cost=STALE_COST)
    rules["adaptive"] = CachePolicy(ttl=longest, shared=False, adaptive=rule)
    results = {name: await replay(series, policy) for name, policy in rules.items()}
    costs = {name: result["cost_per_request"] for name, result in results.items() if name != "adaptive"}
    best = min(costs, key=lambda name: costs[name])
    adaptive = results["adaptive"]
    assert adaptive["longest_out_of_date_seconds"] <= longest, "the declared bound holds"
    print(f"{name}: adaptive {adaptive['cost_per_request']:.4f}, best fixed ({best}) {costs[best]:.4f}")
    return {
        "read": name,
        "changes": sum(len(changes) for _, changes in series.values()),
        "bounds_seconds": [shortest, longest],
        "rules": results,
        "best_fixed": best,
        "adaptive_cost_over_best_fixed": adaptive["cost_per_request"] / costs[best],
        "adaptive_cost_over_worst_fixed": adaptive["cost_per_request"] / max(costs.values()),
        "last_ttl_seconds": rule.ttl(),
    }


async def main() -> None:
    where = record.context(SEED)
    rows: list[dict[str, Any]] = []
    for operation, series in recorded().items():
        for bounds, (shortest, longest) in BOUNDS.items():
            rows.append(await compare(f"recorded {operation}, {bounds}", series, shortest, longest))
    rows += [await compare(read.name, generated(read), read.shortest, read.longest) for read in READS]
    record.write(
        RESULT,
        {
            "context": where,
            "recorded": {k: v for k, v in json.loads(TRACE.read_text()).items() if k != "series"},
            "generated_seconds": SECONDS,
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


if __name__ == "__main__":
    asyncio.run(main())
