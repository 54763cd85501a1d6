"""TTLs learned from use: as long as the values are likely to hold, no longer than declared, no longer than pays."""

import math
from typing import Final

_STEPS: Final = 48
_FORGET: Final = 0.998


class AdaptiveTtl:
    """Chooses the TTL of one operation between `shortest` and `longest` seconds (the declared bound of staleness).

    Changes are taken as a Poisson process, seen only when a value is loaded anew. With accesses at rate `a` and changes
    at rate `c`, a TTL of T answers a fraction aT/(1+aT) of accesses from the cache, of which 1-(1-exp(-cT))/(cT) are
    stale. The TTL is the one in the bounds that makes `misses + stale_cost * stale answers` least: `stale_cost` says how
    many loads one stale answer is worth avoiding. The rate of changes is estimated as by Cho and Garcia-Molina
    ("Estimating frequency of change", ACM TOIT 3(3), 2003), more cautiously, over loads that fade with age.
    """

    def __init__(
        self, *, shortest: float, longest: float, stale_cost: float = 20.0, initial: float | None = None
    ) -> None:
        if not 0 < shortest <= longest or stale_cost <= 0:
            raise ValueError(
                f"0 < shortest <= longest and stale_cost > 0, not {shortest:g}, {longest:g}, {stale_cost:g}"
            )
        self._shortest = shortest
        self._longest = longest
        self._stale_cost = stale_cost
        self._ttl = min(max(initial or shortest, shortest), longest)
        self._loads = 0.0
        self._unchanged = 0.0
        self._seconds = 0.0
        self._accesses = 0.0

    @property
    def changes_per_second(self) -> float | None:
        """The estimated rate of change; None before the first observation."""
        if self._loads == 0:
            return None
        interval = self._seconds / self._loads
        # Half a change is presumed beyond those seen: that nothing has changed yet does not mean that nothing will.
        return -math.log((self._unchanged + 0.5) / (self._loads + 1.0)) / interval

    def ttl(self) -> float:
        """Seconds, within the bounds."""
        return self._ttl

    def observe_load(self, *, age: float, changed: bool, accesses: int) -> None:
        """A value `age` seconds old, asked for `accesses` times since, was loaded anew and had `changed` or not."""
        if age <= 0:
            return
        self._loads = self._loads * _FORGET + 1
        self._unchanged = self._unchanged * _FORGET + (not changed)
        self._seconds = self._seconds * _FORGET + age
        self._accesses = self._accesses * _FORGET + accesses
        # A longer TTL is tried in steps: a wrong guess at the beginning must not cost the longest TTL there is.
        self._ttl = min(self._best(), self._ttl * 2)

    def _best(self) -> float:
        change = self.changes_per_second or 0.0
        # The access that caused the load is one of the cycle, too.
        access = (self._accesses + self._loads) / self._seconds
        ratio = self._longest / self._shortest
        candidates = (self._shortest * ratio ** (step / (_STEPS - 1)) for step in range(_STEPS))
        return min(candidates, key=lambda ttl: self._cost(ttl, access, change))

    def _cost(self, ttl: float, access: float, change: float) -> float:
        miss = 1 / (1 + access * ttl)
        exposure = change * ttl
        stale = 1 + math.expm1(-exposure) / exposure if exposure > 1e-9 else exposure / 2
        return miss + (1 - miss) * stale * self._stale_cost
