"""Checks, their roll-ups, maintenance windows, workflow runs."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant

revision = "monitoring_0001"
down_revision = None
branch_labels = ("monitoring",)
depends_on = None

_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "health_check",
        sa.Column("id", _id, primary_key=True, autoincrement=True),
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("good", sa.Boolean(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("detail", sa.String(400), nullable=False),
    )
    op.create_index("ix_health_check_target_at", "health_check", ["target", "at"])
    op.create_table(
        "health_rollup",
        sa.Column("target", sa.String(64), primary_key=True),
        sa.Column("width", sa.Integer(), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True),
        sa.Column("checks", sa.Integer(), nullable=False),
        sa.Column("good", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("slowest", sa.Float(53), nullable=False),
    )
    op.create_table(
        "maintenance",
        sa.Column("id", sa.String(60), primary_key=True),
        sa.Column("target", sa.String(64), nullable=True),
        sa.Column("starts_at", Instant(), nullable=False),
        sa.Column("ends_at", Instant(), nullable=False),
        sa.Column("reason", sa.String(400), nullable=False),
        sa.Column("made_by", sa.String(80), nullable=False),
    )
    op.create_table(
        "workflow_execution",
        sa.Column("id", _id, primary_key=True, autoincrement=True),
        sa.Column("workflow_type", sa.String(64), nullable=False),
        sa.Column("finished_at", Instant(), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("compliance_score", sa.Float(53), nullable=True),
    )
    op.create_index("ix_workflow_execution_finished_at", "workflow_execution", ["finished_at"])
