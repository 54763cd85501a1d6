"""The oversight of runs."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Json

revision = "evolutionary_computation_0002"
down_revision = "evolutionary_computation_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("oversight", Json, nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "oversight")
