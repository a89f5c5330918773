"""The journal's tables: SQLAlchemy Core.

JSON columns hold plain values, keys of artifacts and digests; never tensors, never pickle. Times are seconds since the
epoch by the database's clock. Alembic makes and changes the tables (`migrations/`). Knows nothing of what a job is.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

metadata = MetaData()

# Of partial indexes, as queries must say it.
SUCCEEDED, HOLDS, HAS_RESULT = text("state = 'succeeded'"), text("expired = false"), text("result IS NOT NULL")

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
    Column("preset", String, nullable=False, default=""),  # the request's model
    Column("planned", JSON(none_as_null=True)),  # job_types.Planned; NULL: written before schema 0003
    Column("parent_id", String),  # for remixes
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("owner", String),
    Column("fence", Integer, nullable=False, default=0),  # grows with every claim; a write with an older one is void
    Column("lease_until", Float),  # seconds since the epoch; of a paused job: since when it waits
    Column("not_before", Float, nullable=False, default=0.0),
    Column("claims", Integer, nullable=False, default=0),
    Column("error", JSON(none_as_null=True)),  # why it failed; of an unfinished job, what it waits for
    Column("result", JSON(none_as_null=True)),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("content_hash", String),  # of everything that the result depends on; NULL: not to be shared
    Column("follows", String),  # an identical job that is not finished: this one waits for its outputs
    Column("deadline", Float),  # seconds since the epoch; a job that is still queued then fails
    Column("promised_s", Float),  # `deadline_s` as it was accepted, from created_at; orders the job's calls to its end
    Column("expired", Boolean, nullable=False, default=False),  # its checkpoints were forgotten
    Column("claimed_at", Float),  # the last time
    UniqueConstraint("tenant", "idem_key"),
    Index("jobs_due", "state", "priority", "created_at"),
    Index("jobs_leases", "state", "lease_until"),
    Index("jobs_tenants", "tenant", "state"),
    Index("jobs_age", "created_at", "id"),
    Index("jobs_content", "tenant", "content_hash"),
    Index("jobs_list", "tenant", "created_at", "id"),
    Index("jobs_states", "state", "created_at"),
    Index("jobs_measured", "preset", "created_at", sqlite_where=SUCCEEDED, postgresql_where=SUCCEEDED),
    Index("jobs_finished", "finished_at"),
    Index("jobs_results", "finished_at", sqlite_where=HAS_RESULT, postgresql_where=HAS_RESULT),
    Index("jobs_ended", "finished_at", sqlite_where=HOLDS, postgresql_where=HOLDS),
)

tallies = Table(
    "tallies",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("state", String, nullable=False),  # a final one
    Column("count", Integer, nullable=False),  # jobs that came to it, less those that were forgotten; the sum counts
)

holdings = Table(
    "holdings",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String, nullable=False),
    Column("bytes", BigInteger, nullable=False),  # of a file that came, less of one that went; the sum counts
    Index("holdings_tenants", "tenant"),
)

forgotten = Table(
    "forgotten",
    metadata,
    Column("id", String, primary_key=True),  # of a job or a file that went of late, so that a list can go on behind it
    Column("tenant", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("forgotten_at", Float, nullable=False),
    Index("forgotten_age", "forgotten_at"),
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
    Column("peak_memory_mb", Float),
    Column("origin", String),  # restored | reused | uploaded; NULL: computed
    Column("failures", Integer, nullable=False, default=0),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("idx", Integer, primary_key=True),  # of the stage, or what `deployments.journal.outputs` says
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
    Column("max_priority", Integer),
    Column("weight", Integer),  # NULL: 1
    Column("max_bytes", BigInteger),
    Column("reuse", Boolean, nullable=False, default=False),  # stages' outputs across the tenant's jobs
)

acceptances = Table(
    "acceptances",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String, nullable=False),  # one that has `per_minute`
    Column("at", Float, nullable=False),  # within the last minute, of jobs that may be gone by now
    Index("acceptances_tenants", "tenant", "at"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("key", String, nullable=False),  # of a file that no row names any more, and that is still to be erased
    Column("due_at", Float, nullable=False),
    Index("erasures_due", "due_at"),
    Index("erasures_key", "key"),
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

uploads = Table(
    "uploads",
    metadata,
    Column("id", String, primary_key=True),  # as `job_id` of the row in `checkpoints` that names its file
    Column("tenant", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),  # NULL: never
    Column("bytes", Integer, nullable=False),
    Column("filename", String, nullable=False),
    Column("purpose", String, nullable=False),
    Index("uploads_list", "tenant", "created_at", "id"),
    Index("uploads_age", "expires_at"),
)

link_secrets = Table(
    "link_secrets",
    metadata,
    Column("id", Integer, primary_key=True),  # 1
    Column("secret", String, nullable=False),  # signs the addresses that need no key
    info={"kept": False},  # a restored journal makes another one, and old addresses end
)

studies = Table(
    "studies",
    metadata,
    Column("id", String, primary_key=True),  # as `job_id` of the rows in `checkpoints` that name its videos
    Column("tenant", String, nullable=False),
    Column("idem_key", String),
    Column("body_hash", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("state", String, nullable=False),  # preparing | ready | failed
    Column("error", String),
    Column("lease_until", Float),  # who prepares its videos has it until then
    Column("title", String, nullable=False),
    Column("instructions", String, nullable=False),
    Column("plan", JSON, nullable=False),  # deployments.studies.plan.Plan; never changes
    Column("digest", String, nullable=False),
    Column("media", JSON(none_as_null=True)),  # client.schema_studies.Media
    Column("note", String),
    UniqueConstraint("tenant", "idem_key"),
    Index("studies_list", "tenant", "created_at", "id"),
)

study_links = Table(
    "study_links",
    metadata,
    Column("id", String, primary_key=True),
    Column("study_id", String, nullable=False),
    Column("slot", Integer, nullable=False),  # of the plan's raters
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("revoked_at", Float),
    Index("study_links_study", "study_id", "slot"),
)

study_votes = Table(
    "study_votes",
    metadata,
    Column("link_id", String, primary_key=True),
    Column("trial", Integer, primary_key=True),  # of the rater's, from 0
    Column("study_id", String, nullable=False),
    Column("choices", JSON, nullable=False),  # left | same | right, by criterion
    Column("watched_s", Float, nullable=False),
    Column("replays", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("layout", String),  # beside | stacked
    Index("study_votes_study", "study_id"),
)

study_secrets = Table(
    "study_secrets",
    metadata,
    Column("id", Integer, primary_key=True),  # 1
    Column("secret", String, nullable=False),  # signs raters' links, which hold in a restored journal
)

clusters = Table(
    "clusters",
    metadata,
    Column("id", String, primary_key=True),  # Ray's
    Column("since", Float, nullable=False),  # when it was seen first
    Column("seen_at", Float, nullable=False),
    Column("ready", Boolean, nullable=False),
    info={"kept": False},  # not in a backup
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
