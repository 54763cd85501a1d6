"""Records a trace to forecast: load and P95 of a real auth service, step by step, while users come and go as over days.

    .venv/bin/python -m benchmarks.forecast.trace [--seasons 9] [--step 1.5]

A day is pressed into 24 steps. How many users come is drawn from a fixed shape with two peaks (the input of this experiment);
when each comes is a Poisson process; how long they wait is measured, from the moment each was due. Each user exchanges client
credentials for a token, which auth looks up, signs and answers.
"""

import asyncio
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import httpx
from benchmarks.record import context

from acgs1.kit.home import Home
from acgs1.runtime.ports import holder

RESULT = Path(__file__).parent / "results" / "trace.json"
SEASON = 24
_LOWEST, _HIGHEST = 4.0, 30.0
_SEED = 20_261_124


def rate(step: int) -> float:
    """Users per second of a step: a peak before noon, a lower one in the afternoon, little at night, less at the weekend."""
    hour, day = step % SEASON, step // SEASON
    shape = math.exp(-(((hour - 10) / 2.5) ** 2)) + 0.7 * math.exp(-(((hour - 16) / 3) ** 2))
    weekend = 0.6 if day % 7 in {5, 6} else 1.0
    return _LOWEST + (_HIGHEST - _LOWEST) * shape * weekend


async def record(url: str, secret: str, *, seasons: int, step: float) -> list[dict[str, Any]]:
    """One row per step: the rate asked for, the requests answered, P95 in seconds, failures."""
    draw = random.Random(_SEED)
    waits: list[list[float]] = [[] for _ in range(seasons * SEASON)]
    failed = [0] * len(waits)
    causes: Counter[str] = Counter()
    running: set[asyncio.Task[None]] = set()

    async def user(index: int, due: float) -> None:
        try:
            answer = await http.post(
                f"{url}/oauth2/token", data={"grant_type": "client_credentials"}, auth=("console", secret), timeout=20.0
            )
            answer.raise_for_status()
        except httpx.HTTPError as error:
            failed[index] += 1
            causes[f"{type(error).__name__}: {str(error)[:60]}"] += 1
        else:
            waits[index].append(time.monotonic() - due)

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=200), trust_env=False) as http:
        began = time.monotonic()
        for index in range(len(waits)):
            due, ends = began + index * step, began + (index + 1) * step
            while (due := due + draw.expovariate(rate(index))) < ends:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(user(index, due))
                running.add(task)
                task.add_done_callback(running.discard)
            click.echo(f"\r{index + 1}/{len(waits)} steps", nl=False, err=True)
        await asyncio.gather(*running)
    if causes:
        click.echo(f"\nfailed: {dict(causes)}", err=True)
    return [
        {
            "asked_per_second": round(rate(index), 3),
            "answered": len(times),
            "failed": failed[index],
            "p95_seconds": round(sorted(times)[max(0, math.ceil(0.95 * len(times)) - 1)], 6) if times else None,
        }
        for index, times in enumerate(waits)
    ]


@click.command()
@click.option("--seasons", default=9)
@click.option("--step", default=1.5, help="seconds")
def main(seasons: int, step: float) -> None:
    """Run it and write results/trace.json."""
    offset = next(o for o in range(23_000, 30_000, 100) if holder(8000 + o) is None)
    with tempfile.TemporaryDirectory(prefix="acgs1-forecast-") as home:
        environment = {**os.environ, "ACGS_HOME": home, "ACGS_PORT_OFFSET": str(offset)}
        secret = Home(Path(home)).service_secret("console")
        command = [sys.executable, "-m", "uvicorn", "acgs1.services.auth.app:app", "--port", str(8000 + offset)]
        with (Path(home) / "auth.log").open("wb") as log:
            process = subprocess.Popen([*command, "--no-access-log"], env=environment, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{8000 + offset}"
        try:
            deadline = time.monotonic() + 90
            while time.monotonic() < deadline:
                try:
                    if httpx.get(f"{url}/health/ready", timeout=2.0).status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.2)
            before = context(_SEED)
            steps = asyncio.run(record(url, secret, seasons=seasons, step=step))
        finally:
            process.terminate()
            process.wait(20)
    result = {**before, "season_steps": SEASON, "step_seconds": step, "load_after": os.getloadavg()[0], "steps": steps}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(f"\nwrote {RESULT}")


if __name__ == "__main__":
    main()
