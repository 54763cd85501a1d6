"""What each sink is still to be told."""

import sqlalchemy as sa
from alembic import op

revision = "monitoring_0003"
down_revision = "monitoring_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alert_delivery",
        sa.Column("sink", sa.String(80), primary_key=True),
        sa.Column("alert_id", sa.String(60), primary_key=True),
    )
