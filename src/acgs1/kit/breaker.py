"""Circuit breakers on the edges between processes: one registry per process, watched by the monitor.

The state machine is `interlock` (closed, open, half-open, forced open; failure-rate and slow-call thresholds over a
sliding window). This module adds what the platform needs around it: names, what is known about each breaker for the
monitor and the console (since when, why, how many calls it turned away), and any number of listeners.

Use:

    edge = breakers().get("policy_governance->integrity")
    async with edge:
        response = await client.post(...)   # raises CircuitOpenError without a call while the breaker is open
        response.raise_for_status()

What leaves the block as an `Exception` counts as a failure unless `is_failure` says otherwise; cancellation never
counts. So a deadline belongs inside the block (`async with edge, asyncio.timeout(5): ...`): around it, its expiry would
cross the block as a cancellation, and a dependency that hangs would never open its breaker. Keep only the exchange with
the dependency inside the block: a 4xx is an answer, not a fault of the dependency.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from interlock import (
    CircuitBreaker,
    CircuitOpenError,
    Config,
    CoreEventListener,
    Outcome,
    State,
    WindowType,
)

from acgs1.core.clock import Clock, SystemClock
from acgs1.core.errors import DomainError
from acgs1.kit.telemetry import BREAKER_CALLS, BREAKER_REJECTED, BREAKER_STATE

__all__ = [
    "DEFAULT_CONFIG",
    "DELIVERY_CONFIG",
    "BreakerSnapshot",
    "Breakers",
    "CircuitBreaker",
    "CircuitOpenError",
    "Config",
    "CoreEventListener",
    "Outcome",
    "State",
    "StateChange",
    "UnknownBreaker",
    "WindowType",
    "breakers",
]

DEFAULT_CONFIG: Final = Config(
    window_type=WindowType.TIME_BASED,
    window_size=30,
    minimum_number_of_calls=10,
    failure_rate_threshold=0.5,
    slow_call_duration_threshold=2.0,
    slow_call_rate_threshold=0.8,
    wait_duration_in_open=5.0,
    permitted_calls_in_half_open=3,
    max_concurrent_probes=1,
)
"""The default edge: opens when, of at least 10 calls in the last 30 s, half failed or 80 % took 2 s or more; after 5 s
three probes, one at a time, decide whether it closes."""

DELIVERY_CONFIG: Final = Config(
    window_type=WindowType.COUNT_BASED,
    window_size=3,
    minimum_number_of_calls=3,
    failure_rate_threshold=1.0,
    # Slow is good enough here: nobody waits for it.
    slow_call_duration_threshold=3600.0,
    slow_call_rate_threshold=1.0,
    wait_duration_in_open=30.0,
    permitted_calls_in_half_open=1,
    max_concurrent_probes=1,
)
"""An edge over which one background task delivers one thing after the other, seldom and with patience: ten calls in 30 s never come
together when each hangs for ten. Opens after three failures in a row; after 30 s one probe decides."""

_HISTORY: Final = 32

_logger: Final = logging.getLogger(__name__)


class UnknownBreaker(DomainError):
    """No breaker of that name exists in this process."""

    code = "unknown_breaker"
    title = "No such circuit breaker"


@dataclass(frozen=True, slots=True)
class StateChange:
    """One transition, as it happened."""

    at: datetime
    old: State
    new: State
    reason: str


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """What is known of one breaker at one instant.

    `calls`, `failure_rate` and `slow_call_rate` describe the sliding window; `total_calls`, `total_failures` and
    `rejected` count since the process started. `retry_after` is in seconds and None unless the breaker is open: an open
    breaker whose wait is over (0.0) turns half-open with the next call.
    """

    name: str
    state: State
    since: datetime
    reason: str
    calls: int
    failure_rate: float
    slow_call_rate: float
    total_calls: int
    total_failures: int
    rejected: int
    retry_after: float | None
    last_failure: str | None
    history: tuple[StateChange, ...]


class _Classifier:
    """Turns `is_failure` into interlock's protocol, and remembers the last failure for the snapshot."""

    def __init__(self, is_failure: Callable[[Exception], bool] | None) -> None:
        self._is_failure = is_failure
        self.last_failure: str | None = None

    def is_failure(self, *, result: object, exception: Exception | None) -> bool:  # noqa: ARG002 - the protocol's
        if exception is None or (self._is_failure is not None and not self._is_failure(exception)):
            return False
        # The type only: a message may carry personal data, and a snapshot is shown to operators.
        self.last_failure = type(exception).__name__
        return True


