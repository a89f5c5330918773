"""Every query of the hot path finds its rows by an index; jobs that ended are counted as they end."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("preset", sa.String, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("expired", sa.Boolean, nullable=False, server_default=sa.false()))
    jobs = sa.Table("jobs", sa.MetaData(), autoload_with=op.get_bind())
    kept = sa.Table("checkpoints", sa.MetaData(), autoload_with=op.get_bind())
    op.execute(jobs.update().values(preset=jobs.c.request["model"].as_string()))
    holds = jobs.c.id.in_(sa.select(kept.c.job_id).where(kept.c.idx != 4))  # more than its result
    op.execute(jobs.update().where(jobs.c.finished_at.is_not(None), ~holds).values(expired=True))
    op.create_index("jobs_list", "jobs", ["tenant", "created_at", "id"])
    op.create_index("jobs_states", "jobs", ["state", "created_at"])
    for name, of, which in (
        ("jobs_measured", ["preset", "created_at"], sa.text("state = 'succeeded'")),
        ("jobs_ended", ["finished_at"], sa.text("expired = false")),
    ):
        op.create_index(name, "jobs", of, sqlite_where=which, postgresql_where=which)
    op.create_table(
        "tallies",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
    )
    tallies = sa.table("tallies", sa.column("state", sa.String), sa.column("count", sa.Integer))
    final = jobs.c.state.in_(("succeeded", "failed", "cancelled"))
    ended = sa.select(jobs.c.state, sa.func.count()).where(final).group_by(jobs.c.state)
    op.execute(tallies.insert().from_select(["state", "count"], ended))
    op.create_table(
        "forgotten",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("forgotten_at", sa.Float, nullable=False),
    )
    op.create_index("forgotten_age", "forgotten", ["forgotten_at"])
