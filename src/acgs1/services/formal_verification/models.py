"""Tables."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, Float, ForeignKey, LargeBinary, String, Text, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from acgs1.kit.db import Instant, metadata

AnyJson = JSON()
"""Not the platform's `Json`: in PostgreSQL that is `jsonb`, which has no place for U+0000. A counterexample may hold it."""


class Base(DeclarativeBase):
    metadata = metadata()


class VerificationRow(Base):
    __tablename__ = "verifications"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    status: Mapped[str] = mapped_column(String(16), index=True)
    policies: Mapped[str] = mapped_column(Text)
    constitution: Mapped[dict[str, Any]] = mapped_column(AnyJson)
    policies_hash: Mapped[str] = mapped_column(String(64))
    constitution_hash: Mapped[str] = mapped_column(String(64))
    deadline_seconds: Mapped[float] = mapped_column(Float)
    requested_by: Mapped[str] = mapped_column(String(80))
    proofs: Mapped[bool] = mapped_column(Boolean, server_default=false())
    verdict: Mapped[str | None] = mapped_column(String(16))
    certificate_hash: Mapped[str | None] = mapped_column(String(64))
    report: Mapped[dict[str, Any] | None] = mapped_column(AnyJson)
    detail: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)


class CachedObligationRow(Base):
    __tablename__ = "cached_obligations"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    result: Mapped[dict[str, Any]] = mapped_column(AnyJson)
    proved_at: Mapped[datetime] = mapped_column(Instant)


class CertificateRow(Base):
    __tablename__ = "certificates"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    certificate: Mapped[dict[str, Any]] = mapped_column(AnyJson)
    verification_id: Mapped[str] = mapped_column(ForeignKey("verifications.id"))
    issued_at: Mapped[datetime] = mapped_column(Instant)


class ProofTextRow(Base):
    """A script or a proof object, deflated (RFC 1950); `hash` is SHA-256 of the text itself."""

    __tablename__ = "proof_texts"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    kept_at: Mapped[datetime] = mapped_column(Instant)


class AnalysisRow(Base):
    __tablename__ = "analyses"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    input: Mapped[dict[str, Any]] = mapped_column(AnyJson)
    status: Mapped[str] = mapped_column(String(16), index=True)
    requested_by: Mapped[str] = mapped_column(String(80))
    result: Mapped[dict[str, Any] | None] = mapped_column(AnyJson)
    detail: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
