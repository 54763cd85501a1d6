"""Members, bundles, proposals, ballots, decisions, approvals."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant, Json

revision = "policy_governance_0001"
down_revision = None
branch_labels = ("policy_governance",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "members",
        sa.Column("user_id", sa.String(40), primary_key=True),
        sa.Column("document", Json, nullable=False),
    )
    op.create_table(
        "bundles",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("sequence", sa.String(40), nullable=False, unique=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("activated_at", Instant(), nullable=True),
        sa.Column("document", Json, nullable=False),
        sa.Column("certificate", Json, nullable=False),
    )
    op.create_table(
        "proposals",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("document", Json, nullable=False),
    )
    op.create_table(
        "ballots",
        sa.Column("proposal_id", sa.String(40), primary_key=True),
        sa.Column("user_id", sa.String(40), primary_key=True),
        sa.Column("document", Json, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("record", Json, nullable=False),
        sa.Column("request", Json, nullable=False),
        sa.Column("salt", sa.LargeBinary(32), nullable=False),
        sa.Column("approvable", sa.Boolean(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("document", Json, nullable=False),
    )
    for table in ("bundles", "proposals", "approvals"):
        op.create_index(f"ix_{table}_status", table, ["status"])


def downgrade() -> None:
    for table in ("approvals", "decisions", "ballots", "proposals", "bundles", "members"):
        op.drop_table(table)
