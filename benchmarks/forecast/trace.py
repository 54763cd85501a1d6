"""Records a trace to forecast: load and P95 of a real auth service, step by step, while users come and go as over days.

    .venv/bin/python -m benchmarks.forecast.trace [--seasons 9] [--step 1.5] [--out FILE]

A day is pressed into 24 steps. What the service bears on this machine is measured first; the busiest hour of an average day asks for
60 % of it, the quietest for 5 %, so that waiting times vary with the load. How many users come has a fixed shape with two peaks and a
weekend, times a level that wanders from step to step and days of their own (a seeded input of this experiment); when each comes
is a Poisson process; how long they wait is measured, from the moment each was due. Each user exchanges client credentials for a token,
which auth looks up, signs and answers. A trace that was taken beside other work says more of that than of the service: the load of the
machine before and after stands in the result.
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
_LOWEST, _HIGHEST = 0.05, 0.6
"""Of what the service bears: the quietest and the busiest hour of an average day."""
_PROBE_SECONDS, _PROBE_USERS = 8.0, 32
_SEED = 20_261_124


def rates(seasons: int, most: float) -> list[float]:
    """Users per second of each step, where the service bears `most`: a peak before noon, a lower one in the afternoon, little at
    night, less at the weekend; no two days alike."""
    draw = random.Random(_SEED)
    asked: list[float] = []
    wander = 0.0
    for day in range(seasons):
        weekend = 0.6 if day % 7 in {5, 6} else 1.0
        level = weekend * draw.uniform(0.85, 1.15)
        for hour in range(SEASON):
            shape = math.exp(-(((hour - 10) / 2.5) ** 2)) + 0.7 * math.exp(-(((hour - 16) / 3) ** 2))
            wander = 0.8 * wander + draw.gauss(0.0, 0.06)
            share = (_LOWEST + (_HIGHEST - _LOWEST) * shape * level) * math.exp(wander)
            asked.append(most * min(0.9, share))
    return asked


async def bears(url: str, secret: str) -> float:
    """Requests per second that the service answers when it is always asked."""
    answered, ends = 0, time.monotonic() + _PROBE_SECONDS

    async def user() -> None:
        nonlocal answered
        while time.monotonic() < ends:
            (await _token(http, url, secret)).raise_for_status()
            answered += 1

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=200), trust_env=False) as http:
        await asyncio.gather(*(user() for _ in range(_PROBE_USERS)))
    return answered / _PROBE_SECONDS


async def _token(http: httpx.AsyncClient, url: str, secret: str) -> httpx.Response:
    return await http.post(
        f"{url}/oauth2/token", data={"grant_type": "client_credentials"}, auth=("console", secret), timeout=20.0
    )


async def record(url: str, secret: str, asked: list[float], *, step: float) -> list[dict[str, Any]]:
    """One row per step: the rate asked for, the requests answered, P95 in seconds, failures."""
    draw = random.Random(_SEED)
    waits: list[list[float]] = [[] for _ in asked]
    failed = [0] * len(waits)
    causes: Counter[str] = Counter()
    running: set[asyncio.Task[None]] = set()

    async def user(index: int, due: float) -> None:
        try:
            (await _token(http, url, secret)).raise_for_status()
        except httpx.HTTPError as error:
            failed[index] += 1
            causes[f"{type(error).__name__}: {str(error)[:60]}"] += 1
        else:
            waits[index].append(time.monotonic() - due)

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=200), trust_env=False) as http:
        began = time.monotonic()
        for index in range(len(waits)):
            due, ends = began + index * step, began + (index + 1) * step
            while (due := due + draw.expovariate(asked[index])) < ends:
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
            "asked_per_second": round(asked[index], 3),
            "answered": len(times),
            "failed": failed[index],
            "p95_seconds": round(sorted(times)[max(0, math.ceil(0.95 * len(times)) - 1)], 6) if times else None,
        }
        for index, times in enumerate(waits)
    ]


@click.command()
@click.option("--seasons", default=9)
@click.option("--step", default=1.5, help="seconds")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULT)
def main(seasons: int, step: float, out: Path) -> None:
    """Run it and write the trace."""
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
            most = asyncio.run(bears(url, secret))
            click.echo(f"the service bears {most:.0f} requests per second here", err=True)
            steps = asyncio.run(record(url, secret, rates(seasons, most), step=step))
        finally:
            process.terminate()
            process.wait(20)
    result = {
        **before,
        "season_steps": SEASON,
        "step_seconds": step,
        "bears_per_second": round(most, 1),
        "load_after": os.getloadavg()[0],
        "steps": steps,
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(f"\nwrote {out}")


if __name__ == "__main__":
    main()
