"""Acceptances are counted whatever becomes of the jobs; files to erase are remembered; priority is a limit."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("max_priority", sa.Integer))
    op.create_table(
        "acceptances",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("acceptances_tenants", "acceptances", ["tenant", "at"])
    op.create_table(
        "erasures",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
    )
    op.create_index("erasures_due", "erasures", ["due_at"])
    op.create_index("erasures_key", "erasures", ["key"])
    op.create_index("jobs_finished", "jobs", ["finished_at"])
    which = sa.text("result IS NOT NULL")
    op.create_index("jobs_results", "jobs", ["finished_at"], sqlite_where=which, postgresql_where=which)
