"""Tables."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text
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
