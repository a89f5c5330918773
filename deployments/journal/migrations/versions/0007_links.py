"""Files that several jobs may name, the secret that signs addresses, and when a job's work began."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("claimed_at", sa.Float))
    op.create_table(
        "uploads",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("filename", sa.String, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
    )
    op.create_index("uploads_list", "uploads", ["tenant", "created_at", "id"])
    op.create_index("uploads_age", "uploads", ["expires_at"])
    op.create_table(
        "link_secrets",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("secret", sa.String, nullable=False),
    )
