"""Counts for objectives, alerts and silences that outlive a restart, orders to breakers, running workflows, load by the step."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant, Json

revision = "monitoring_0002"
down_revision = "monitoring_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slo_count",
        sa.Column("width", sa.Integer(), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True),
        sa.Column("indicator", sa.String(16), primary_key=True),
        sa.Column("service", sa.String(64), primary_key=True),
        sa.Column("good", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "alert",
        sa.Column("id", sa.String(60), primary_key=True),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("runbook", sa.String(200), nullable=False),
        sa.Column("evidence", Json, nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("notified_at", Instant(), nullable=True),
        sa.Column("resolved_at", Instant(), nullable=True),
        sa.Column("escalated", sa.Boolean(), nullable=False),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.Column("acknowledged_at", Instant(), nullable=True),
        sa.Column("acknowledged_by", sa.String(80), nullable=True),
    )
    op.create_index("ix_alert_resolved_at", "alert", ["resolved_at"])
    op.create_table(
        "silence",
        sa.Column("id", sa.String(60), primary_key=True),
        sa.Column("name", sa.String(80), nullable=True),
        sa.Column("target", sa.String(200), nullable=True),
        sa.Column("until", Instant(), nullable=False),
        sa.Column("reason", sa.String(400), nullable=False),
        sa.Column("by", sa.String(80), nullable=False),
    )
    op.create_table(
        "breaker_order",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("id", sa.String(60), nullable=False),
        sa.Column("reason", sa.String(400), nullable=False),
        sa.Column("by", sa.String(80), nullable=False),
        sa.Column("at", Instant(), nullable=False),
    )
    op.create_table(
        "workflow_running",
        sa.Column("workflow_type", sa.String(64), primary_key=True),
        sa.Column("workflow_id", sa.String(80), primary_key=True),
        sa.Column("since", Instant(), nullable=False),
    )
    op.create_table(
        "load_step",
        sa.Column("service", sa.String(64), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("within", Json, nullable=False),
    )
