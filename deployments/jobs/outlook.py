"""How long a job will take: its place in the queue, its end, and whether it can keep a deadline.

The estimate is that of a line of machines: a job needs its own seconds at every stage, and before that the device with
the most work per replica, which stages may share, must get through what goes first:

    eta = max over devices (seconds of work ahead / replicas) + own seconds, on the replicas that it can use

V2V and VFI are called once a window, and VFI has one window while V2V has the next. What a stage needs for a job
follows from what that asks and from what is kept of it (`deployments.jobs.work`); of one that pauses all this goes as
far as the pause. It knows nothing of limits of tenants, of failures, or of replicas to come. Where a stage has done
nothing yet there is no estimate, and every deadline is accepted. Pure: frozen values and judgements about them.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate

from client.schema import AskedTier, ServiceTier
from deployments.errors import InvalidRequestError, RateLimitError
from deployments.jobs.values import SOFT_S, Job
from deployments.jobs.work import Left, Loads, Speed, left_of, loads_of
from stages.types import STAGE_NAMES, StageName

MAX_PRIORITY = 10
_TIERS: Mapping[ServiceTier, int] = {"flex": -5, "default": 0, "priority": 5}

Rank = tuple[int, float, str]
"""Sorts jobs as they are claimed: higher priority, then earlier deadline, which a job without one has late."""


def rank_of(priority: int, created_at: float, job_id: str, deadline_s: float | None = None) -> Rank:
    return (-priority, created_at + (SOFT_S if deadline_s is None else deadline_s), job_id)


@dataclass(frozen=True, order=True)
class Unfinished:
    """A queued or running job."""

    rank: Rank
    loads: Loads = field(compare=False, default_factory=dict)
    left: Left = field(compare=False, default_factory=dict)  # a stage that is missing: all of it
    tenant: str = field(compare=False, default="")


@dataclass(frozen=True)
class Standing:
    """What a client is told of an unfinished job; None where nothing is known."""

    queue_position: int | None = None
    eta_s: float | None = None


@dataclass(frozen=True)
class Outlook:
    """Every unfinished job, and what the stages can do."""

    waiting: Sequence[Unfinished] = ()  # as they will be claimed
    running: Sequence[Unfinished] = ()
    speeds: Mapping[StageName, Speed] = field(default_factory=dict)  # a stage that is missing has done nothing yet
    replicas: Mapping[StageName, int] = field(default_factory=dict)
    devices: Mapping[StageName, str] = field(default_factory=dict)  # stages of one name share it; left out: its own

    def standing(self, job: Job) -> Standing:
        """Of a job as it has just been read."""
        own = unfinished_of(job)
        if job.state == "queued":
            position = bisect_left(self.waiting, own)
            return Standing(position, _rounded(self._end_s(self._ahead(position), own)))
        if job.state != "running":
            return Standing()
        return Standing(None, _rounded(self._end_s(self._sum(o for o in self.running if o < own), own)))

    def new_eta_s(self, priority: int, loads: Loads) -> float | None:
        """Seconds to the end of a job that is written now."""
        own = Unfinished(rank_of(priority, math.inf, ""), loads)
        return _known(self._end_s(self._ahead(bisect_left(self.waiting, own)), own))

    def alone_s(self, loads: Loads) -> float | None:
        """Seconds that a job takes when nothing goes before it."""
        return _known(self._end_s({}, Unfinished(rank_of(0, 0.0, ""), loads)))

    def tenant_wait_s(self, tenant: str) -> float | None:
        """Seconds until the first waiting job of a tenant starts."""
        for position, job in enumerate(self.waiting):
            if job.tenant == tenant:
                return _known(self._wait_s(self._ahead(position), STAGE_NAMES))
        return None

    def backlog_s(self, stage: StageName) -> float | None:
        """Seconds until a stage is through with all that there is for it."""
        return _rounded(self._before[stage][-1] / self._count(stage))

    def plus(self, job: Job) -> "Outlook":
        """With one more queued job."""
        new = unfinished_of(job)
        at = bisect_left(self.waiting, new)
        if self.waiting[at : at + 1] and self.waiting[at] == new:
            return self
        return replace(self, waiting=(*self.waiting[:at], new, *self.waiting[at:]))

    # Seconds, by stage or of a job, are infinite where they are not known.

    def _needs(self, job: Unfinished) -> dict[StageName, float]:
        """Of computing what is left of a job, one call after another."""
        left = {name: job.left.get(name, 1.0) for name in job.loads}
        return {
            name: left[name] * (self.speeds[name].seconds(load) if name in self.speeds else math.inf)
            for name, load in job.loads.items()
            if left[name] > 0
        }

    def _sum(self, jobs: Iterable[Unfinished]) -> Mapping[StageName, float]:
        needs = [self._needs(job) for job in jobs]
        return {name: sum(own.get(name, 0.0) for own in needs) for name in STAGE_NAMES}

    @cached_property
    def _before(self) -> Mapping[StageName, Sequence[float]]:
        """At each place of the queue: what all before it need, and all that run."""
        running, needs = self._sum(self.running), [self._needs(job) for job in self.waiting]
        return {
            name: list(accumulate((own.get(name, 0.0) for own in needs), initial=running[name])) for name in STAGE_NAMES
        }

    def _ahead(self, position: int) -> Mapping[StageName, float]:
        return {name: sums[position] for name, sums in self._before.items()}

    def _end_s(self, ahead: Mapping[StageName, float], job: Unfinished) -> float:
        needs = self._needs(job)
        rounds = {name: math.ceil(job.loads[name].calls / self._count(name)) for name in needs}
        spans = {name: seconds * rounds[name] / job.loads[name].calls for name, seconds in needs.items()}
        own_s = sum(spans.values())
        if "v2v" in spans and "vfi" in spans:  # one works while the other does, but for the first and the last window
            v2v, vfi = spans["v2v"], spans["vfi"]
            own_s -= min(v2v * (1 - 1 / rounds["v2v"]), vfi * (1 - 1 / rounds["vfi"]))
        return own_s + self._wait_s(ahead, list(needs))

    def _wait_s(self, ahead: Mapping[StageName, float], at: Sequence[StageName]) -> float:
        """Until the busiest device of some stages is through with what goes first."""
        devices = {name: self.devices.get(name, name) for name in STAGE_NAMES}
        busy = dict.fromkeys(devices.values(), 0.0)
        for name, seconds in ahead.items():
            busy[devices[name]] += seconds / self._count(name)
        return max((busy[devices[name]] for name in at), default=0.0)

    def _count(self, name: StageName) -> int:
        return max(1, self.replicas.get(name, 1))


def unfinished_of(job: Job) -> Unfinished:
    """A queued or running job as it has just been read."""
    loads = loads_of(job.request)
    if job.state == "queued":
        left = left_of(loads, {name: len(outputs) for name, outputs in job.outputs.items()})
    else:
        progress = {stage.name: stage.progress for stage in job.stages}
        left = {name: 1 - progress.get(name, 0) / 100 for name in loads}
    return Unfinished(rank_of(job.priority, job.created_at, job.id, job.deadline_s), loads, left, job.tenant)


@dataclass(frozen=True)
class Promised:
    """What the order of calls says of a job that is not accepted yet."""

    eta_s: float  # with a margin
    late: int = 0  # calls of others that it would make later than they were promised


def check_deadline(
    outlook: Outlook, priority: int, deadline_s: float | None, loads: Loads, promised: Promised | None = None
) -> None:
    """Refuse a job that cannot be done so soon. `promised`: in the place of the outlook's estimate.

    Raises:
        RateLimitError: code deadline_infeasible, with the estimate.
    """
    if deadline_s is None:
        return
    eta_s = outlook.new_eta_s(priority, loads) if promised is None else promised.eta_s
    if eta_s is None or eta_s <= deadline_s:
        if promised is not None and promised.late:
            raise RateLimitError(
                f"deadline_s is {deadline_s:g}, and a promise to another video would be broken by it; ask for more, or "
                "let the queue drain",
                max(1.0, eta_s or 0.0),
                code="deadline_infeasible",
                param="deadline_s",
            )
        return
    alone_s = outlook.alone_s(loads) or 0.0
    hint = "ask for more" if alone_s > deadline_s else "ask for more or a higher priority, or let the queue drain"
    raise RateLimitError(
        f"deadline_s is {deadline_s:g} and this video would be done in about {eta_s:.1f} s, {alone_s:.1f} s of which "
        f"are its own; {hint}",
        eta_s - deadline_s,
        code="deadline_infeasible",
        param="deadline_s",
    )


def tier_of(priority: int) -> ServiceTier:
    """The class of a job, in OpenAI's words."""
    return "default" if priority == 0 else "priority" if priority > 0 else "flex"


def priority_of(priority: int | None, tier: AskedTier | None) -> int:
    """What a request says of its class: a number, a word, or both, if they agree.

    Raises:
        InvalidRequestError: they contradict each other.
    """
    if tier is None or tier == "auto":
        return priority or 0
    if priority is None:
        return _TIERS[tier]
    if tier_of(priority) != tier:
        said = f'service_tier is "{tier}" and priority is {priority}, which is "{tier_of(priority)}"; send one of them.'
        raise InvalidRequestError(said, param="service_tier", code="invalid_field")
    return priority


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


def _known(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def _rounded(seconds: float) -> float | None:
    return round(seconds, 1) if math.isfinite(seconds) else None
