"""TTLs learned from use: as long as the values are likely to hold, no longer than declared, no longer than pays."""

import math
from typing import Final

_STEPS: Final = 24
_RATES: Final = 16
# A rate at which a change is rare even among ten thousand of the longest TTLs; above one change in the shortest TTL no TTL helps.
_RAREST: Final = 1e-4
# How often habits change, in loads, and how fast it is learned which habits there are.
_SWITCH: Final = 0.003
_LEARN: Final = 0.01
_FADE: Final = 0.98


class AdaptiveTtl:
    """Chooses the TTL of one operation between `shortest` and `longest` seconds (the declared bound of staleness).

    A change is seen only when a value is loaded anew. With accesses at rate `a` and changes at rate `c`, a TTL of T answers a
    fraction aT/(1+aT) of accesses from the cache, of which 1-(1-exp(-cT))/(cT) are stale. The TTL is the one in the bounds that
    makes the expected `misses + stale_cost * stale answers` least: `stale_cost` says how many loads one stale answer is worth
    avoiding.

    Changes come in regimes: nothing for days, then a sitting in which one follows the other. So the rate is not averaged but
    tracked: a weight for each of some rates, moved by every load by how likely that rate made what it found, and by the chance that
    the regime has just changed to one of those seen before (Herbster and Warmuth, "Tracking the best expert", Machine Learning 32,
    1998: fixed share, here with the past as the share). One change found shortens the TTL at once; a quiet stretch lengthens it, at
    most twofold a load.
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
        self._rates = _spread(_RAREST / longest, 1 / shortest, _RATES)
        self._weights = [1 / _RATES] * _RATES
        self._habits = [1 / _RATES] * _RATES
        # (TTL, the share of its answers that is stale at each of the rates)
        self._candidates = [
            (ttl, [_stale(rate * ttl) for rate in self._rates]) for ttl in _spread(shortest, longest, _STEPS)
        ]
        self._seconds = 0.0
        self._accesses = 0.0

    @property
    def changes_per_second(self) -> float | None:
        """The expected rate of change; None before the first observation."""
        if self._seconds == 0:
            return None
        return sum(weight * rate for weight, rate in zip(self._weights, self._rates, strict=True))

    def ttl(self) -> float:
        """Seconds, within the bounds."""
        return self._ttl

    def observe_load(self, *, age: float, changed: bool, accesses: int) -> None:
        """A value `age` seconds old, asked for `accesses` times since, was loaded anew and had `changed` or not."""
        if age <= 0:
            return
        self._track(age, changed)
        # The access that caused the load is one of the cycle, too.
        self._accesses = self._accesses * _FADE + accesses + 1
        self._seconds = self._seconds * _FADE + age
        # A longer TTL is tried in steps: a wrong guess at the beginning must not cost the longest TTL there is.
        self._ttl = min(self._best(self._accesses / self._seconds), self._ttl * 2)

    def _track(self, age: float, changed: bool) -> None:
        likely = [-math.expm1(-rate * age) if changed else math.exp(-rate * age) for rate in self._rates]
        seen = [weight * chance for weight, chance in zip(self._weights, likely, strict=True)]
        # Whatever was found is possible at some rate, however unlikely: the share keeps every weight above nothing.
        total = sum(seen) or 1.0
        seen = [weight / total for weight in seen]
        self._weights = [(1 - _SWITCH) * now + _SWITCH * habit for now, habit in zip(seen, self._habits, strict=True)]
        self._habits = [habit + _LEARN * (now - habit) for now, habit in zip(seen, self._habits, strict=True)]

    def _best(self, access: float) -> float:
        def cost(candidate: tuple[float, list[float]]) -> float:
            ttl, shares = candidate
            miss = 1 / (1 + access * ttl)
            stale = sum(weight * share for weight, share in zip(self._weights, shares, strict=True))
            return miss + (1 - miss) * stale * self._stale_cost

        return min(self._candidates, key=cost)[0]


def _spread(least: float, most: float, steps: int) -> list[float]:
    """From `least` to `most` in equal ratios, neither of them overstepped by rounding."""
    ratio = most / least
    return [min(max(least * ratio ** (step / (steps - 1)), least), most) for step in range(steps)]


def _stale(exposure: float) -> float:
    return 1 + math.expm1(-exposure) / exposure if exposure > 1e-9 else exposure / 2
