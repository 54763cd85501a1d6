"""Any character in JSON: PostgreSQL's `jsonb` refuses U+0000, which a solver's counterexample may hold; `json` keeps it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "formal_verification_0003"
down_revision = "formal_verification_0002"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("verifications", "constitution"),
    ("verifications", "report"),
    ("cached_obligations", "result"),
    ("certificates", "certificate"),
)


def upgrade() -> None:
    _change(JSONB(), sa.JSON(), "json")


def downgrade() -> None:
    _change(sa.JSON(), JSONB(), "jsonb")


def _change(old: sa.types.TypeEngine[object], new: sa.types.TypeEngine[object], name: str) -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, column in _COLUMNS:
        op.alter_column(table, column, existing_type=old, type_=new, postgresql_using=f"{column}::{name}")
