"""Verifications, cached obligations, certificates."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant, Json

revision = "formal_verification_0001"
down_revision = None
branch_labels = ("formal_verification",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "verifications",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("policies", sa.Text(), nullable=False),
        sa.Column("constitution", Json, nullable=False),
        sa.Column("policies_hash", sa.String(64), nullable=False),
        sa.Column("constitution_hash", sa.String(64), nullable=False),
        sa.Column("deadline_seconds", sa.Float(), nullable=False),
        sa.Column("requested_by", sa.String(80), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=True),
        sa.Column("certificate_hash", sa.String(64), nullable=True),
        sa.Column("report", Json, nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
    )
    op.create_index("ix_verifications_status", "verifications", ["status"])
    op.create_table(
        "cached_obligations",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("result", Json, nullable=False),
        sa.Column("proved_at", Instant(), nullable=False),
    )
    op.create_table(
        "certificates",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("certificate", Json, nullable=False),
        sa.Column("verification_id", sa.String(40), sa.ForeignKey("verifications.id"), nullable=False),
        sa.Column("issued_at", Instant(), nullable=False),
    )


def downgrade() -> None:
    for table in ("certificates", "cached_obligations", "verifications"):
        op.drop_table(table)
