"""From samples to figures, from figures to a verdict. Every figure here was measured in this run or read from a result that says so;
what was not measured is None and printed as `not measured`."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.load.mix import Kind
from benchmarks.load.run import Sample, quantile
from benchmarks.record import Figure, higher, lower

from acgs1.contracts.topology import SERVICES

ROOT = Path(__file__).parents[2]

TARGETS_MS: Final = {
    "auth": 30, "constitutional_ai": 40, "integrity": 25, "formal_verification": 45, "governance_synthesis": 35,
    "policy_governance": 48, "evolutionary_computation": 28,
}  # fmt: skip
"""The plan's response time per service; compared with the P95 of all the service's requests together, as the plan has it. Reads and writes
are shown apart beside it."""
PLAN: Final = {"users": 100, "rate": 500.0, "seconds": 60.0, "success": 0.997, "p95_ms": 42.0, "p99_ms": 48.0, "uptime": 0.995,
               "cache": 0.80, "sol": 0.01}  # fmt: skip
OURS: Final = {"p95_ms": 12.0, "p99_ms": 25.0, "success": 1.0, "cache": 0.90, "saturation": 2500.0}
"""The issue's own, stricter goals."""

Result = dict[str, Any]


def latencies(samples: Sequence[Sample]) -> dict[str, float] | None:
    """P50, P95, P99, mean and maximum in milliseconds, over all requests; a failed one counts with the time until it failed."""
    ordered = sorted(sample.latency * 1000 for sample in samples)
    if not ordered:
        return None
    return {
        "p50_ms": round(quantile(ordered, 0.50), 3),
        "p95_ms": round(quantile(ordered, 0.95), 3),
        "p99_ms": round(quantile(ordered, 0.99), 3),
        "mean_ms": round(math.fsum(ordered) / len(ordered), 3),
        "max_ms": round(ordered[-1], 3),
    }


def group(samples: Sequence[Sample]) -> Result:
    """Counts, success rate and latencies of some requests. INVARIANT: intended = right + failed."""
    failed = [sample for sample in samples if sample.failure is not None]
    return {
        "intended": len(samples),
        "right": len(samples) - len(failed),
        "failed": len(failed),
        "success": (len(samples) - len(failed)) / len(samples) if samples else None,
        "latency": latencies(samples),
        "failures": dict(Counter(_kind_of_failure(sample.failure or "") for sample in failed).most_common(8)),
    }


def _kind_of_failure(failure: str) -> str:
    return failure[:200]


def uptime(samples: Sequence[Sample], kinds: Sequence[Kind]) -> dict[str, float]:
    """Per service, the share of the seconds with requests in which at least half of them were answered right."""
    seconds: dict[str, dict[int, list[bool]]] = {}
    for sample in samples:
        service = seconds.setdefault(kinds[sample.kind].service, {})
        service.setdefault(int(sample.intended), []).append(sample.failure is None)
    return {
        name: sum(1 for second in by.values() if 2 * sum(second) >= len(second)) / len(by)
        for name, by in sorted(seconds.items())
    }


def summarise(samples: Sequence[Sample], kinds: Sequence[Kind], *, warm_up: float, seconds: float) -> Result:
    """The figures of one steady load. `samples` include the warm-up, which is counted and left out of everything else."""
    measured = [sample for sample in samples if not sample.warm_up]
    up = uptime(measured, kinds)
    right = [sample for sample in measured if sample.failure is None]
    end = max((s.answered for s in measured if s.answered is not None), default=warm_up)
    # A system that answers late works off its backlog after the load's end: that time counts against it.
    window = max(seconds, end - warm_up)
    lag = sorted((s.sent - s.intended) * 1000 for s in measured if s.sent is not None)

    def of(service: str, *, writes: bool | None = None) -> list[Sample]:
        mine = (s for s in measured if kinds[s.kind].service == service)
        return [s for s in mine if writes is None or kinds[s.kind].writes is writes]

    return {
        "sent_in_warm_up": len(samples) - len(measured),
        **group(measured),
        "throughput": round(len(right) / window, 2),
        "offered": round(len(measured) / seconds, 2),
        "uptime": min(up.values()) if up else None,
        "uptime_by_service": up,
        "send_lag_ms": {"p50": round(quantile(lag, 0.5), 3), "p99": round(quantile(lag, 0.99), 3)} if lag else None,
        "services": {
            part.name: {
                **group(of(part.name)),
                "target_ms": TARGETS_MS[part.name],
                "reads": group(of(part.name, writes=False)),
                "writes": group(of(part.name, writes=True)),
            }
            for part in SERVICES
        },
        "kinds": [
            {
                "name": kind.name,
                "service": kind.service,
                "does": kind.does,
                "share_percent": kind.share or None,
                "per_second": kind.per_second or None,
                "writes": kind.writes,
                **group([s for s in measured if s.kind == index]),
            }
            for index, kind in enumerate(kinds)
        ],
        "seconds": _by_second(measured),
    }


