"""What every result says beside its figures: when, on what, of which source, with which seed; and the history of results.

A benchmark writes its whole result to a file of its own (`write`) and its figures as one line to `history.jsonl` (`keep`), which only ever
grows: `benchmarks/compare.py` reads it. The history is per commit, so a source that no commit names is kept out of it.
"""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parent.parent
HISTORY = Path(__file__).parent / "history.jsonl"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, and which way is better."""

    value: float
    unit: str
    better: Literal["lower", "higher"]


CHANGED = "+changes"
"""Stands behind the commit when the source that was measured differs from it."""


class Uncommitted(Exception):
    """The source is not what the commit says; the message says what to do."""


def expect_committed(measured: str) -> None:
    """Raises Uncommitted unless `measured` (as `commit()` has it) names the source that was measured: nobody could measure it again, and
    two such results under one name may be of different sources."""
    if measured.endswith(CHANGED) or measured == "unknown":
        raise Uncommitted(
            f"`{measured}` does not name the source that is measured, and the history is per commit; commit first, or add `--force`"
        )


def lower(value: float, unit: str) -> Figure:
    return Figure(value, unit, "lower")


def higher(value: float, unit: str) -> Figure:
    return Figure(value, unit, "higher")


def context(seed: int | None = None) -> dict[str, Any]:
    """Machine, load, source and time of a measurement."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "seed": seed,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as indented JSON and say where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {path}")


def keep(
    benchmark: str,
    where: Mapping[str, Any],
    figures: Mapping[str, Figure | None],
    history: Path = HISTORY,
    *,
    force: bool = False,
) -> bool:
    """Append the figures of one measurement, made under `where` (a `context`), to the history. A figure that was not measured is None
    and left out. What no commit names is not kept unless `force`: then this says so and returns False."""
    try:
        expect_committed(where["commit"])
    except Uncommitted as reason:
        if not force:
            print(f"not kept in the history: {reason}")
            return False
    measured = {name: asdict(figure) for name, figure in figures.items() if figure is not None}
    line = {"benchmark": benchmark, **where, "figures": measured}
    with history.open("a") as file:
        file.write(json.dumps(line, separators=(",", ":")) + "\n")
    return True


def commit() -> str:
    """The commit, marked when tracked files differ from it; what benchmarks write themselves does not count."""

    def run(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    head = run("rev-parse", "--short", "HEAD") or "unknown"
    ours = (":(exclude)benchmarks/history.jsonl", ":(exclude,glob)benchmarks/**/results/**")
    return head + (CHANGED if run("status", "--porcelain", "--untracked-files=no", "--", ".", *ours) else "")
