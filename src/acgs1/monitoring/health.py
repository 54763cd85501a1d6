"""From single checks to a status: a state machine with hysteresis. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """`degraded` serves without something it can do without; `unhealthy` answers but cannot serve; `down` does not answer."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    DOWN = "down"

    @property
    def serves(self) -> bool:
        """Whether a user's request would have been served."""
        return self in {Status.HEALTHY, Status.DEGRADED}


@dataclass(frozen=True, slots=True)
class Check:
    """One look at a target. `seconds` is how long the answer took (or until it was given up)."""

    target: str
    at: datetime
    status: Status
    seconds: float
    detail: str = ""


@dataclass(slots=True)
class TargetHealth:
    """The status of one target: bad only after `failures_needed` bad checks in a row, good again after
    `successes_needed` good ones. Between healthy and degraded it moves at once."""

    target: str
    failures_needed: int = 3
    successes_needed: int = 2
    status: Status = Status.UNKNOWN
    since: datetime | None = None
    last: Check | None = None
    failures: int = 0
    successes: int = 0

    def observe(self, check: Check) -> Status | None:
        """Take in one check; the previous status if this one changed it."""
        self.last = check
        if check.status.serves:
            self.failures = 0
            self.successes += 1
            trusted = self.status in {Status.UNKNOWN, Status.HEALTHY, Status.DEGRADED}
            settled = trusted or self.successes >= self.successes_needed
        else:
            self.successes = 0
            self.failures += 1
            settled = self.failures >= self.failures_needed
        if not settled or check.status == self.status:
            return None
        previous, self.status, self.since = self.status, check.status, check.at
        return previous
