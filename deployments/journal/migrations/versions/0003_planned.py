"""What a job will give stands in its row; columns that nobody reads go."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("planned", sa.JSON))
    unread = {"jobs": ["start_stage"], "checkpoints": ["created_at"], "tenants": ["created_at"]}
    for table, columns in {**unread, "stage_outputs": ["attempts", "error", "finished_at"]}.items():
        for column in columns:
            op.drop_column(table, column)
