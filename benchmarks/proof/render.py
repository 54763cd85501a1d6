"""The results as a page: `results/README.md` out of `proof.json` and `side_by_side.json`.

python benchmarks/proof/render.py benchmarks/proof/results
"""

import json
import sys
from pathlib import Path
from typing import Any

_BUDGETS = """| budget | measured | kept |
|---|---|---|"""


def write(folder: Path) -> None:
    """Writes the page anew from the results that are there."""
    parts = ["# Proof times", "Written by `render.py` from the JSON files beside it; do not edit."]
    proof, beside = (_load(folder / name) for name in ("proof.json", "side_by_side.json"))
    if proof is not None:
        parts += [_context(proof), _budgets(proof), *_tables(proof)]
    if beside is not None:
        parts += ["## Beside `cedar symcc`", _context(beside), _beside(beside)]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")


def _load(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.exists() else None


def _context(result: dict[str, Any]) -> str:
    about: dict[str, Any] = result.get("context") or result["machine"]
    cores, load, commit = about["cores"], about["load_before"], about["commit"]
    return f"{cores} cores, load {load:.1f} before it began, Python {about['python']}, commit `{commit}`, seed {about['seed']}."


def _find(rows: list[dict[str, Any]], **wanted: object) -> dict[str, Any] | None:
    return next((row for row in rows if all(row.get(name) == value for name, value in wanted.items())), None)


def _budgets(proof: dict[str, Any]) -> str:
    runs: list[dict[str, Any]] = proof["runs"]
    lines = [_BUDGETS]

    def line(name: str, row: dict[str, Any] | None, field: str, limit: float, unit: str) -> None:
        if row is not None:
            lines.append(f"| {name} | {row[field]:g} {unit} | {'yes' if row[field] <= limit else 'no'} |")

    one = {"workers": 1, "second_opinion": False}
    line("10 principles x 100 policies cold: 2 s", _find(runs, principles=10, policies=100, **one), "cold_s", 2, "s")
    services: list[dict[str, Any]] = proof.get("services", [])
    with_z3 = "10 x 100, one change through the service with z3: P95 45 ms"
    line(with_z3, _find(services, workers=1, second_opinion=True), "change_p95_ms", 45, "ms")
    for principles in (10, 30, 100):
        row = _find(runs, principles=principles, policies=1000, **one)
        line(f"{principles} x 1000 cold: 30 s", row, "cold_s", 30, "s")
    largest = max(runs, key=lambda row: row["memory_mb_per_worker"])
    line("memory of a worker: 300 MB", largest, "memory_mb_per_worker", 300, "MB")
    return "\n".join(lines)


def _tables(proof: dict[str, Any]) -> list[str]:
    head = (
        "| principles x policies | workers | z3 | obligations | cold | warm | one change: median | P95 | max | worker |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    rows = [head]
    for run in proof["runs"]:
        change = run.get("change_ms", {})
        rows.append(
            f"| {run['principles']} x {run['policies']} | {run['workers']} | {_yes(run['second_opinion'])} "
            f"| {run['obligations']} | {run['cold_s']:g} s | {run['warm_s']:g} s | {run['change_median_ms']:g} ms "
            f"| {run['change_p95_ms']:g} ms | {change.get('max', float('nan')):g} ms | {run['memory_mb_per_worker']:g} MB |"
        )
    parts = ["## Through the worker pool", "\n".join(rows)]
    services: list[dict[str, Any]] = proof.get("services", [])
    if services:
        rows = [
            "| principles x policies | workers | z3 | cold | one change: min | median | P95 | P99 | max |\n"
            "|---|---|---|---|---|---|---|---|---|"
        ]
        for run in services:
            change = run["change_ms"]
            shown = " | ".join(f"{change[name]:g} ms" for name in ("min", "median", "p95", "p99", "max"))
            rows.append(
                f"| {run['principles']} x {run['policies']} | {run['workers']} | {_yes(run['second_opinion'])} "
                f"| {run['cold_s']:g} s | {shown} |"
            )
        parts += ["## Through the service (database, certificate, events)", "\n".join(rows)]
    return parts


def _beside(beside: dict[str, Any]) -> str:
    versions = ", ".join(f"{name}: {version}" for name, version in beside["versions"].items())
    rows = [
        f"{versions}. `verdict alone` leaves out what the command line does not do: the smallest counterexample, the proved edit.\n",
        "| checks | differing verdicts | ours, ms per check | verdict alone | `cedar symcc` | times faster | verdict alone |\n"
        "|---|---|---|---|---|---|---|",
    ]
    for row in beside["results"]:
        alone = row.get("ours_verdict_alone_ms_per_check", "")
        rows.append(
            f"| {row['set']} ({row['checks']}) | {len(row['verdicts_that_differ'])} | {row['ours_ms_per_check']:g} | {alone} "
            f"| {row['cedar_symcc_ms_per_check']:g} | {row['times_faster']:g} | {row.get('times_faster_verdict_alone', '')} |"
        )
    return "\n".join(rows)


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
