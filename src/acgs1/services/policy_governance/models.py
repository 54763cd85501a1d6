"""Tables. What is queried has a column; the rest of each object is kept as the document that crosses the boundary."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from acgs1.kit.db import Instant, Json, metadata


class Base(DeclarativeBase):
    metadata = metadata()


class WalletRow(Base):
    """A wallet, the person it belongs to, and its place in the member register; `document` is None before it has one."""

    __tablename__ = "wallets"

    wallet: Mapped[str] = mapped_column(String(44), primary_key=True)
    user_id: Mapped[str | None] = mapped_column(String(40), index=True)
    own: Mapped[bool]
    active: Mapped[bool]
    document: Mapped[dict[str, Any] | None] = mapped_column(Json)


class PositionRow(Base):
    """How far the ledger has been followed: one row."""

    __tablename__ = "ledger_position"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cursor: Mapped[str | None] = mapped_column(String(120))
    constitution_hash: Mapped[str | None] = mapped_column(String(64))
    constitution_version: Mapped[int]
    signature: Mapped[str | None] = mapped_column(String(100))
    since: Mapped[datetime | None] = mapped_column(Instant)


class EmergencyRow(Base):
    __tablename__ = "emergencies"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    status: Mapped[str] = mapped_column(String(16), index=True)
    document: Mapped[dict[str, Any]] = mapped_column(Json)


class ConstitutionRow(Base):
    """Texts that a vote was held on: their guards must be at hand when the ledger brings them into force."""

    __tablename__ = "constitutions"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(Json)


class WalletTransactionRow(Base):
    __tablename__ = "wallet_transactions"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    status: Mapped[str] = mapped_column(String(16), index=True)
    message: Mapped[bytes] = mapped_column(LargeBinary(2000))
    signed: Mapped[bytes | None] = mapped_column(LargeBinary(2000))
    document: Mapped[dict[str, Any]] = mapped_column(Json)


class BundleRow(Base):
    __tablename__ = "bundles"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[str] = mapped_column(String(40), unique=True)
    status: Mapped[str] = mapped_column(String(16), index=True)
    activated_at: Mapped[datetime | None] = mapped_column(Instant)
    document: Mapped[dict[str, Any]] = mapped_column(Json)
    certificate: Mapped[dict[str, Any]] = mapped_column(Json)


class ProposalRow(Base):
    __tablename__ = "proposals"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    status: Mapped[str] = mapped_column(String(16), index=True)
    ledger_index: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    document: Mapped[dict[str, Any]] = mapped_column(Json)


class BallotRow(Base):
    __tablename__ = "ballots"

    proposal_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    wallet: Mapped[str] = mapped_column(String(44), primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(Json)


class DecisionRow(Base):
    __tablename__ = "decisions"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    record: Mapped[dict[str, Any]] = mapped_column(Json)
    request: Mapped[dict[str, Any]] = mapped_column(Json)
    salt: Mapped[bytes] = mapped_column(LargeBinary(32))
    approvable: Mapped[bool]
    digest: Mapped[str] = mapped_column(String(64))


class ApprovalRow(Base):
    __tablename__ = "approvals"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    status: Mapped[str] = mapped_column(String(16), index=True)
    expires_at: Mapped[datetime | None] = mapped_column(Instant, index=True)
    document: Mapped[dict[str, Any]] = mapped_column(Json)
