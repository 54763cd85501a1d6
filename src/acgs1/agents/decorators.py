"""`@governed`: put a function of an agent behind an enforcement point."""

import inspect
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec

from acgs1.agents.calls import ToolCall
from acgs1.agents.enforce import EnforcementPoint, Refused

P = ParamSpec("P")


class CallRefused(Exception):
    """A governed function was not executed; `refusal` says why, and which principles stood against it."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


_session: ContextVar[tuple[str, str | None] | None] = ContextVar("acgs1_agent_session", default=None)


@contextmanager
def acting(agent: str, on_behalf_of: str | None = None) -> Generator[None]:
    """Everything governed inside this block is done by `agent`, for the person `on_behalf_of`."""
    token = _session.set((agent, on_behalf_of))
    try:
        yield
    finally:
        _session.reset(token)


def governed(
    point: EnforcementPoint, name: str | None = None
) -> Callable[[Callable[P, Any]], Callable[P, Awaitable[Any]]]:
    """Register the function as tool `name` (default: its own name) of `point` and let it be reached only through there.

    The decorated function is a coroutine function; it raises CallRefused when the call is not allowed, and RuntimeError outside
    `acting(...)`, where nobody can say who acts.
    """

    def decorate(function: Callable[P, Any]) -> Callable[P, Awaitable[Any]]:
        tool = name or function.__name__
        signature = inspect.signature(function)
        point.add(tool, function)

        @wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            session = _session.get()
            if session is None:
                raise RuntimeError(f"`{tool}` is governed: call it inside `with acting(agent=...)`")
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            outcome = await point.call(ToolCall(tool, bound.arguments, *session))
            if isinstance(outcome, Refused):
                raise CallRefused(outcome)
            return outcome.result

        return call

    return decorate
