"""What a service tells about its own speed."""

from datetime import datetime

from pydantic import BaseModel


class SlowQuery(BaseModel):
    """One statement that took longer than the threshold, however often. Without parameters: they may be personal data."""

    pool: str
    """Which of the service's databases: `database`, its own, or `cache_database`, as in `acgs_pool_*`."""
    statement: str
    count: int
    """Executions over the threshold."""
    total_seconds: float
    """Of those executions together."""
    longest_seconds: float
    first_at: datetime
    last_at: datetime
    plan: list[str]
    """How the database executes it, for parameters it does not know: `EXPLAIN QUERY PLAN` on SQLite, `EXPLAIN` on PostgreSQL."""
    plan_missing: str | None = None
    """Why there is no plan (yet)."""


class SlowQueries(BaseModel):
    """The statements that cost most time in all, slowest first, since the process started: of the service's own database and of its
    cache's."""

    service: str
    threshold_seconds: float
    forgotten: int
    """Statements that made room for others."""
    queries: list[SlowQuery]
