"""What a durable workflow is made of, for those who write one; `acgs1.kit.workflows` carries it out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pydantic import JsonValue

Work = Callable[[], Awaitable[JsonValue]]


class Suspended(Exception):
    """Raised by a step's work after `Engine.suspend`: nothing is recorded of this step, and the workflow stands still."""


class Step(Protocol):
    """Carries out `work` under `name` and keeps its result, or returns the result kept by an earlier run without doing it again.

    A process that dies between the work and the keeping does the work twice, so each `work` must have its effect once however often
    it is called.
    """

    async def __call__(self, name: str, work: Work) -> Any: ...


Body = Callable[[str, Step], Awaitable[None]]
"""A workflow, given its id. It must call the same steps in the same order when it is run again with the same results."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step that is done."""

    name: str
    started_at: datetime
    finished_at: datetime
    result: JsonValue