def _by_second(samples: Sequence[Sample]) -> list[Result]:
    seconds: dict[int, list[Sample]] = {}
    for sample in samples:
        seconds.setdefault(int(sample.intended), []).append(sample)
    rows: list[Result] = []
    for second, inside in sorted(seconds.items()):
        ordered = sorted(sample.latency * 1000 for sample in inside)
        failed = sum(1 for sample in inside if sample.failure is not None)
        rows.append(
            {"second": second, "right": len(inside) - failed, "failed": failed, "p50_ms": round(quantile(ordered, 0.5), 2),
             "p95_ms": round(quantile(ordered, 0.95), 2)}
        )  # fmt: skip
    return rows


def histogram(samples: Sequence[Sample]) -> list[tuple[float, int]]:
    """(upper bound in ms, count) in logarithmic classes, eight to a doubling of ten, for plots."""
    counts: Counter[int] = Counter()
    for sample in samples:
        if not sample.warm_up:
            counts[math.ceil(8 * math.log10(max(sample.latency * 1000, 0.01)))] += 1
    return (
        [(round(10 ** (step / 8), 4), counts[step]) for step in range(min(counts), max(counts) + 1)] if counts else []
    )


def histograms(samples: Sequence[Sample], kinds: Sequence[Kind]) -> dict[str, list[tuple[float, int]]]:
    """The histogram of every service, and of `all`."""
    by_service = {part.name: histogram([s for s in samples if kinds[s.kind].service == part.name]) for part in SERVICES}
    return {"all": histogram(samples), **by_service}


def figures(result: Result) -> dict[str, Figure | None]:
    """What the history of results keeps of a run."""
    load, cost = result["load"], result["processor_ms_per_request"] or {}
    faults, on_postgres = result["faults"] or {}, result.get("faults_postgres") or {}
    latency = load["latency"] or {}

    def known(value: float | None, make: Callable[[float, str], Figure], unit: str) -> Figure | None:
        return None if value is None else make(value, unit)

    services = {
        f"P95 of {name}{which}": known((row["latency"] or {}).get("p95_ms"), lower, "ms")
        for name, service in load["services"].items()
        for which, row in (("", service), (", reads", service["reads"]), (", writes", service["writes"]))
    }
    return {
        "success": known(load["success"], higher, ""),
        "P50": known(latency.get("p50_ms"), lower, "ms"),
        "P95": known(latency.get("p95_ms"), lower, "ms"),
        "P99": known(latency.get("p99_ms"), lower, "ms"),
        "throughput": known(load["throughput"], higher, "/s"),
        **services,
        "cache": known(result["cache"], higher, ""),
        "processor per request, system": known(cost.get("system"), lower, "ms"),
        "processor per request, load generator": known(cost.get("load generator"), lower, "ms"),
        "knee": known((result["ramp"] or {}).get("knee"), higher, "/s"),
        "availability under faults": known(faults.get("availability"), higher, ""),
        "availability under faults, no retry": known(faults.get("availability_without_retry"), higher, ""),
        "availability under faults, PostgreSQL": known(on_postgres.get("availability"), higher, ""),
    }


def summarise_faults(
    samples: Sequence[Sample],
    kinds: Sequence[Kind],
    *,
    database: str,
    rows: list[Result],
    breakers: list[Result],
    not_done: dict[str, str],
    kept: Result,
    seconds: float,
) -> Result:
    """Availability as users saw it: right answers of all intended requests, without retries and with the one that a client makes."""
    measured = [sample for sample in samples if not sample.warm_up]
    first = [sample for sample in measured if sample.first_failure is None]
    up = uptime(measured, kinds)
    return {
        **group(measured),
        "seconds_long": seconds,
        "sent_in_warm_up": len(samples) - len(measured),
        "right_without_retry": len(first),
        "availability_without_retry": len(first) / len(measured) if measured else None,
        "availability": sum(s.failure is None for s in measured) / len(measured) if measured else None,
        "retried": sum(1 for s in measured if s.attempts > 1),
        "first_failures": dict(Counter(_kind_of_failure(s.first_failure) for s in measured if s.first_failure).most_common(12)),
        "uptime": min(up.values()) if up else None,
        "uptime_by_service": up,
        "database": database,
        "schedule": rows,
        "breakers": breakers,
        "not_done": not_done,
        "record": kept,
        "seconds": _by_second(measured),
    }  # fmt: skip


# --- the ledger's rows ---


def ledger_rows() -> Result:
    """Cost per transaction and proposals per hour, from the ledger benchmarks' results; None where there is no such result."""
    rows: Result = {"sol_per_transaction": None, "dearest": None, "sol_per_transaction_source": None, "proposals_per_hour": None,
                    "proposals_per_hour_source": None}  # fmt: skip
    costs = ROOT / "benchmarks/ledger/results/costs.json"
    if costs.exists():
        instructions = json.loads(costs.read_text())["instructions"]
        # Everything that a governance transaction takes from its payer: the fee, and the rent it locks.
        dearest = max(instructions, key=lambda row: row["fee"] + max(row["rent"], 0))
        rows["sol_per_transaction"] = (dearest["fee"] + max(dearest["rent"], 0)) / 1e9
        rows["dearest"] = dearest["instruction"]
        rows["sol_per_transaction_source"] = str(costs.relative_to(ROOT))
    throughput = ROOT / "benchmarks/ledger_node/results.json"
    if throughput.exists():
        runs = json.loads(throughput.read_text())["runs"]
        rows["proposals_per_hour"] = max(run["whole_proposals_per_hour"] for run in runs)
        rows["proposals_per_hour_source"] = str(throughput.relative_to(ROOT))
    return rows


