"""Runs."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant, Json

revision = "evolutionary_computation_0001"
down_revision = None
branch_labels = ("evolutionary_computation",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("request", Json, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("method", sa.String(16), nullable=True),
        sa.Column("baseline", Json, nullable=False),
        sa.Column("baseline_agreement", sa.Float(), nullable=False),
        sa.Column("best", Json, nullable=True),
        sa.Column("refuted_candidates", sa.Integer(), nullable=False),
        sa.Column("unproved_candidates", sa.Integer(), nullable=False),
        sa.Column("evaluations", sa.Integer(), nullable=False),
        sa.Column("generations", sa.Integer(), nullable=False),
        sa.Column("outcomes", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("started_by", sa.String(80), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
    )
    op.create_index("ix_runs_status", "runs", ["status"])


def downgrade() -> None:
    op.drop_table("runs")
