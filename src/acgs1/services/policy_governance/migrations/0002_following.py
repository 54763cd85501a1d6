"""Following the ledger: wallets, position, emergencies, texts, transactions to sign; when approvals expire."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

from acgs1.kit.db import Instant, Json

revision = "policy_governance_0002"
down_revision = "policy_governance_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    wallets = op.create_table(
        "wallets",
        sa.Column("wallet", sa.String(44), primary_key=True),
        sa.Column("user_id", sa.String(40), nullable=True),
        sa.Column("own", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("document", Json, nullable=True),
    )
    op.create_index("ix_wallets_user_id", "wallets", ["user_id"])
    members = sa.table("members", sa.column("user_id", sa.String), sa.column("document", Json))
    connection = op.get_bind()
    for row in connection.execute(sa.select(members.c.user_id, members.c.document)).all():
        known = {"weight": row.document["weight"], "index": row.document["index"]}
        values = {"user_id": row.user_id, "own": False, "active": True, "document": known}
        connection.execute(wallets.insert().values(wallet=row.document["wallet"], **values))
    op.drop_table("members")

    # The ballots are read from the ledger again: the position below begins before the first event.
    op.drop_table("ballots")
    op.create_table(
        "ballots",
        sa.Column("proposal_id", sa.String(40), primary_key=True),
        sa.Column("wallet", sa.String(44), primary_key=True),
        sa.Column("document", Json, nullable=False),
    )
    position = op.create_table(
        "ledger_position",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("cursor", sa.String(120), nullable=True),
        sa.Column("constitution_hash", sa.String(64), nullable=True),
        sa.Column("constitution_version", sa.Integer(), nullable=False),
        sa.Column("signature", sa.String(100), nullable=True),
        sa.Column("since", Instant(), nullable=True),
    )
    # There from the beginning, so that it can be locked.
    op.bulk_insert(position, [{"id": 1, "constitution_version": 0}])
    op.create_table(
        "emergencies",
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("document", Json, nullable=False),
    )
    op.create_index("ix_emergencies_status", "emergencies", ["status"])
    op.create_table(
        "constitutions",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("document", Json, nullable=False),
    )
    op.create_table(
        "wallet_transactions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("message", sa.LargeBinary(2000), nullable=False),
        sa.Column("signed", sa.LargeBinary(2000), nullable=True),
        sa.Column("document", Json, nullable=False),
    )
    op.create_index("ix_wallet_transactions_status", "wallet_transactions", ["status"])

    op.add_column("proposals", sa.Column("ledger_index", sa.BigInteger(), nullable=True))
    proposals = sa.table(
        "proposals", sa.column("id", sa.String), sa.column("document", Json), sa.column("ledger_index", sa.BigInteger)
    )
    for row in connection.execute(sa.select(proposals.c.id, proposals.c.document)).all():
        if (index := row.document.get("index")) is not None:
            connection.execute(proposals.update().where(proposals.c.id == row.id).values(ledger_index=index))
    op.create_index("ix_proposals_ledger_index", "proposals", ["ledger_index"], unique=True)

    op.add_column("approvals", sa.Column("expires_at", Instant(), nullable=True))
    approvals = sa.table(
        "approvals", sa.column("id", sa.String), sa.column("document", Json), sa.column("expires_at", Instant())
    )
    for row in connection.execute(sa.select(approvals.c.id, approvals.c.document)).all():
        expires_at = datetime.fromisoformat(row.document["expires_at"])
        connection.execute(approvals.update().where(approvals.c.id == row.id).values(expires_at=expires_at))
    op.create_index("ix_approvals_expires_at", "approvals", ["expires_at"])


def downgrade() -> None:
    raise NotImplementedError("restore a backup: the ballots' history stands on the ledger")
