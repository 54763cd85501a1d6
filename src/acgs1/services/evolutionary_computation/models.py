"""Tables."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from acgs1.kit.db import Instant, Json, metadata


class Base(DeclarativeBase):
    metadata = metadata()


class RunRow(Base):
    """A run. `request` is kept in full: it is all that a run is a function of."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    request: Mapped[dict[str, Any]] = mapped_column(Json, deferred=True)
    status: Mapped[str] = mapped_column(String(16), index=True)
    method: Mapped[str | None] = mapped_column(String(16))
    baseline: Mapped[dict[str, Any]] = mapped_column(Json)
    baseline_agreement: Mapped[float] = mapped_column(Float)
    best: Mapped[dict[str, Any] | None] = mapped_column(Json)
    oversight: Mapped[dict[str, Any] | None] = mapped_column(Json)
    refuted_candidates: Mapped[int]
    unproved_candidates: Mapped[int]
    evaluations: Mapped[int]
    generations: Mapped[int]
    outcomes: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    detail: Mapped[str | None] = mapped_column(Text)
    started_by: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[datetime] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
