"""How wrong the forecasts are on the recorded trace, beside "as now" and "as a season ago".

    .venv/bin/python -m benchmarks.forecast.backtest [--trace FILE] [--show]

Rolling origin: from the end of the third season on, every six steps, forecast the next six from all before them, by the same process that
the monitor starts. Every method forecasts the same steps from the same past. `naive` repeats the last value, `seasonal_naive` the last
season, `model` is the seasonal model alone, and `monitor` is what the monitor shows: the model or the season before, whichever was nearer
when it was last tested. `skill` of a method is the share of the better naive's error that it saves: below 0 it is worse than knowing
nothing. Writes results/backtest.json and a line of the history; with `--show` it only prints.
"""

import asyncio
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import click
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
    errors: dict[str, list[float]] = {"model": [], "naive": [], "seasonal_naive": [], "monitor": []}
    chosen = 0
    for origin in origins:
        forecast, after = made[str(origin)], values[origin : origin + _HORIZON]
        assert forecast is not None
        before = values[origin - season : origin - season + _HORIZON]
        errors["model"].append(_error(forecast["model_values"], after))
        errors["naive"].append(_error([values[origin - 1]] * _HORIZON, after))
        errors["seasonal_naive"].append(_error(before, after))
        errors["monitor"].append(_error(forecast["values"], after))
        chosen += forecast["method"] == "mstl"
    means = {name: fmean(found) for name, found in errors.items()}
    to_beat = min(means["naive"], means["seasonal_naive"])
    nearer = {
        name: sum(a < b for a, b in zip(errors["monitor"], errors[name], strict=True))
        for name in ("naive", "seasonal_naive")
    }
    return {
        "origins": len(origins),
        "mean": fmean(values),
        "mean_absolute_error": means,
        "skill": {name: round(1 - means[name] / to_beat, 3) for name in ("model", "monitor")},
        "monitor_nearer_than": nearer,
        "monitor_chose_model": chosen,
        "seconds_of_the_process": round(seconds, 3),
    }


def _error(expected: list[float], seen: list[float]) -> float:
    return fmean(abs(a - b) for a, b in zip(expected, seen, strict=True))


@click.command()
@click.option("--trace", "recorded", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS / "trace.json")
@click.option("--show", is_flag=True, help="print, write nothing")
def main(recorded: Path, show: bool) -> None:
    """Run it on a recorded trace."""
    trace = json.loads(recorded.read_text())
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
    if show:
        click.echo(json.dumps(result, indent=2))
        return
    write(RESULTS / "backtest.json", result)
    figures = {
        f"{metric} {name}": lower(error, unit)
        for metric, unit in (("load_per_second", "1/s"), ("p95_seconds", "s"))
        for name, error in result[metric]["mean_absolute_error"].items()
    }
    keep("forecast", where, figures)


if __name__ == "__main__":
    main()
