"""How long a job will take: its place in the queue, its end, and whether it can keep a deadline.

The estimate is that of a line of machines: a job needs its own seconds at every stage, and before that the stage with
the most work per replica must get through what goes first:

    eta = max over stages (seconds of work ahead / replicas) + sum over stages (own seconds / replicas it can use)

A stage's seconds are the median of what recent jobs of this preset computed there. It takes every job to be like
those, and knows nothing of limits of tenants, of failures, or of replicas to come. Without a finished job there is no
estimate, and every deadline is accepted. Pure: frozen values and judgements about them.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from deployments.errors import InvalidRequestError, RateLimitError
from deployments.jobs.values import Job
from stages.model.sampling.windows import plan_windows
from stages.presets import get_preset, plan
from stages.types import STAGE_NAMES, StageName

MAX_PRIORITY = 10

Rank = tuple[int, float, str]
"""Sorts jobs as they are claimed: higher priority, then age."""
Left = Mapping[StageName, float]
"""Of a job: the share of each stage that is still to be computed, 0 to 1; a stage that it has not is missing."""


_WHOLE: Left = dict.fromkeys(STAGE_NAMES, 1.0)


def rank_of(priority: int, created_at: float, job_id: str) -> Rank:
    return (-priority, created_at, job_id)


@dataclass(frozen=True, order=True)
class Waiting:
    """A queued job."""

    rank: Rank
    tenant: str = field(compare=False, default="")


@dataclass(frozen=True)
class Underway:
    """A running job."""

    rank: Rank
    left: Left


@dataclass(frozen=True)
class Standing:
    """What a client is told of an unfinished job; None where nothing is known."""

    queue_position: int | None = None
    eta_s: float | None = None


@dataclass(frozen=True)
class Outlook:
    """Every unfinished job, and what the stages can do."""

    waiting: Sequence[Waiting] = ()  # as they will be claimed
    running: Sequence[Underway] = ()
    seconds: Mapping[StageName, float] = field(default_factory=dict)  # of computing, one job; empty: not measured
    replicas: Mapping[StageName, int] = field(default_factory=dict)
    calls: Mapping[StageName, int] = field(default_factory=dict)  # of one job, at the same time; 1 when left out

    def standing(self, job: Job) -> Standing:
        """Of a job as it has just been read."""
        rank = rank_of(job.priority, job.created_at, job.id)
        progress = {stage.name: stage.progress for stage in job.stages}
        left = {name: 1 - progress[name] / 100 for name in STAGE_NAMES if name in progress}
        if job.state == "queued":
            position = bisect_left(self.waiting, Waiting(rank))
            return Standing(position, _rounded(self._end_s(self._ahead(position), left)))
        if job.state != "running":
            return Standing()
        ahead = [other.left for other in self.running if other.rank < rank]
        return Standing(None, _rounded(self._end_s(ahead, left)))

    def new_eta_s(self, priority: int) -> float | None:
        """Seconds to the end of a job that is written now."""
        position = bisect_left(self.waiting, Waiting(rank_of(priority, math.inf, "")))
        return self._end_s(self._ahead(position), _WHOLE)

    def alone_s(self) -> float | None:
        """Seconds that a job takes when nothing goes before it."""
        return self._end_s([], _WHOLE)

    def tenant_wait_s(self, tenant: str) -> float | None:
        """Seconds until the first waiting job of a tenant starts."""
        for position, job in enumerate(self.waiting):
            if job.tenant == tenant:
                return self._wait_s(self._ahead(position), STAGE_NAMES)
        return None

    def plus(self, job: Job) -> "Outlook":
        """With one more queued job."""
        new = Waiting(rank_of(job.priority, job.created_at, job.id), job.tenant)
        at = bisect_left(self.waiting, new)
        if self.waiting[at : at + 1] and self.waiting[at] == new:
            return self
        return replace(self, waiting=(*self.waiting[:at], new, *self.waiting[at:]))

    def _ahead(self, position: int) -> list[Left]:
        return [job.left for job in self.running] + [dict.fromkeys(STAGE_NAMES, float(position))]

    def _end_s(self, ahead: Sequence[Left], left: Left) -> float | None:
        if not all(name in self.seconds for name in STAGE_NAMES):
            return None
        still = [name for name, share in left.items() if share > 0]
        own_s = sum(left[name] * self.seconds[name] / min(self._count(name), self.calls.get(name, 1)) for name in still)
        return own_s + (self._wait_s(ahead, still) or 0.0)

    def _wait_s(self, ahead: Sequence[Left], at: Sequence[StageName]) -> float | None:
        """Seconds until the busiest of some stages is through with the jobs ahead."""
        if not all(name in self.seconds for name in STAGE_NAMES):
            return None
        backlog = (sum(left.get(name, 0.0) for left in ahead) * self.seconds[name] / self._count(name) for name in at)
        return max(backlog, default=0.0)

    def _count(self, name: StageName) -> int:
        return max(1, self.replicas.get(name, 1))


def check_deadline(outlook: Outlook, priority: int, deadline_s: float | None) -> None:
    """Refuse a job that cannot be done so soon.

    Raises:
        RateLimitError: code deadline_infeasible, with the estimate.
    """
    eta_s = outlook.new_eta_s(priority)
    if deadline_s is None or eta_s is None or eta_s <= deadline_s:
        return
    alone_s = outlook.alone_s() or 0.0
    hint = "ask for more" if alone_s > deadline_s else "ask for more or a higher priority, or let the queue drain"
    raise RateLimitError(
        f"deadline_s is {deadline_s:g} and this video would be done in about {eta_s:.1f} s, {alone_s:.1f} s of which "
        f"are its own; {hint}",
        eta_s - deadline_s,
        code="deadline_infeasible",
        param="deadline_s",
    )


def judge_urgency(priority: int, deadline_s: float | None) -> None:
    """Refuse what no job can have.

    Raises:
        InvalidRequestError: one sentence.
    """
    if abs(priority) > MAX_PRIORITY:
        said = f"priority is {priority}; it must be between -{MAX_PRIORITY} and {MAX_PRIORITY}."
        raise InvalidRequestError(said, param="priority", code="invalid_field")
    if deadline_s is not None and not 0 < deadline_s < math.inf:
        said = f"deadline_s is {deadline_s}; it must be a number of seconds above 0."
        raise InvalidRequestError(said, param="deadline_s", code="invalid_field")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def calls_of(preset: str) -> dict[StageName, int]:
    """Calls of one job that run at the same time: V2V and VFI are called once a window."""
    settings = get_preset(preset)
    steps = plan(settings, "a fox", seed=0)
    windows = len(plan_windows(steps.i2v.frames, steps.v2v.windows))
    return {"v2v": windows, "vfi": windows}
