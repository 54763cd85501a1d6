"""Constitutions."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant, Json

revision = "constitutional_ai_0001"
down_revision = None
branch_labels = ("constitutional_ai",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "constitutions",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("sequence", sa.String(40), nullable=False, unique=True),
        sa.Column("document", Json, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("in_force_at", Instant(), nullable=True),
        sa.Column("ledger_signature", sa.String(100), nullable=True),
        sa.Column("refusal", sa.Text(), nullable=True),
    )
    op.create_index("ix_constitutions_status", "constitutions", ["status"])


def downgrade() -> None:
    op.drop_table("constitutions")
