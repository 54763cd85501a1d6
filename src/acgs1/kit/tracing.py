"""Traces across the parts: W3C Trace Context on the wire, finished spans kept for the viewer and, by setting, sent by OTLP.

Whether a trace is recorded is decided where it begins, from its id, and everybody below follows that (head sampling).
What fails is recorded always: a request answered with 5xx and a call that raised leave their span also in a trace that
was not sampled. A trace that is not sampled costs one context variable per request and a comparison per span.

Use:

    with span("ledger getSlot", CLIENT):
        ...
"""

import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple, Self

SERVER: Final = "server"
CLIENT: Final = "client"
INTERNAL: Final = "internal"

_KEPT: Final = 1024
_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE: Final = b"0" * 32
# The 56 low bits of a trace id decide, as OpenTelemetry's ratio sampler and W3C Trace Context level 2 have it.
_RANDOM_BITS: Final = 56


class TraceContext(NamedTuple):
    """Where in which trace the current work stands. Ids are lower-case hex; `parent_id` is empty at the root."""

    trace_id: str
    span_id: str
    sampled: bool
    parent_id: str = ""


trace_var: ContextVar[TraceContext | None] = ContextVar("trace", default=None)


@dataclass(frozen=True, slots=True)
class Span:
    """One finished piece of work. `start` is in seconds since the Unix epoch; `error` is the type of what was raised, or
    the status that was answered."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    start: float
    seconds: float
    error: str | None
    attributes: dict[str, str | int | float]


class Recorder:
    """The spans of one process: the last 1024 that were not yet collected."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque(maxlen=_KEPT)
        self._bound = 0
        self.listener: Callable[[Span], None] | None = None
        """Hears of every span, inside the work that it describes: it only queues."""

    def sample(self, rate: float) -> None:
        """Record this fraction of the traces that begin here."""
        self._bound = int(rate * (1 << _RANDOM_BITS))

    def begin(self, header: bytes | None) -> TraceContext:
        """The context of a request: continues the caller's trace or starts one (W3C Trace Context, section 3.2).

        A header that is not valid starts a new trace.
        """
        # Ids are no secrets: the generator is seeded by the system, and anew in a forked process.
        bits = random.getrandbits(192)
        span_id = f"{bits & 0xFFFF_FFFF_FFFF_FFFF:016x}"
        if header and (match := _TRACEPARENT.fullmatch(header)) and match[1] != _NO_TRACE:
            parent = match[2].decode()
            return TraceContext(match[1].decode(), span_id, bool(int(match[3], 16) & 1), parent)
        trace = bits >> 64
        return TraceContext(f"{trace:032x}", span_id, trace & ((1 << _RANDOM_BITS) - 1) < self._bound)

    def record(self, span: Span) -> None:
        self._spans.append(span)
        if self.listener is not None:
            self.listener(span)

    def drain(self, limit: int) -> list[Span]:
        """Take out the oldest `limit` spans."""
        return [self._spans.popleft() for _ in range(min(limit, len(self._spans)))]

    def give_back(self, spans: Iterable[Span]) -> None:
        """Undo a `drain` whose spans could not be delivered, as far as there is room."""
        for span in reversed(list(spans)):
            if len(self._spans) == _KEPT:
                return
            self._spans.appendleft(span)

    def answered(self, trace: TraceContext, name: str, status: int, seconds: float) -> None:
        """The request that `trace` stands for was answered. To be called for sampled traces and for 5xx."""
        error = str(status) if status >= 500 else None
        start = time.time() - seconds
        attributes: dict[str, str | int | float] = {"http.response.status_code": status}
        self.record(
            Span(trace.trace_id, trace.span_id, trace.parent_id, name, SERVER, start, seconds, error, attributes)
        )


_process: Final = Recorder()


def recorder() -> Recorder:
    """The recorder of this process."""
    return _process


def traceparent() -> str | None:
    """The header that carries the current trace to another part."""
    trace = trace_var.get()
    return f"00-{trace.trace_id}-{trace.span_id}-{'01' if trace.sampled else '00'}" if trace else None


class span:  # noqa: N801 - used like a function, as contextlib's own are
    """Record the block as a span of the current trace, if there is one that is sampled, or when the block raises.

    `attributes` follow OpenTelemetry's semantic conventions; no personal data, secrets or parameters belong there.
    """

    __slots__ = ("_attributes", "_context", "_kind", "_name", "_started", "_token")

    def __init__(self, name: str, kind: str = INTERNAL, attributes: dict[str, str | int | float] | None = None) -> None:
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._token: Token[TraceContext | None] | None = None

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        current = trace_var.get()
        if current is not None and current.sampled:
            self._context = TraceContext(current.trace_id, new_span_id(), True, current.span_id)
            self._token = trace_var.set(self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            context = self._context
            trace_var.reset(self._token)
        elif isinstance(error, Exception) and (current := trace_var.get()) is not None:
            context = TraceContext(current.trace_id, new_span_id(), False, current.span_id)
        else:
            return
        seconds = time.perf_counter() - self._started
        _process.record(
            Span(
                context.trace_id,
                context.span_id,
                context.parent_id,
                self._name,
                self._kind,
                time.time() - seconds,
                seconds,
                # The type only: a message may carry personal data.
                type(error).__name__ if error is not None else None,
                self._attributes or {},
            )
        )


def new_span_id() -> str:
    """16 hexadecimal digits at random."""
    return f"{random.getrandbits(64):016x}"
