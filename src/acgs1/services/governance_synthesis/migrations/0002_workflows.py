"""Workflows that take a policy set from sentences into force."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant, Json

revision = "governance_synthesis_0002"
down_revision = "governance_synthesis_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workflows",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("request", Json, nullable=False),
        sa.Column("status", sa.String(16), nullable=False, index=True),
        sa.Column("step", sa.String(80), nullable=True),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("outcome", sa.String(16), nullable=True),
        sa.Column("problem", Json, nullable=True),
        sa.Column("started_by", sa.String(80), nullable=False),
        sa.Column("starter", Json, nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.Column("owner", sa.String(80), nullable=True),
        sa.Column("lease_until", Instant(), nullable=False),
        sa.Column("steps", Json, nullable=True),
        sa.Column("told", sa.String(16), nullable=True),
        sa.UniqueConstraint("started_by", "key", name="uq_workflows_started_by"),
    )


def downgrade() -> None:
    op.drop_table("workflows")
