"""From a cold start to all parts healthy, the memory of all processes together, and the time to stop.

Starts the real system on an empty data directory, runs the main job once, and reads the proportional set size of every process
(PSS: shared pages are divided among those who share them) before and after it. Repeats with fresh directories.

Usage: python benchmarks/system/start.py [--rounds 5] [--out FILE]
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from record import ROOT, context, keep, lower, write

from acgs1.contracts.topology import PARTS
from acgs1.runtime.supervisor import is_healthy

OFFSET = 12_000


def pss_megabytes(root: int) -> dict[str, float]:
    """PSS of process `root` and all its descendants, by pid and name."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    sizes: dict[str, float] = {}
    for pid in family:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        kilobytes = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        sizes[str(pid)] = kilobytes / 1024
    return sizes


def one_round() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "ACGS_HOME": home, "ACGS_PORT_OFFSET": str(OFFSET)}
        started = time.perf_counter()
        system = subprocess.Popen([sys.executable, "-m", "acgs1", "up", "--quiet"], env=env)
        waiting = {part.name: part.port + OFFSET for part in PARTS}
        while waiting:
            for name, port in list(waiting.items()):
                if is_healthy("127.0.0.1", port):
                    del waiting[name]
            time.sleep(0.05)  # not to compete with what is being measured
            if system.poll() is not None or time.perf_counter() - started > 60:
                raise SystemExit(f"the system did not start; waiting for {sorted(waiting)}")
        healthy = time.perf_counter() - started
        idle = pss_megabytes(system.pid)
        demo = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "acgs1", "demo", "--exit"], env=env, capture_output=True, check=False
        )
        demo = time.perf_counter() - demo
        used = pss_megabytes(system.pid)
        stopping = time.perf_counter()
        system.send_signal(signal.SIGTERM)
        system.wait(30)
        return {
            "healthy_seconds": round(healthy, 2),
            "pss_idle_mb": round(sum(idle.values()), 1),
            "pss_after_main_job_mb": round(sum(used.values()), 1),
            "processes_after_main_job": len(used),
            "main_job_seconds": round(demo, 2),
            "main_job_status": done.returncode,
            "stop_seconds": round(time.perf_counter() - stopping, 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/system/results/start.json")
    options = parser.parse_args()
    where = context()
    rounds = []
    for _ in range(options.rounds):
        rounds.append(one_round())
        print(rounds[-1], flush=True)
    medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    write(options.out, {"context": where, "medians": medians, "rounds": rounds})
    keep(
        "system",
        where,
        {
            "start to all parts healthy": lower(medians["healthy_seconds"], "s"),
            "PSS of all processes, idle": lower(medians["pss_idle_mb"], "MB"),
            "PSS of all processes, after the main job": lower(medians["pss_after_main_job_mb"], "MB"),
            "main job": lower(medians["main_job_seconds"], "s"),
            "stop": lower(medians["stop_seconds"], "s"),
        },
    )


if __name__ == "__main__":
    main()
