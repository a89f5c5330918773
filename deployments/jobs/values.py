"""The values of the job journal: what was asked, how a job stands, and the right to work on it.

Plain and frozen; they pass between the ingress, the pipeline and the journal. Knows nothing of databases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from client.schema import JobError, StageState
from client.single import SingleStages
from stages.settings import Given
from stages.types import StageName

State = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
UNFINISHED: tuple[State, ...] = ("queued", "running", "paused")
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
# Rough shares of a job's time, for one bar over the whole; measured on neither preset in particular.
_SHARES: dict[str, float] = {"t2i": 0.15, "i2v": 0.3, "v2v": 0.4, "vfi": 0.15}
SOFT_S = 600.0  # a job without `deadline_s` is claimed as if it had this one
NOBODY = ""  # the tenant of whoever uses a server that has no API keys


class Limits(BaseModel):
    """What one tenant may do; None: as much as the server can."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_running: int | None = Field(default=None, ge=1, description="Jobs that run at once; the rest waits.")
    max_queued: int | None = Field(
        default=None, ge=1, description="Jobs that wait or are paused; one more is answered with 429."
    )
    per_minute: int | None = Field(default=None, ge=1, description="Jobs accepted in 60 s; one more: 429.")
    max_priority: int | None = Field(default=None, ge=-10, le=10, description="Of a job; a higher one: 403.")
    weight: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Its share of each stage beside other tenants of one class, like 2; else 1.",
    )
    max_bytes: int | None = Field(
        default=None, ge=1, description="Of videos, kept outputs and uploads; a job more: 403 until some are deleted."
    )
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
    sound: bool = False
    note: str = ""  # what is shown otherwise than the file has it
    size_bytes: int = 0

    @property
    def given(self) -> Given:
        """What the stages see of it."""
        return Given(self.kind, self.enters, (self.width, self.height), self.frames, self.fps)


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
    stages: SingleStages | None = None
    factor: int | None = None
    until: StageName = "vfi"
    pause_after: StageName | None = None
    candidates: int = 1
    candidate: int = 0  # of T2I's pictures, the one to go on from
    source: Source | None = None
    enter: StageName = "t2i"  # the first stage that runs; what it needs is kept, or made of `source`
    extends: Source | None = None  # the finished video that this one goes on from; `source` is its last frame
    reuse: bool = False


class Planned(BaseModel):
    """What a job will give, as its plan said when it was accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: int
    fps: float | None  # None: a picture
    size: tuple[int, int]  # (width, height) in pixels
    windows: int  # calls of V2V and of VFI
    note: str = ""  # what the plan did otherwise than it was asked

    def noted(self, more: str) -> "Planned":
        """The same, with more to say."""
        return self.model_copy(update={"note": f"{self.note} {more}".strip()}) if more else self


Outputs = Mapping[StageName, Mapping[int, dict[str, Any]]]
"""Checkpoints by stage and call: key, bytes, sha256, digest, run_s. Of a state instead of digest step and total."""


@dataclass(frozen=True)
class NewJob:
    """A job that is to be written."""

    request: JobRequest
    tenant: str = NOBODY
    idem_key: str | None = None  # with the same `body` it makes one job, with another one it is refused
    body: str = ""  # all that the client's request says
    priority: int = 0
    deadline_s: float | None = None  # from now; a job that is still queued then fails
    parent_id: str | None = None  # the job that this one is made from
    needs: Mapping[StageName, Sequence[int]] = field(default_factory=dict)
    """Numbers of the parent's outputs that this job begins from; one of T2I's becomes number 0."""
    webhook_url: str | None = None
    upload_id: str | None = None  # of `POST /v1/files`, whose bytes `request.source` names
    note: str = ""  # how the client's request was read, where that needs saying


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
    planned: Planned
    outputs: Outputs = field(default_factory=dict)
    states: Outputs = field(default_factory=dict)  # of calls that have stopped between two steps, or may die
    tenant: str = NOBODY
    parent_id: str | None = None
    priority: int = 0
    deadline_s: float | None = None  # from its acceptance, as it was promised
    failures: Mapping[StageName, int] = field(default_factory=dict)  # of calls, over every claim
    waits_for: str | None = None  # what the platform lacks, or that an urgent job goes first; of an unfinished one
    claimed_at: float | None = None  # when its work began, the last time

    @property
    def ran_s(self) -> float | None:
        """Seconds from its last claim to its end."""
        return None if self.claimed_at is None or self.finished_at is None else self.finished_at - self.claimed_at


@dataclass(frozen=True)
class Claim:
    """The right to work on a job, until the lease lapses or a higher fence exists."""

    job_id: str
    owner: str
    fence: int
    waited_s: float = 0.0  # from the job's acceptance to this claim
    weight: float = 1.0  # of its tenant


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
    waits_for: str | None = None  # what the platform lacks now, in a sentence
    paused_for: str | None = None  # that it has stopped for an urgent job, in a sentence


@dataclass(frozen=True)
class Beat:
    """What a heartbeat brought back."""

    lost: frozenset[str] = field(default_factory=frozenset)
    cancelled: frozenset[str] = field(default_factory=frozenset)


def overall(stages: tuple[StageState, ...]) -> int:
    """One percentage for the whole job: of the stages that it runs."""
    shares = {stage.name: _SHARES.get(stage.name, 0.0) for stage in stages if stage.status != "skipped"}
    done = sum(shares.get(stage.name, 0.0) * stage.progress for stage in stages)
    return int(done / (sum(shares.values()) or 1.0) + 1e-6)
