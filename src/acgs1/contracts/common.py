"""Shapes that every service uses."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256, lower-case hex")]
"""A content hash on the wire."""


class Message(BaseModel):
    """Base of everything on the wire: immutable, and an unknown field is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


T = TypeVar("T")


class Page(Message, Generic[T]):
    """One page of a list, newest first unless the endpoint says otherwise; `next_cursor` is None on the last page."""

    items: list[T]
    next_cursor: str | None = None


class ProblemItem(Message):
    """One finding inside a problem document: at `pointer` in the body (RFC 6901), in the `parameter` beside it, or at a place in a text."""

    detail: str
    pointer: str | None = None
    line: int | None = None
    column: int | None = None
    parameter: str | None = None


class Problem(BaseModel):
    """RFC 9457 problem details with a stable `code`; served as `application/problem+json`."""

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    instance: str | None = None
    request_id: str | None = None
    errors: list[ProblemItem] = []


class Health(Message):
    """Answer of `/health`: `healthy` when live and ready, `degraded` when a dependency that the service can do without is
    gone, `unhealthy` when it cannot serve."""

    service: str
    version: str
    status: str
    uptime_seconds: float
    dependencies: dict[str, str] = {}
