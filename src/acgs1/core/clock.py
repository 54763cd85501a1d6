"""Time as an argument: aware UTC instants for records, monotonic seconds for durations."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where a component gets the time from, so that a test can own it."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin that never go backwards."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds`, which must not be negative."""
        if seconds < 0:
            raise ValueError(f"a clock does not go backwards: `{seconds}` seconds")
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


def format_instant(instant: datetime) -> str:
    """RFC 3339 in UTC with microseconds and `Z`: the one textual form of an instant on the wire and in hashes.

    Raises ValueError for a naive datetime.
    """
    if instant.tzinfo is None:
        raise ValueError(f"an instant needs a time zone: `{instant.isoformat()}` has none")
    # Not strftime: it writes years before 1000 with fewer than four digits.
    return instant.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_instant(text: str) -> datetime:
    """The inverse of `format_instant`; takes any RFC 3339 instant that carries an offset."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"an instant needs an offset such as `Z`: `{text}`")
    return instant.astimezone(UTC)
