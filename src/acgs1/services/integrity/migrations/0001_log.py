"""Entries, tiles, checkpoints, anchors, appeals."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant

revision = "integrity_0001"
down_revision = None
branch_labels = ("integrity",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column("leaf_index", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.String(80), nullable=False, unique=True),
        sa.Column("leaf_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("type", sa.String(80), nullable=False),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("actor", sa.String(256), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("time", Instant(), nullable=False),
    )
    op.create_index("ix_entries_type", "entries", ["type", "leaf_index"])
    op.create_index("ix_entries_subject", "entries", ["subject", "leaf_index"])
    op.create_index("ix_entries_time", "entries", ["time"])
    op.create_table(
        "tiles",
        sa.Column("level", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("tree_size", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("root_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("signed_at", Instant(), nullable=False),
    )
    op.create_table(
        "anchors",
        sa.Column("tree_size", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("root_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("signature", sa.String(88), nullable=False),
        sa.Column("transaction", sa.LargeBinary(), nullable=False),
        sa.Column("program_id", sa.String(44), nullable=False),
        sa.Column("authority", sa.String(44), nullable=False),
        sa.Column("slot", sa.BigInteger(), nullable=False),
        sa.Column("anchored_at", Instant(), nullable=False),
    )
    op.create_table(
        "appeals",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("subject", sa.String(80), nullable=False),
        sa.Column("grounds", sa.Text(), nullable=False),
        sa.Column("grounds_salt", sa.LargeBinary(32), nullable=False),
        sa.Column("appellant", sa.String(256), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reason_salt", sa.LargeBinary(32), nullable=True),
        sa.Column("ruled_by", sa.String(256), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("ruled_at", Instant(), nullable=True),
    )
    op.create_index("ix_appeals_subject", "appeals", ["subject"])


def downgrade() -> None:
    for table in ("appeals", "anchors", "checkpoints", "tiles", "entries"):
        op.drop_table(table)
