"""Idempotency records say whose they are, whether what was asked has taken effect, and nothing of what was asked."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant

revision = "platform_0002"
down_revision = "platform_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("idempotency", sa.Column("claim", sa.String(40), nullable=False, server_default=""))
    op.add_column("idempotency", sa.Column("alive_at", Instant(), nullable=True))
    op.add_column("idempotency", sa.Column("committed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("idempotency", sa.Column("effect", sa.String(340), nullable=True))
    # Digests without a key can be tried offline against guessed bodies, passwords among them. Without its digest an Idempotency-Key stands
    # for no request any more: a repeat is refused rather than carried out twice.
    op.execute("UPDATE idempotency SET request_digest = ''")


def downgrade() -> None:
    for column in ("effect", "committed", "alive_at", "claim"):
        op.drop_column("idempotency", column)
