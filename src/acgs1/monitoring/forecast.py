"""Forecasts of load and P95 per service, and when they will break an objective. The computing is another process's."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import structlog

from acgs1.kit.telemetry import LATENCY_BUCKETS
from acgs1.monitoring.counts import Counts, LoadStep

_log = structlog.get_logger()

LEVEL: Final = 0.9
"""Probability that a value stays under the forecast's `upper`, as far as the past tells."""
FORECASTER: Final = Path(__file__).with_name("forecaster.py")
_SECONDS: Final = 120.0
_LONGEST: Final = 14
"""Seasons of history that a forecast looks at."""

Metric = Literal["load", "p95"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """`values[i]` is expected for the step that begins at `starts_at + i * step`. Load is in requests per second, P95 in seconds.

    `error` and `naive_error` are mean absolute errors of the last back-test, of the seasonal model and of "the same as a
    season ago"; the better one made the forecast.
    """

    service: str
    metric: Metric
    method: str
    made_at: datetime
    starts_at: datetime
    step: timedelta
    values: tuple[float, ...]
    upper: tuple[float, ...]
    error: float
    naive_error: float

    @property
    def ends_at(self) -> datetime:
        """From here on it says nothing."""
        return self.starts_at + len(self.values) * self.step

    def crosses(self, limit: float, now: datetime) -> timedelta | None:
        """How long from `now` on until the expected value is above `limit` for the first time; None when it stays below for as
        long as the forecast reaches."""
        for index, value in enumerate(self.values):
            begins = self.starts_at + index * self.step
            if value > limit and now < begins + self.step:
                return max(timedelta(0), begins - now)
        return None


def series(steps: Sequence[LoadStep], bounds: Sequence[float], *, step: int, season: int) -> dict[Metric, list[float]]:
    """Load and P95 of each step from the first to the last one that is known, at most the last 14 seasons.

    A step without requests has no load and the P95 of the step before it.
    """
    if not steps:
        return {"load": [], "p95": []}
    known = {seen.start: seen for seen in steps}
    first = max(steps[0].start, steps[-1].start - step * (_LONGEST * season - 1))
    load: list[float] = []
    p95: list[float] = []
    for start in range(first, steps[-1].start + 1, step):
        seen = known.get(start)
        load.append(seen.requests / step if seen else 0.0)
        value = quantile(0.95, bounds, seen.within, seen.requests) if seen and len(seen.within) == len(bounds) else None
        p95.append(value if value is not None else (p95[-1] if p95 else 0.0))
    return {"load": load, "p95": p95}


def quantile(fraction: float, bounds: Sequence[float], within: Sequence[int], total: int) -> float | None:
    """The quantile of a cumulative histogram, linear inside a bucket (as Prometheus's histogram_quantile has it); the last
    bound for what is above it; None of nothing."""
    if total <= 0 or not bounds:
        return None
    rank = fraction * total
    edges = list(zip((0.0, *bounds), (0, *within), strict=True))
    for (low, before), (high, count) in pairwise(edges):
        if count >= rank:
            return low + (high - low) * (rank - before) / (count - before) if count > before else high
    return bounds[-1]


class ForecastUnavailable(Exception):
    """The forecasting process failed; the message says how."""


async def compute(
    asked: Mapping[str, Sequence[float]], *, season: int, horizon: int
) -> dict[str, dict[str, Any] | None]:
    """What `forecaster.py` makes of the series. Raises ForecastUnavailable."""
    request = json.dumps({"season": season, "horizon": horizon, "level": LEVEL, "series": dict(asked)})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # this package's modules are none of the process's
        str(FORECASTER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # One thread per library: it competes with the decision point for two processors.
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, err = await process.communicate(request.encode())
    except TimeoutError:
        raise ForecastUnavailable(f"no forecast within {_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        hint = "; install augurs (`pip install augurs`)" if "No module named" in last[0] else ""
        raise ForecastUnavailable(f"the forecasting process ended with {process.returncode}: {last[0]}{hint}")
    return json.loads(out)


async def forecast_services(
    services: Iterable[str], counts: Counts, *, now: Callable[[], datetime], step: int, season: int, horizon: int
) -> tuple[dict[tuple[str, Metric], Forecast], str]:
    """Forecasts of load and P95 of those that have been seen for long enough; and why there is none, or of what not."""
    asked: dict[str, list[float]] = {}
    wanted: dict[str, tuple[str, Metric, int]] = {}
    for service in services:
        steps = await counts.load(service)
        for metric, values in series(steps, LATENCY_BUCKETS, step=step, season=season).items():
            if len(values) >= 2 * season + horizon:
                asked[f"{service} {metric}"] = values
                wanted[f"{service} {metric}"] = (service, metric, steps[-1].start + step)
    if not asked:
        needed = timedelta(seconds=step * (2 * season + horizon))
        return {}, f"a forecast needs {needed.total_seconds() / 3600:.4g} hours of history"
    try:
        found = await compute(asked, season=season, horizon=horizon)
    except ForecastUnavailable as error:
        _log.warning("no_forecast", reason=str(error))
        return {}, str(error)
    made_at = now()
    made: dict[tuple[str, Metric], Forecast] = {}
    for name, (service, metric, end) in wanted.items():
        if (values := found[name]) is not None:
            made[service, metric] = Forecast(
                service=service,
                metric=metric,
                method=values["method"],
                made_at=made_at,
                starts_at=datetime.fromtimestamp(end, UTC),
                step=timedelta(seconds=step),
                values=tuple(values["values"]),
                upper=tuple(values["upper"]),
                error=values["error"],
                naive_error=values["naive_error"],
            )
    return made, f"made of {len(asked)} series"
