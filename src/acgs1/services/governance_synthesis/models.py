"""Tables."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from acgs1.kit.db import Instant, Json, metadata


class Base(DeclarativeBase):
    metadata = metadata()


class DraftRow(Base):
    """A draft, written once. `constitution` is kept in full: a repair needs its invariants."""

    __tablename__ = "drafts"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    constitution_hash: Mapped[str] = mapped_column(String(64))
    constitution: Mapped[dict[str, Any]] = mapped_column(Json, deferred=True)
    policies: Mapped[str] = mapped_column(Text, deferred=True)
    policies_hash: Mapped[str] = mapped_column(String(64))
    author: Mapped[str] = mapped_column(String(80))
    strategy: Mapped[str] = mapped_column(String(16))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("drafts.id"))
    account: Mapped[dict[str, Any]] = mapped_column(Json, deferred=True)
    created_by: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[datetime] = mapped_column(Instant)


class WorkflowRow(Base):
    """A workflow: what it is for and where it stands. The engine holds the results of its steps; `steps` keeps them once it has completed.

    `owner` carries it out as long as it renews `lease_until`; after that anybody may take over. `told` is what the monitor knows of it.
    """

    __tablename__ = "workflows"
    __table_args__ = (UniqueConstraint("started_by", "key"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(128))
    name: Mapped[str] = mapped_column(String(200))
    request: Mapped[dict[str, Any]] = mapped_column(Json)
    status: Mapped[str] = mapped_column(String(16))
    step: Mapped[str | None] = mapped_column(String(80))
    waiting_for: Mapped[str | None] = mapped_column(Text)
    outcome: Mapped[str | None] = mapped_column(String(16))
    problem: Mapped[dict[str, Any] | None] = mapped_column(Json)
    started_by: Mapped[str] = mapped_column(String(80))
    starter: Mapped[dict[str, Any]] = mapped_column(Json)
    started_at: Mapped[datetime] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
    owner: Mapped[str | None] = mapped_column(String(80))
    lease_until: Mapped[datetime] = mapped_column(Instant)
    steps: Mapped[list[dict[str, Any]] | None] = mapped_column(Json, deferred=True)
    told: Mapped[str | None] = mapped_column(String(16))