class _Edge:
    """One breaker and its book-keeping; a listener of its own breaker."""

    def __init__(
        self,
        name: str,
        config: Config,
        clock: Clock,
        is_failure: Callable[[Exception], bool] | None,
        listeners: list[CoreEventListener],
    ) -> None:
        self._clock = clock
        self._config = config
        self._listeners = listeners
        self._classifier = _Classifier(is_failure)
        self._since = clock.now()
        self._since_monotonic = clock.monotonic()
        self._reason = "created"
        self._operator_reason: str | None = None
        self._history: deque[StateChange] = deque(maxlen=_HISTORY)
        self._total = 0
        self._failures = 0
        self._rejected = 0
        self.breaker = CircuitBreaker(
            name=name,
            config=config,
            clock=clock,
            classifier=self._classifier,
            listener=self,
        )

    def on_state_change(self, *, name: str, old: State, new: State) -> None:
        self._since = self._clock.now()
        self._since_monotonic = self._clock.monotonic()
        self._reason = self._operator_reason or self._why(new)
        self._history.append(StateChange(self._since, old, new, self._reason))
        self._tell(lambda listener: listener.on_state_change(name=name, old=old, new=new))

    def on_call(self, *, name: str, outcome: Outcome, duration: float) -> None:
        self._total += 1
        self._failures += outcome.is_failure
        if self._listeners:
            self._tell(lambda listener: listener.on_call(name=name, outcome=outcome, duration=duration))

    def on_rejected(self, *, name: str) -> None:
        self._rejected += 1
        self._tell(lambda listener: listener.on_rejected(name=name))

    def on_reset(self, *, name: str) -> None:
        self._tell(lambda listener: listener.on_reset(name=name))

    def force_open(self, reason: str) -> None:
        self._operator_reason = reason
        try:
            self.breaker.force_open()
        finally:
            self._operator_reason = None

    def reset(self, reason: str) -> None:
        self._operator_reason = reason
        try:
            self.breaker.reset()
        finally:
            self._operator_reason = None

    def snapshot(self) -> BreakerSnapshot:
        window = self.breaker.snapshot()
        state = self.breaker.state
        retry_after = None
        if state is State.OPEN:
            elapsed = self._clock.monotonic() - self._since_monotonic
            retry_after = max(0.0, self._config.wait_duration_in_open - elapsed)
        return BreakerSnapshot(
            name=self.breaker.name,
            state=state,
            since=self._since,
            reason=self._reason,
            calls=window.total_calls,
            failure_rate=window.failure_rate,
            slow_call_rate=window.slow_call_rate,
            total_calls=self._total,
            total_failures=self._failures,
            rejected=self._rejected,
            retry_after=retry_after,
            last_failure=self._classifier.last_failure,
            history=tuple(self._history),
        )

    def _why(self, new: State) -> str:
        window = self.breaker.snapshot()
        match new:
            case State.OPEN:
                return (
                    f"{window.failure_rate:.0%} of the last {window.total_calls} calls failed, "
                    f"{window.slow_call_rate:.0%} took {self._config.slow_call_duration_threshold:g} s or more"
                )
            case State.HALF_OPEN:
                return f"waited {self._config.wait_duration_in_open:g} s, probing"
            case State.CLOSED:
                return "probes succeeded"
            case _:
                return "set by an operator"

    def _tell(self, send: Callable[[CoreEventListener], None]) -> None:
        for listener in self._listeners:
            try:
                send(listener)
            except Exception:
                # A metric that cannot be written must not fail the call that it counts.
                _logger.exception("a circuit breaker listener failed; ignored")


class Breakers:
    """The circuit breakers of one process, by name.

    Names are the edge, `caller->callee` (`policy_governance->integrity`), so that the monitor can draw them.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._edges: dict[str, _Edge] = {}
        self._listeners: list[CoreEventListener] = []

    def get(
        self,
        name: str,
        config: Config = DEFAULT_CONFIG,
        *,
        is_failure: Callable[[Exception], bool] | None = None,
    ) -> CircuitBreaker:
        """The breaker called `name`, made on first use; `config` and `is_failure` count only then.

        `is_failure` says whether an exception that left the block speaks against the dependency (default: each one
        does). Raises ValueError for an empty name or for a growing wait (`wait_duration_backoff_multiplier`), which the
        snapshot could not foretell.
        """
        edge = self._edges.get(name)
        if edge is None:
            if not name:
                raise ValueError("a circuit breaker needs a name such as `caller->callee`")
            if config.wait_duration_backoff_multiplier != 1.0:
                raise ValueError(f"circuit breaker `{name}`: the wait in `open` is constant here")
            edge = self._edges[name] = _Edge(name, config, self._clock, is_failure, self._listeners)
        return edge.breaker

    def subscribe(self, listener: CoreEventListener) -> Callable[[], None]:
        """Send every event of every breaker, present and future, to `listener`; call the result to stop.

        Listeners run inside the protected call: they only count. What they raise is logged and dropped.
        """
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def snapshot(self) -> list[BreakerSnapshot]:
        """Every breaker of the process, by name."""
        return [self._edges[name].snapshot() for name in sorted(self._edges)]

    def force_open(self, name: str, reason: str) -> None:
        """Refuse every call over `name` until `reset`. Raises UnknownBreaker."""
        self._edge(name).force_open(reason)

    def reset(self, name: str, reason: str) -> None:
        """Close `name` with an empty window. Raises UnknownBreaker."""
        self._edge(name).reset(reason)

    def _edge(self, name: str) -> _Edge:
        try:
            return self._edges[name]
        except KeyError:
            known = ", ".join(f"`{known}`" for known in sorted(self._edges)) or "none yet"
            raise UnknownBreaker(f"no circuit breaker `{name}` in this process; known: {known}") from None


class _Metrics:
    """The events of the process's breakers as metrics. A breaker is shown from its first call or change on."""

    def __init__(self) -> None:
        self._shown: dict[str, State] = {}

    def on_state_change(self, *, name: str, old: State, new: State) -> None:
        BREAKER_STATE.labels(name, old.value).set(0)
        BREAKER_STATE.labels(name, new.value).set(1)
        self._shown[name] = new

    def on_call(self, *, name: str, outcome: Outcome, duration: float) -> None:  # noqa: ARG002 - the protocol's
        if name not in self._shown:
            self._shown[name] = State.CLOSED
            BREAKER_STATE.labels(name, State.CLOSED.value).set(1)
        BREAKER_CALLS.labels(name, outcome.value).inc()

    def on_rejected(self, *, name: str) -> None:
        BREAKER_REJECTED.labels(name).inc()

    def on_reset(self, *, name: str) -> None:
        """Told as a change of state where it is one."""


_process: Final = Breakers()
_process.subscribe(_Metrics())


def breakers() -> Breakers:
    """The breakers of this process."""
    return _process
