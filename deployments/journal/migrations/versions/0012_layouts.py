"""How a rater saw a pair; and a secret of raters' links alone, at first the one that they were signed by."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("study_votes", sa.Column("layout", sa.String))
    op.create_table(
        "study_secrets",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("secret", sa.String, nullable=False),
    )
    op.execute("INSERT INTO study_secrets (id, secret) SELECT id, secret FROM link_secrets")
