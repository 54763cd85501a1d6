"""Tables."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from acgs1.kit.db import Instant, metadata


class Base(DeclarativeBase):
    metadata = metadata()


class EntryRow(Base):
    """A leaf. `content` is what was hashed; the other columns repeat parts of it for look-up."""

    __tablename__ = "entries"
    __table_args__ = (
        Index("ix_entries_type", "type", "leaf_index"),
        Index("ix_entries_subject", "subject", "leaf_index"),
        Index("ix_entries_time", "time"),
    )

    # INVARIANT: indices have no gap. Two writers that append at the same place collide on this key, so none can fork the log.
    leaf_index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[str] = mapped_column(String(80), unique=True)
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    content: Mapped[bytes] = mapped_column(LargeBinary)
    type: Mapped[str] = mapped_column(String(80))
    service: Mapped[str] = mapped_column(String(64))
    actor: Mapped[str] = mapped_column(String(256))
    subject: Mapped[str] = mapped_column(String(256))
    time: Mapped[datetime] = mapped_column(Instant)


class TileRow(Base):
    """A tile of C2SP tlog-tiles; a partial one grows in place, so its earlier widths are its prefixes."""

    __tablename__ = "tiles"

    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hashes: Mapped[bytes] = mapped_column(LargeBinary)


class CheckpointRow(Base):
    """A signed head; the one with the greatest size is the log's."""

    __tablename__ = "checkpoints"

    tree_size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    root_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    note: Mapped[str] = mapped_column(Text)
    signed_at: Mapped[datetime] = mapped_column(Instant)


class AnchorRow(Base):
    __tablename__ = "anchors"

    tree_size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    root_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    signature: Mapped[str] = mapped_column(String(88))
    transaction: Mapped[bytes] = mapped_column(LargeBinary)
    program_id: Mapped[str] = mapped_column(String(44))
    authority: Mapped[str] = mapped_column(String(44))
    slot: Mapped[int] = mapped_column(BigInteger)
    anchored_at: Mapped[datetime] = mapped_column(Instant)


class AppealRow(Base):
    """Grounds and reason are personal; the log holds commitments to them, whose salts stand here and can be deleted."""

    __tablename__ = "appeals"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    subject: Mapped[str] = mapped_column(String(80), index=True)
    grounds: Mapped[str] = mapped_column(Text)
    grounds_salt: Mapped[bytes] = mapped_column(LargeBinary(32))
    appellant: Mapped[str] = mapped_column(String(256))
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    reason_salt: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    ruled_by: Mapped[str | None] = mapped_column(String(256))
    created_at: Mapped[datetime] = mapped_column(Instant)
    ruled_at: Mapped[datetime | None] = mapped_column(Instant)
