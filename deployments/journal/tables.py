"""The journal's tables: SQLAlchemy Core.

JSON columns hold plain values, keys of artifacts and digests; never tensors, never pickle. Times are seconds since the
epoch by the database's clock. Alembic makes and changes the tables (`migrations/`). Knows nothing of what a job is.
"""

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, MetaData, String, Table, UniqueConstraint

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False, default=""),
    Column("idem_key", String),
    Column("body_hash", String, nullable=False, default=""),
    Column("state", String, nullable=False),  # queued | running | paused | succeeded | failed | cancelled
    Column("priority", Integer, nullable=False, default=0),  # higher goes first
    Column("request", JSON, nullable=False),
    Column("planned", JSON(none_as_null=True)),  # job_types.Planned; NULL: written before schema 0003
    Column("parent_id", String),  # for remixes
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("owner", String),
    Column("fence", Integer, nullable=False, default=0),  # grows with every claim; a write with an older one is void
    Column("lease_until", Float),  # seconds since the epoch
    Column("not_before", Float, nullable=False, default=0.0),
    Column("claims", Integer, nullable=False, default=0),
    Column("error", JSON(none_as_null=True)),  # why it failed; of an unfinished job, what it waits for
    Column("result", JSON(none_as_null=True)),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("content_hash", String),  # of everything that the result depends on; NULL: not to be shared
    Column("follows", String),  # an identical job that is not finished: this one waits for its outputs
    Column("deadline", Float),  # seconds since the epoch; a job that is still queued then fails
    UniqueConstraint("tenant", "idem_key"),
    Index("jobs_due", "state", "priority", "created_at"),
    Index("jobs_leases", "state", "lease_until"),
    Index("jobs_tenants", "tenant", "state"),
    Index("jobs_age", "created_at", "id"),
    Index("jobs_content", "tenant", "content_hash"),
)

stage_outputs = Table(
    "stage_outputs",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("status", String, nullable=False),  # client.schema.StageStatus
    Column("progress", Integer, nullable=False, default=0),  # percent
    Column("queued_s", Float),
    Column("run_s", Float),
    Column("bytes_out", Integer),
    Column("origin", String),  # restored | reused | uploaded; NULL: computed
    Column("failures", Integer, nullable=False, default=0),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("idx", Integer, primary_key=True),  # of the stage
    Column("number", Integer, primary_key=True),  # of the call: a window, or a candidate
    Column("tenant", String, nullable=False),
    Column("digest", String, nullable=False),  # of everything that the output depends on
    Column("key", String, nullable=False),  # of the file; several jobs may use one
    Column("record", JSON, nullable=False),  # key, bytes, sha256
    Index("checkpoints_digest", "tenant", "digest"),
    Index("checkpoints_key", "key"),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", String, primary_key=True),
    Column("max_running", Integer),  # NULL: no limit, here and below
    Column("max_queued", Integer),
    Column("per_minute", Integer),
    Column("reuse", Boolean, nullable=False, default=False),  # stages' outputs across the tenant's jobs
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("label", String, nullable=False),
    Column("hash", String, nullable=False),  # argon2
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("url", String, nullable=False),
    Column("due_at", Float),  # NULL: the job has not ended, or nothing more is tried
    Column("attempts", Integer, nullable=False, default=0),
    Column("delivered_at", Float),
    Column("error", String),
    Index("deliveries_due", "due_at"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("job_id", String, nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("data", JSON, nullable=False),
    sqlite_autoincrement=True,
)
