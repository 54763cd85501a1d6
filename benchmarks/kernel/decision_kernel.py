"""How long one decision takes in the kernel, on the workload that the OPA comparison uses too.

N rules (rule i: an agent with role r{i%10} may call tool_i on a resource of limited classification, for a limited amount, outside
production or with an approval) and two denies over all tools. Each measurement is one request with its two entities, drawn with a
fixed seed; a third of the requests is denied. The answers are compared with Cedar's own authorizer before anything is timed.

Usage: python benchmarks/kernel/decision_kernel.py [--out FILE] [--requests 20000] [--seed 7] [--rules 10,100,1000]
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import acgs1_kernel as kernel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import record


def workload(n: int) -> tuple[str, str]:
    policies = [
        '@id("D-suspended") forbid(principal, action, resource) when { principal.suspended };',
        '@id("D-approval") forbid(principal, action, resource) when { resource.classification >= 5 && !context.approved };',
    ]
    policies += [
        f'@id("P-{i}") permit(principal, action == Action::"tool_{i}", resource) when {{ principal.roles.contains("r{i % 10}") '
        f"&& resource.classification <= {i % 5 + 1} && context.amount < {1000 + i} "
        '&& (context.env != "prod" || context.approved) };'
        for i in range(n)
    ]
    tools = ", ".join(f'"tool_{i}"' for i in range(n))
    schema = (
        "entity Agent = { roles: Set<String>, suspended: Bool };\nentity Resource = { classification: Long };\n"
        f"action {tools} appliesTo {{ principal: Agent, resource: Resource, "
        "context: { amount: Long, env: String, approved: Bool } };\n"
    )
    return schema, "\n".join(policies)


def request(rng: random.Random, n: int) -> dict[str, Any]:
    k = rng.randrange(n)
    good = rng.random() < 2 / 3
    agent, resource = f"agent-{rng.randrange(1000)}", f"db/orders-{rng.randrange(1000)}"
    attrs = {"roles": [f"r{k % 10 if good else (k + 1) % 10}", "x"], "suspended": not good and rng.random() < 0.3}
    return {
        "principal": ("Agent", agent),
        "action": ("Action", f"tool_{k}"),
        "resource": ("Resource", resource),
        "context": {"amount": rng.randrange(900), "env": rng.choice(["prod", "test"]), "approved": True},
        "entities": [
            {"uid": {"type": "Agent", "id": agent}, "attrs": attrs, "parents": []},
            {"uid": {"type": "Resource", "id": resource}, "attrs": {"classification": k % 5 + 1}, "parents": []},
        ],
    }


def timed(calls: list[Callable[[], object]]) -> dict[str, float]:
    for call in calls[:500]:
        call()
    spent: list[int] = []
    for call in calls:
        start = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - start)
    spent.sort()

    def at(share: float) -> float:
        return round(spent[min(len(spent) - 1, int(len(spent) * share))] / 1000, 2)

    return {"median_us": at(0.5), "p99_us": at(0.99), "min_us": round(spent[0] / 1000, 2), "samples": len(spent)}


def measure(n: int, samples: int, seed: int) -> dict[str, Any]:
    schema, policies = workload(n)
    start = time.perf_counter()
    engine = kernel.Engine(schema, policies)
    build = time.perf_counter() - start
    rng = random.Random(seed)
    requests = [request(rng, n) for _ in range(samples)]
    text: list[dict[str, Any]] = [
        r | {"context": json.dumps(r["context"]).encode(), "entities": json.dumps(r["entities"]).encode()}
        for r in requests
    ]
    allowed = 0
    for r, t in zip(requests[:300], text, strict=False):
        reference = engine.authorize_reference(
            r["principal"], r["action"], r["resource"], t["context"].decode(), t["entities"].decode()
        )
        if engine.authorize(**r) != reference or engine.authorize(**t) != reference:
            raise SystemExit(f"error: the engine disagrees with Cedar's authorizer on {r}")
        allowed += reference.allowed
    known = requests[0]
    stored = kernel.Engine(schema, policies, entities=json.dumps(known["entities"]))
    plain = {k: v for k, v in known.items() if k != "entities"}
    return {
        "rules": n + 2,
        "engine_build_ms": round(build * 1e3, 1),
        "checked_against_cedar": 300,
        "allowed_share": round(allowed / 300, 3),
        "entities_per_request": {
            "json_bytes": timed([lambda t=t: engine.authorize(**t) for t in text]),
            "dict": timed([lambda r=r: engine.authorize(**r) for r in requests]),
        },
        "entities_in_engine": {"dict": timed([lambda: stored.authorize(**plain)] * samples)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "decision_kernel.json")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rules", default="10,100,1000")
    options = parser.parse_args()
    where = record.context(options.seed)
    result: dict[str, Any] = {
        "context": where,
        "acgs1_kernel": {"source_sha256": kernel.SOURCE_SHA256, "cedar": kernel.CEDAR_SDK_VERSION},
        "results": [measure(int(n), options.requests, options.seed) for n in options.rules.split(",")],
    }
    for row in result["results"]:
        print(json.dumps(row, indent=2))
    record.write(options.out, result)
    medians = {
        f"{how} with {row['rules']} rules": record.lower(row[how][form]["median_us"], "us")
        for row in result["results"]
        for how, form in (("entities_per_request", "dict"), ("entities_in_engine", "dict"))
    }
    record.keep("decision_kernel", where, medians)


if __name__ == "__main__":
    main()
