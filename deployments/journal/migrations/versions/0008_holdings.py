"""Bytes of each tenant's files are counted and limited."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("max_bytes", sa.BigInteger))
    op.create_table(
        "holdings",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("holdings_tenants", "holdings", ["tenant"])
    kept = sa.Table("checkpoints", sa.MetaData(), autoload_with=op.get_bind())
    said = (kept.c.record[name].as_string() for name in ("bytes", "size_bytes"))
    size = sa.func.max(sa.cast(sa.func.coalesce(*said, "0"), sa.BigInteger)).label("size")
    files = sa.select(kept.c.tenant, size).group_by(kept.c.tenant, kept.c.key).subquery()
    held = sa.select(files.c.tenant, sa.func.sum(files.c.size)).group_by(files.c.tenant)
    holdings = sa.table("holdings", sa.column("tenant", sa.String), sa.column("bytes", sa.BigInteger))
    op.execute(holdings.insert().from_select(["tenant", "bytes"], held))
