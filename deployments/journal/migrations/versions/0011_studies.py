"""Human studies: their plans, raters' links and votes."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("idem_key", sa.String),
        sa.Column("body_hash", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("error", sa.String),
        sa.Column("lease_until", sa.Float),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("instructions", sa.String, nullable=False),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("media", sa.JSON),
        sa.Column("note", sa.String),
        sa.UniqueConstraint("tenant", "idem_key"),
    )
    op.create_index("studies_list", "studies", ["tenant", "created_at", "id"])
    op.create_table(
        "study_links",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("revoked_at", sa.Float),
    )
    op.create_index("study_links_study", "study_links", ["study_id", "slot"])
    op.create_table(
        "study_votes",
        sa.Column("link_id", sa.String, primary_key=True),
        sa.Column("trial", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.String, nullable=False),
        sa.Column("choices", sa.JSON, nullable=False),
        sa.Column("watched_s", sa.Float, nullable=False),
        sa.Column("replays", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("study_votes_study", "study_votes", ["study_id"])
