"""Drafts."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant, Json

revision = "governance_synthesis_0001"
down_revision = None
branch_labels = ("governance_synthesis",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drafts",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("constitution_hash", sa.String(64), nullable=False),
        sa.Column("constitution", Json, nullable=False),
        sa.Column("policies", sa.Text(), nullable=False),
        sa.Column("policies_hash", sa.String(64), nullable=False),
        sa.Column("author", sa.String(80), nullable=False),
        sa.Column("strategy", sa.String(16), nullable=False),
        sa.Column("parent_id", sa.String(40), sa.ForeignKey("drafts.id"), nullable=True),
        sa.Column("account", Json, nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("drafts")
