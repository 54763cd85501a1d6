"""The open loop: every request has an intended time from a schedule, and its latency counts from there.

A request never waits for an earlier answer, so a stall of the system is paid for by every request that falls into it, rather than by the
one that happened to be in flight ("coordinated omission").
"""

import asyncio
import gc
import math
import time
from bisect import bisect
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from random import Random
from typing import Final, NamedTuple

from benchmarks.load.client import BROKEN, Exchange, Pool
from benchmarks.load.mix import Check, Exhausted, Kind, Repeatable, Then

from acgs1.contracts.topology import SERVICES
from acgs1.kit.settings import PlatformSettings

TIMEOUT_SECONDS: Final = 5.0
"""For one attempt; looked after every 50 ms."""
RETRY_SECONDS: Final = 0.2
RETRY_AFTER_SECONDS: Final = 1.0
"""Before the one retry: after a broken connection, and after 503, whose `Retry-After` is 1."""
MOST_REQUESTS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Planned:
    """One request: `at` seconds after the start, by `user`."""

    at: float
    kind: int
    user: int


@dataclass(slots=True)
class Sample:
    """One request and what came of it. Times are seconds after the start; `failure` is None for a right answer. `first_failure` is what the
    first attempt failed with, where it failed; without retries the two are the same. Of a request that takes several exchanges (`Then`),
    `sent` is when the first began and `answered` when the last ended."""

    kind: int
    intended: float
    warm_up: bool
    sent: float | None = None
    answered: float | None = None
    failure: str | None = "unanswered"
    first_failure: str | None = None
    attempts: int = 1

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


class Driven(NamedTuple):
    """What came of a plan: a sample for each request, the most connections that each service had, this process's processor seconds."""

    samples: list[Sample]
    connections: dict[str, int]
    processor_seconds: float


async def drive(
    settings: PlatformSettings,
    kinds: Sequence[Kind],
    plan: Sequence[Planned],
    *,
    warm_up: float,
    seed: int,
    progress: Progress,
    retry: bool = False,
) -> Driven:
    """Send every request of `plan` at its time.

    Requests intended in the first `warm_up` seconds are sent and checked like the others and marked. With `retry`, a request of a kind that
    may be repeated is sent once more after a broken connection or a 503, and its latency counts until the second answer. Ends at most two
    attempts after the last intended time, or when the last of several exchanges (`Then`) is over. Kinds that run out are left out of the
    samples.
    """
    driver = _Driver(settings, kinds, warm_up, retry=retry)
    random = Random(seed)
    now = time.monotonic
    teller = asyncio.create_task(driver.tell(progress))
    sweeper = asyncio.create_task(driver.sweep())
    # Nothing here makes cycles; a collection would be a pause of ours that looks like one of the system.
    gc.collect()
    gc.disable()
    processor = time.process_time()
    driver.start = start = now() + 0.05
    try:
        for request in plan:
            try:
                data, check = kinds[request.kind].make(random, request.user)
            except Exhausted:
                continue
            while (wait := start + request.at - now()) > 0:  # noqa: ASYNC110 - a time is waited for, not an event
                await asyncio.sleep(wait)
            driver.send(request, data, check)
        await driver.finish()
    finally:
        processor = time.process_time() - processor
        gc.enable()
        teller.cancel()
        sweeper.cancel()
        driver.close()
    return Driven(driver.samples, driver.connections(), processor)


class _Attempt(Exchange):
    """One attempt at a request."""

    __slots__ = ("check", "driver", "repeatable", "sample", "until")

    def __init__(self, driver: "_Driver", sample: Sample, data: bytes, check: Check, *, repeatable: bool) -> None:
        super().__init__(data)
        self.driver = driver
        self.sample = sample
        self.check = check
        self.repeatable = repeatable
        self.until = time.monotonic() + TIMEOUT_SECONDS

    def done(self, status: int, body: bytes, failure: str | None) -> None:
        # The moment the answer is here; checking it is our time, not the system's.
        self.driver.answered(self, time.monotonic(), status, failure or self.check(status, body))


class _Driver:
    """What the requests of one drive share."""

    def __init__(self, settings: PlatformSettings, kinds: Sequence[Kind], warm_up: float, *, retry: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._pools = {part.name: Pool(settings.host, settings.port(part.name)) for part in SERVICES}
        self._pool = [self._pools[kind.service] for kind in kinds]
        self._repeatable = [kind.repeatable for kind in kinds]
        self._retry = retry
        self._warm_up = warm_up
        # Not the loop's own clock: uvloop's has steps of a millisecond.
        self.start = time.monotonic()
        self.samples: list[Sample] = []
        self._waiting: deque[_Attempt] = deque()
        self._open = 0
        self._all_sent = False
        self._finished = asyncio.Event()

    def send(self, request: Planned, data: bytes, check: Check) -> None:
        sample = Sample(request.kind, request.at, request.at < self._warm_up)
        self.samples.append(sample)
        self._open += 1
        self._attempt(sample, data, check, repeatable=self._repeatable[request.kind])

    def _attempt(self, sample: Sample, data: bytes, check: Check, *, repeatable: bool) -> None:
        attempt = _Attempt(self, sample, data, check, repeatable=repeatable)
        # All wait equally long, so they become late in this order.
        self._waiting.append(attempt)
        self._pool[sample.kind].send(attempt)

    def answered(self, attempt: _Attempt, now: float, status: int, outcome: str | Then | None) -> None:
        sample = attempt.sample
        if sample.sent is None and attempt.sent is not None:
            sample.sent = attempt.sent - self.start
        if isinstance(outcome, Then):
            self._attempt(sample, outcome.data, outcome.check, repeatable=True)
            return
        if sample.attempts == 1:
            sample.first_failure = outcome
            if outcome is not None and self._retry and attempt.repeatable and status in Repeatable:
                sample.attempts = 2
                pause = RETRY_SECONDS if status == BROKEN else RETRY_AFTER_SECONDS
                again = partial(self._attempt, sample, attempt.data, attempt.check, repeatable=attempt.repeatable)
                self._loop.call_later(pause, again)
                return
        sample.answered = now - self.start
        sample.failure = outcome
        self._open -= 1
        if self._all_sent and not self._open:
            self._finished.set()

    async def finish(self) -> None:
        self._all_sent = True
        if self._open:
            await self._finished.wait()

    async def sweep(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            now = time.monotonic()
            while self._waiting and (self._waiting[0].finished or self._waiting[0].until <= now):
                attempt = self._waiting.popleft()
                if not attempt.finished:
                    attempt.late(TIMEOUT_SECONDS)

    async def tell(self, progress: Progress) -> None:
        while True:
            await asyncio.sleep(1.0)
            progress(round(time.monotonic() - self.start), self.samples)

    def connections(self) -> dict[str, int]:
        return {name: pool.most for name, pool in self._pools.items()}

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


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
