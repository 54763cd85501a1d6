"""The open loop: every request has an intended time from a schedule, and its latency counts from there.

A request never waits for an earlier answer, so a stall of the system is paid for by every request that falls into it, rather than by the
one that happened to be in flight ("coordinated omission").
"""

import asyncio
import math
import time
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Final

from benchmarks.load.client import Exchange, Pool
from benchmarks.load.mix import Check, Exhausted, Kind

from acgs1.contracts.topology import SERVICES
from acgs1.kit.settings import PlatformSettings

TIMEOUT_SECONDS: Final = 5.0
MOST_REQUESTS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Planned:
    """One request: `at` seconds after the start, by `user`."""

    at: float
    kind: int
    user: int


@dataclass(slots=True)
class Sample:
    """One request and what came of it. Times are seconds after the start; `failure` is None for a right answer."""

    kind: int
    intended: float
    warm_up: bool
    sent: float | None = None
    answered: float | None = None
    failure: str | None = "unanswered"

    @property
    def latency(self) -> float:
        """Seconds from the intended time to the answer."""
        assert self.answered is not None
        return self.answered - self.intended


def schedule(kinds: Sequence[Kind], users: int, rate: float, seconds: float, seed: int) -> list[Planned]:
    """Requests of `users` users who think for an exponentially distributed time, so that they offer `rate` requests per second together;
    kinds with a rate of their own come evenly, by one user after the other. The same arguments give the same schedule."""
    own = sum(kind.per_second for kind in kinds)
    if rate <= own or rate * seconds > MOST_REQUESTS:
        raise ValueError(f"rate must be above {own:g}/s, and rate times seconds at most {MOST_REQUESTS}")
    shared = [index for index, kind in enumerate(kinds) if kind.share]
    limits = list(accumulate(kinds[index].share for index in shared))
    thinking = users / (rate - own)
    planned: list[Planned] = []
    for user in range(users):
        random = Random(f"{seed}/{user}")
        at = random.expovariate(1 / thinking)
        while at < seconds:
            kind = shared[min(bisect(limits, random.random() * limits[-1]), len(shared) - 1)]
            planned.append(Planned(at, kind, user))
            at += random.expovariate(1 / thinking)
    for index, kind in enumerate(kinds):
        planned += [
            Planned((turn + 0.5) / kind.per_second, index, turn % users)
            for turn in range(int(seconds * kind.per_second + 0.5))
        ]
    return sorted(planned, key=lambda request: request.at)


Progress = Callable[[int, list[Sample]], None]
"""Hears, about once a second, of the seconds gone and all samples so far."""


async def drive(
    settings: PlatformSettings,
    kinds: Sequence[Kind],
    plan: Sequence[Planned],
    *,
    warm_up: float,
    seed: int,
    progress: Progress,
) -> tuple[list[Sample], dict[str, int]]:
    """Send every request of `plan` at its time; return a sample for each, and the most connections that each service had.

    Requests intended in the first `warm_up` seconds are sent and checked like the others and marked. Ends at most `TIMEOUT_SECONDS`
    after the last intended time. Kinds that run out are left out of the samples.
    """
    loop = asyncio.get_running_loop()
    pools = {part.name: Pool(settings.host, settings.port(part.name)) for part in SERVICES}
    random = Random(seed)
    samples: list[Sample] = []
    open_requests = 0
    all_sent = False
    finished = asyncio.Event()
    # Not the loop's own clock: uvloop's has steps of a millisecond.
    now = time.monotonic
    start = now() + 0.05

    def send(request: Planned, data: bytes, check: Check) -> None:
        nonlocal open_requests
        kind = kinds[request.kind]
        sample = Sample(request.kind, request.at, request.at < warm_up)
        samples.append(sample)
        open_requests += 1

        def done(status: int, body: bytes, failure: str | None) -> None:
            nonlocal open_requests
            # The moment the answer is here; checking it is our time, not the system's.
            sample.answered = now() - start
            sample.sent = None if exchange.sent is None else exchange.sent - start
            sample.failure = failure or check(status, body)
            open_requests -= 1
            if all_sent and not open_requests:
                finished.set()

        exchange = Exchange(data, TIMEOUT_SECONDS, done)
        pools[kind.service].send(exchange)

    async def tell() -> None:
        while True:
            await asyncio.sleep(1.0)
            progress(round(now() - start), samples)

    teller = loop.create_task(tell())
    try:
        for request in plan:
            try:
                data, check = kinds[request.kind].make(random, request.user)
            except Exhausted:
                continue
            while (wait := start + request.at - now()) > 0:  # noqa: ASYNC110 - a time is waited for, not an event
                await asyncio.sleep(wait)
            send(request, data, check)
        all_sent = True
        if open_requests:
            await finished.wait()
    finally:
        teller.cancel()
        for pool in pools.values():
            pool.close()
    return samples, {name: pool.most for name, pool in pools.items()}


def console_progress(kinds: Sequence[Kind], *, rate: float, warm_up: float) -> Progress:
    """A line per second on standard output."""
    seen = 0
    most_in_flight = int(rate * (TIMEOUT_SECONDS + 2))
    started = time.monotonic()

    def tell(second: int, samples: list[Sample]) -> None:
        nonlocal seen
        sent, seen = len(samples) - seen, len(samples)
        # What was answered in the last second, whenever it was sent; a plan asks for at most five seconds of patience.
        recent = [s for s in samples[-(sent + most_in_flight) :] if s.answered is not None and s.answered > second - 1]
        waiting = sum(1 for s in samples[-(sent + most_in_flight) :] if s.answered is None)
        right = sorted(s.latency * 1000 for s in recent if s.failure is None)
        failed = len(recent) - len(right)
        middle = f"{quantile(right, 0.5):7.1f} {quantile(right, 0.95):7.1f}" if right else "      -       -"
        note = "  warm-up" if time.monotonic() - started < warm_up + 0.5 else ""
        print(
            f"  {second:4d} s  sent {sent:5d}  answered {len(recent):5d}  failed {failed:4d}  waiting {waiting:5d}"
            f"  P50, P95 {middle} ms{note}",
            flush=True,
        )

    print(f"  {len(kinds)} kinds of requests; latencies count from the intended time", flush=True)
    return tell


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the ordered values do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * share - 1e-9) - 1)]
