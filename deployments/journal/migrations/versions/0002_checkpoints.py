"""Checkpoints in a table of their own, found by what they hold; tenants, their keys, webhooks to deliver."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("idx", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_index("checkpoints_digest", "checkpoints", ["tenant", "digest"])
    op.create_index("checkpoints_key", "checkpoints", ["key"])
    op.create_table(
        "tenants",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("max_running", sa.Integer),
        sa.Column("max_queued", sa.Integer),
        sa.Column("per_minute", sa.Integer),
        sa.Column("reuse", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("revoked_at", sa.Float),
    )
    op.create_table(
        "deliveries",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("due_at", sa.Float),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("delivered_at", sa.Float),
        sa.Column("error", sa.String),
    )
    op.create_index("deliveries_due", "deliveries", ["due_at"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("content_hash", sa.String))
        jobs.add_column(sa.Column("follows", sa.String))
        jobs.add_column(sa.Column("deadline", sa.Float))
    op.create_index("jobs_content", "jobs", ["tenant", "content_hash"])
    with op.batch_alter_table("stage_outputs") as stages:
        stages.add_column(sa.Column("origin", sa.String))
        stages.drop_column("output")
        stages.drop_column("copied_from")
