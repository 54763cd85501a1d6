"""How wrong the forecasts are on the recorded trace, beside "the same as a season ago".

    .venv/bin/python -m benchmarks.forecast.backtest

Rolling origin: from the end of the third season on, every six steps, forecast the next six from all before them, by the same process that
the monitor starts. Both methods forecast the same steps from the same past. Writes results/backtest.json and a line of the history.
"""

import asyncio
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.record import context, keep, lower, write

from acgs1.monitoring.forecast import compute

RESULTS = Path(__file__).parent / "results"
_HORIZON = 6


async def backtest(values: list[float], season: int) -> dict[str, Any]:
    """Mean absolute errors over all origins, and in how many of them each method was nearer."""
    origins = range(3 * season, len(values) - _HORIZON + 1, _HORIZON)
    asked = {str(origin): values[:origin] for origin in origins}
    started = time.perf_counter()
    made = await compute(asked, season=season, horizon=_HORIZON)
    seconds = time.perf_counter() - started
    errors: dict[str, list[float]] = {"model": [], "seasonal_naive": [], "monitor": []}
    chosen = 0
    for origin in origins:
        forecast, after = made[str(origin)], values[origin : origin + _HORIZON]
        assert forecast is not None
        before = values[origin - season : origin - season + _HORIZON]
        errors["model"].append(_error(forecast["model_values"], after))
        errors["seasonal_naive"].append(_error(before, after))
        errors["monitor"].append(_error(forecast["values"], after))
        chosen += forecast["method"] == "mstl"
    nearer = sum(a < b for a, b in zip(errors["model"], errors["seasonal_naive"], strict=True))
    return {
        "origins": len(origins),
        "mean": fmean(values),
        "mean_absolute_error": {name: fmean(found) for name, found in errors.items()},
        "model_nearer_than_naive": nearer,
        "monitor_chose_model": chosen,
        "seconds_of_the_process": round(seconds, 3),
    }


def _error(expected: list[float], seen: list[float]) -> float:
    return fmean(abs(a - b) for a, b in zip(expected, seen, strict=True))


def main() -> None:
    """Run it on results/trace.json."""
    trace = json.loads((RESULTS / "trace.json").read_text())
    step, season = trace["step_seconds"], trace["season_steps"]
    load = [row["answered"] / step for row in trace["steps"]]
    p95: list[float] = []
    for row in trace["steps"]:
        p95.append(row["p95_seconds"] if row["p95_seconds"] is not None else p95[-1])
    where = context()
    result = {
        **where,
        "trace": {name: trace[name] for name in ("measured_at", "commit", "seed", "load_before", "load_after")},
        "horizon_steps": _HORIZON,
        "load_per_second": asyncio.run(backtest(load, season)),
        "p95_seconds": asyncio.run(backtest(p95, season)),
    }
    write(RESULTS / "backtest.json", result)
    figures = {
        f"{metric} {name}": lower(error, unit)
        for metric, unit in (("load_per_second", "1/s"), ("p95_seconds", "s"))
        for name, error in result[metric]["mean_absolute_error"].items()
    }
    keep("forecast", where, figures)


if __name__ == "__main__":
    main()
