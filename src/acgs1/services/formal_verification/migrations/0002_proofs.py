"""Texts kept by their hash: scripts and proof objects."""

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant

revision = "formal_verification_0002"
down_revision = "formal_verification_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("verifications", sa.Column("proofs", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "proof_texts",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("kept_at", Instant(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("proof_texts")
    op.drop_column("verifications", "proofs")
