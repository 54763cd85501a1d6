"""governance_synthesis in a process that kills itself at the point `ACGS_TEST_DIE` names: `<step>:before` its work, or `:after` it, when
the effect is there and the result is not kept yet. Before the next step's work is after this one's result was kept."""

import os
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta

from pydantic import JsonValue

from acgs1.contracts.topology import PART_BY_NAME
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime import parts
from acgs1.services.governance_synthesis import jobs, runs

POINT = os.environ.get("ACGS_TEST_DIE", "")
attempt = runs.WorkflowRuns._attempt  # pyright: ignore[reportPrivateUsage]


def _reached(point: str) -> None:
    if point == POINT:
        os.kill(os.getpid(), signal.SIGKILL)


async def attempt_and_die(
    self: runs.WorkflowRuns, run_id: str, name: str, work: Callable[[], Awaitable[JsonValue]]
) -> JsonValue:
    async def dying() -> JsonValue:
        _reached(f"{name}:before")
        result = await work()
        _reached(f"{name}:after")
        return result

    return await attempt(self, run_id, name, dying)


if __name__ == "__main__":
    runs.WorkflowRuns._attempt = attempt_and_die  # pyright: ignore[reportPrivateUsage]
    # The lease of a process that was killed has to lapse first.
    runs._LEASE = timedelta(seconds=1)  # pyright: ignore[reportPrivateUsage, reportConstantRedefinition]
    jobs._TEND_SECONDS = 0.25  # pyright: ignore[reportPrivateUsage, reportConstantRedefinition]
    raise SystemExit(parts.run(PART_BY_NAME["governance_synthesis"], PlatformSettings()))
