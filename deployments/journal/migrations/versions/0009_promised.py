"""A deadline outlives the claim of its job, whose calls it orders; tenants have weights in that order."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("promised_s", sa.Float))
    op.add_column("tenants", sa.Column("weight", sa.Integer))