# --- the verdict ---


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the score: `points` of `weight`; `measured` is None where it was not measured, which earns nothing."""

    name: str
    weight: float
    measured: float | None
    target: float
    unit: str
    lower_is_better: bool

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured <= self.target if self.lower_is_better else self.measured >= self.target

    @property
    def points(self) -> float:
        """The whole weight when the target is met, else in proportion to how near it was."""
        if self.measured is None:
            return 0.0
        if self.met:
            return self.weight
        return self.weight * (self.target / self.measured if self.lower_is_better else self.measured / self.target)


def passes(result: Result) -> list[Result]:
    """Every load with faults: on the first database, and on PostgreSQL beside it."""
    return [one for one in (result["faults"], result.get("faults_postgres")) if one is not None]


def faults_not_done(result: Result) -> dict[str, str]:
    """What no load with faults has done, and why not."""
    found = passes(result)
    if not found:
        return {"every one": "`--faults` was not asked for"}
    done = {row["fault"] for one in found for row in one["schedule"]}
    return {name: why for one in found for name, why in one["not_done"].items() if name not in done}


def _worst(result: Result, figure: str) -> float | None:
    return min((one[figure] for one in passes(result)), default=None)


def _records(result: Result) -> list[Result]:
    """Of every load: steady, ramp, faults."""
    ramp = (result.get("ramp") or {}).get("record")
    return [result["record"], *([ramp] if ramp else []), *(one["record"] for one in passes(result))]


def score(result: Result) -> list[Line]:
    """The lines of the overall score; the weights add up to 100. Of several loads with faults the worst counts."""
    load = result["load"]
    latency = load["latency"] or {}
    lines = [
        Line(
            f"{name} P95",
            4,
            (load["services"][name]["latency"] or {}).get("p95_ms"),
            target,
            "ms",
            lower_is_better=True,
        )
        for name, target in TARGETS_MS.items()
    ]
    records = _records(result)
    whole = sum(record["acknowledged"] + record["made"] for record in records)
    ways = ("missing", "different", "lost", "not_on_ledger")
    absent = sum(len(record.get(how, ())) for record in records for how in ways)
    present = max(0.0, 1 - absent / whole) if whole else None
    lines += [
        Line("success rate", 16, load["success"], PLAN["success"], "", lower_is_better=False),
        Line("P95", 10, latency.get("p95_ms"), PLAN["p95_ms"], "ms", lower_is_better=True),
        Line("P99", 10, latency.get("p99_ms"), PLAN["p99_ms"], "ms", lower_is_better=True),
        Line(
            "availability under faults", 5, _worst(result, "availability"), PLAN["success"], "", lower_is_better=False
        ),
        Line(
            "uptime under faults, worst service", 5, _worst(result, "uptime"), PLAN["uptime"], "", lower_is_better=False
        ),
        Line("throughput", 10, load["throughput"], 0.99 * PLAN["rate"], "/s", lower_is_better=False),
        Line("nothing acknowledged lost", 6, present, 1.0, "", lower_is_better=False),
        Line("cache effectiveness", 5, result["cache"], PLAN["cache"], "", lower_is_better=False),
        Line(
            "cost of a ledger transaction",
            5,
            result["ledger"]["sol_per_transaction"],
            PLAN["sol"],
            "SOL",
            lower_is_better=True,
        ),
    ]
    assert sum(line.weight for line in lines) == 100
    return lines


def criteria(result: Result) -> list[tuple[str, bool]]:
    """What `production ready` takes: every line of the score met, under at least the plan's load, for at least as long, and no fault left
    out: what was not tried may be what breaks it."""
    asked = result["asked"]
    return [
        (f"{PLAN['users']} users or more", asked["users"] >= PLAN["users"]),
        (f"{PLAN['rate']:g}/s offered or more", asked["rate"] >= PLAN["rate"]),
        (f"{PLAN['seconds']:g} s or longer", asked["seconds"] >= PLAN["seconds"]),
        *(
            (line.name + ("" if line.measured is not None else " (not measured)"), line.met is True)
            for line in score(result)
        ),
        *((f"fault not done: {name} ({why})", False) for name, why in faults_not_done(result).items()),
    ]


def verdict(result: Result) -> Result:
    """Score, lines and readiness, for the report."""
    lines = score(result)
    passed = criteria(result)
    return {
        "score": round(sum(line.points for line in lines), 1),
        "lines": [
            {"name": x.name, "weight": x.weight, "points": round(x.points, 2), "measured": x.measured, "target": x.target,
             "unit": x.unit, "met": x.met} for x in lines
        ],
        "production_ready": all(ok for _, ok in passed),
        "unmet": [name for name, ok in passed if not ok],
    }  # fmt: skip
