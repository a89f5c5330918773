"""A deadline outlives the claim of its job: it orders the job's calls."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("promised_s", sa.Float))
