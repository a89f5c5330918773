"""The values of the job journal: what was asked, how a job stands, and the right to work on it.

Plain and frozen; they pass between the ingress, the pipeline and the journal. Knows nothing of databases.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from client.schema import JobError, StageState
from stages.types import StageName

State = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
NOBODY = ""  # the tenant of whoever uses a server that has no API keys


class Limits(BaseModel):
    """What one tenant may do; None: as much as the server can."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_running: int | None = Field(default=None, ge=1, description="Jobs that run at once; the rest waits.")
    max_queued: int | None = Field(default=None, ge=1, description="Jobs that wait; one more is answered with 429.")
    per_minute: int | None = Field(default=None, ge=1, description="Jobs accepted in 60 s; one more: 429.")
    reuse: bool = Field(default=False, description="Outputs of identical stage calls of the tenant's earlier jobs.")


class Source(BaseModel):
    """A file that a job begins from instead of its first stages; its facts were read before it was accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: str
    kind: Literal["picture", "video"]
    enters: StageName  # the stage that takes what is made of it
    width: int
    height: int
    frames: int = 1
    fps: float = 0.0


class JobRequest(BaseModel):
    """A request with every default resolved: what the pipeline works from, also after a restart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    model: str
    negative_prompt: str = ""
    size: str
    seconds: str
    seed: int
    steps: int | None = None
    guidance: float | None = None
    factor: int | None = None
    until: StageName = "vfi"
    pause_after: StageName | None = None
    candidates: int = 1
    candidate: int = 0  # of T2I's pictures, the one to go on from
    source: Source | None = None
    enter: StageName = "t2i"  # the first stage that runs; what it needs is kept, or made of `source`
    extends: Source | None = None  # the finished video that this one goes on from; `source` is its last frame
    reuse: bool = False


Outputs = Mapping[StageName, Mapping[int, dict[str, Any]]]
"""Checkpoints by stage and call: key, bytes, sha256, digest, run_s."""


@dataclass(frozen=True)
class Job:
    """One job as it stands."""

    id: str
    state: State
    request: JobRequest
    created_at: float  # seconds since the epoch
    finished_at: float | None
    error: JobError | None
    result: dict[str, Any] | None
    cancel_requested: bool
    claims: int
    stages: tuple[StageState, ...]
    outputs: Outputs = field(default_factory=dict)
    tenant: str = NOBODY
    parent_id: str | None = None
    priority: int = 0
    failures: Mapping[StageName, int] = field(default_factory=dict)  # of calls, over every claim


@dataclass(frozen=True)
class Claim:
    """The right to work on a job, until the lease lapses or a higher fence exists."""

    job_id: str
    owner: str
    fence: int


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; `seq` grows strictly."""

    seq: int
    job_id: str
    at: float
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Update:
    """What an executor has to say about one job since its last word."""

    claim: Claim
    stages: tuple[StageState, ...] = ()
    events: tuple[tuple[str, dict[str, Any]], ...] = ()
    failures: Mapping[StageName, int] = field(default_factory=dict)  # new ones


@dataclass(frozen=True)
class Beat:
    """What a heartbeat brought back."""

    lost: frozenset[str] = field(default_factory=frozenset)
    cancelled: frozenset[str] = field(default_factory=frozenset)
