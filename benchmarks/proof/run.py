"""Proof times: constitutions of 10, 30, 100 principles by sets of 10, 100, 1000 policies, over ten request environments.

    python benchmarks/proof/run.py --out benchmarks/proof/results

Each run goes through the worker pool of the service, as its jobs do: `cold` in a fresh process and with nothing cached,
`warm` again in that process, `change` with one policy changed (the obligations that a change leaves as they were are taken
by their keys, as the service takes them from its database). `services` are the same changes over the service's use case, with
SQLite, outbox and certificate, without and with z3's second opinion. A run is bounded by 600 s. `results/README.md` is written
by `render.py` from what is measured here and by `side_by_side.py`.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import record
import render
import workload

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.formal_verification import NewVerification, VerificationReport
from acgs1.core.clock import SystemClock
from acgs1.kit.settings import PlatformSettings
from acgs1.services.formal_verification.adapters.pool import PoolLimits, ProverPool
from acgs1.services.formal_verification.app import create_app
from acgs1.services.formal_verification.domain import Job

SEED = 7
CHANGES = 40
WARM = 5


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def distribution(values: list[float]) -> dict[str, float]:
    """Of milliseconds."""
    shares = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: round(percentile(values, share), 1) for name, share in shares.items()}


def resident_mb(pid: int) -> float:
    """Resident memory of a process; 0 for one that has just ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


class Runner:
    """One pool, and the keys of what it has proved."""

    def __init__(self, workers: int, second_opinion: bool) -> None:
        self.most_mb = 0.0
        limits = PoolLimits(workers=workers, second_opinion_ms=2000 if second_opinion else 0, item_seconds=120.0)
        self.pool = ProverPool(limits, SystemClock())
        self._known: dict[str, Any] = {}
        self._number = 0

    async def verify(self, rules: list[str], law: dict[str, Any], *, keep: bool = True) -> tuple[float, int, int]:
        """Seconds, obligations, and how many of them were proved now. Raises unless all are proved."""
        self._number += 1
        job = Job(f"job-{self._number}", "verify", {"policies": "\n".join(rules), "constitution": law})
        started = time.perf_counter()
        plan = await self.pool.plan(job)
        missing = [item.index for item in plan.items if not keep or item.key not in self._known]
        async with aclosing(self.pool.run(job, plan, missing, 600.0)) as answers:
            async for index, result in answers:
                if result["verdict"] != "proved":
                    raise SystemExit(f"`{result['id']}` is {result['verdict']}: {result['reason']}")
                self._known[plan.items[index].key] = True
        return time.perf_counter() - started, len(plan.items), len(missing)

    async def watch(self) -> None:
        """Keep `most_mb`, the most resident memory that a worker had, also one that the pool has replaced since for its size."""
        while True:
            self.most_mb = max([self.most_mb, *map(resident_mb, self.pool.pids)])
            await asyncio.sleep(0.02)


async def one(principles: int, policies: int, workers: int, second_opinion: bool) -> dict[str, Any]:
    law = workload.constitution(principles).model_dump(mode="json")
    rules = workload.policies(policies, principles, SEED)
    runner = Runner(workers, second_opinion)
    watching = asyncio.create_task(runner.watch())
    try:
        cold, obligations, _ = await runner.verify(rules, law)
        warm = [(await runner.verify(rules, law, keep=False))[0] * 1000 for _ in range(WARM)]
        changes: list[float] = []
        touched: list[int] = []
        for number in range(CHANGES):
            seconds, _, proved = await runner.verify(workload.changed(rules, number), law)
            changes.append(seconds * 1000)
            touched.append(proved)
        return {
            "principles": principles,
            "policies": policies,
            "environments": workload.ENVIRONMENTS,
            "workers": workers,
            "second_opinion": second_opinion,
            "obligations": obligations,
            "cold_s": round(cold, 3),
            "warm_s": round(statistics.median(warm) / 1000, 3),
            "warm_ms": distribution(warm),
            "change_median_ms": round(statistics.median(changes), 1),
            "change_p95_ms": round(percentile(changes, 0.95), 1),
            "change_ms": distribution(changes),
            "change_proves": max(touched),
            "memory_mb_per_worker": round(runner.most_mb, 1),
        }
    finally:
        watching.cancel()
        await runner.pool.close()


async def service(principles: int, policies: int, workers: int, second_opinion: bool) -> dict[str, Any]:
    """A change of one policy through the service: plan, cache, proofs, report, certificate, events."""
    law = workload.constitution(principles)
    rules = workload.policies(policies, principles, SEED)
    os.environ["ACGS_PROVER_SECOND_OPINION_MS"] = "2000" if second_opinion else "0"
    os.environ["ACGS_PROVER_WORKERS"] = str(workers)
    caller = Identity(id="usr_benchmark", name="benchmark", roles=(Role.LEGISLATOR,))
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(
            PlatformSettings.model_validate({"home": Path(folder), "port_offset": 40_000, "log_level": "error"})
        )
        async with app.router.lifespan_context(app):

            async def verify(texts: list[str]) -> float:
                body = NewVerification(policies="\n".join(texts), constitution=law, deadline_seconds=600)
                started = time.perf_counter()
                report = await app.state.service.verify(body, caller, 600)
                seconds = time.perf_counter() - started
                if not isinstance(report, VerificationReport) or report.verdict != "proved":
                    raise SystemExit("the service did not prove the workload")
                return seconds

            cold = await verify(rules)
            gc.collect()
            # As a part does before it serves (`runtime.parts.preload`).
            gc.freeze()
            changes = [1000 * await verify(workload.changed(rules, number)) for number in range(CHANGES)]
    return {
        "principles": principles,
        "policies": policies,
        "environments": workload.ENVIRONMENTS,
        "workers": workers,
        "second_opinion": second_opinion,
        "cold_s": round(cold, 3),
        "change_median_ms": round(statistics.median(changes), 1),
        "change_p95_ms": round(percentile(changes, 0.95), 1),
        "change_ms": distribution(changes),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="10 principles alone")
    options = parser.parse_args()
    about = record.context(SEED)
    runs: list[dict[str, Any]] = []
    for principles in (10,) if options.quick else (10, 30, 100):
        for policies in (10, 100, 1000):
            for workers in (1, 2):
                runs.append(await one(principles, policies, workers, second_opinion=False))
                print(json.dumps(runs[-1]), flush=True)
    services: list[dict[str, Any]] = []
    for workers in (1, 2):
        runs.append(await one(10, 100, workers, second_opinion=True))
        print(json.dumps(runs[-1]), flush=True)
        for second_opinion in (False, True):
            services.append(await service(10, 100, workers, second_opinion))
            print(json.dumps(services[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    record.write(options.out / "proof.json", {"context": about, "runs": runs, "services": services})
    render.write(options.out)
    record.keep("proof", about, figures(runs))


def figures(runs: list[dict[str, Any]]) -> dict[str, record.Figure | None]:
    """What the history keeps: with one worker and one solver."""
    kept: dict[str, record.Figure | None] = {}
    for run in runs:
        if run["workers"] == 1 and not run["second_opinion"]:
            size = f"{run['principles']} principles, {run['policies']} policies"
            kept[f"cold, {size}"] = record.lower(run["cold_s"], "s")
            kept[f"after one change, {size}"] = record.lower(run["change_median_ms"], "ms")
    return kept


if __name__ == "__main__":
    asyncio.run(main())
