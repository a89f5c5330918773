"""The most memory that each stage of a job needed."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("stage_outputs", sa.Column("peak_memory_mb", sa.Float))
