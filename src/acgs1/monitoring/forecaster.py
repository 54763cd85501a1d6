"""The forecasting process: reads series from standard input, writes forecasts to standard output, ends.

A process of its own, so that numpy and augurs (34 MB) are in memory only while it works. Run as a file: nothing else of this
package is imported.

In: `{"season": steps, "horizon": steps, "level": 0.9, "series": {name: [values]}}`.
Out: `{name: {"method", "values", "upper", "model_values", "error", "naive_error"}}` or `{name: null}` for a series shorter than two seasons
and a horizon. The errors are mean absolute errors of a back-test: each method forecast the last `horizon` values from those
before them. The method with the smaller one makes the forecast; `model_values` are the seasonal model's in any case.
"""

import json
import os
import sys
from typing import Any


def main() -> None:
    import augurs
    import numpy as np

    def mstl(y: Any, season: int, horizon: int, level: float) -> tuple[Any, Any]:
        """Seasonal and trend decomposition by Loess, exponential smoothing of what is left (augurs' MSTL with AutoETS)."""
        model = augurs.MSTL.ets([season])
        model.fit(y)
        made = model.predict(horizon, level=level)
        upper = made.upper()
        return made.point(), upper if upper is not None else made.point()

    def naive(y: Any, season: int, horizon: int, level: float) -> tuple[Any, Any]:
        """What was a season ago, with the quantile of what that was wrong by."""
        last = np.resize(y[-season:], horizon)
        return last, last + np.quantile(np.abs(y[season:] - y[:-season]), level)

    def forecast(values: list[float], season: int, horizon: int, level: float) -> dict[str, Any] | None:
        if len(values) < 2 * season + horizon:
            return None
        y = np.asarray(values, dtype=float)
        before, after = y[:-horizon], y[-horizon:]
        errors = {m: float(np.abs(m(before, season, horizon, level)[0] - after).mean()) for m in (mstl, naive)}
        best = mstl if errors[mstl] <= errors[naive] else naive
        made = {m: m(y, season, horizon, level) for m in (mstl, naive)}
        point, upper = made[best]
        return {
            "method": "mstl" if best is mstl else "seasonal-naive",
            # Neither a load nor a latency is negative.
            "values": [max(0.0, float(v)) for v in point],
            "upper": [max(0.0, float(v)) for v in upper],
            "model_values": [max(0.0, float(v)) for v in made[mstl][0]],
            "error": errors[mstl],
            "naive_error": errors[naive],
        }

    os.nice(10)
    asked = json.load(sys.stdin)
    made = {
        name: forecast(values, asked["season"], asked["horizon"], asked["level"])
        for name, values in asked["series"].items()
    }
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()
