"""What a scaling policy sees and says: one frozen snapshot in, targets and a new state out.

A `Snapshot` holds the stages in the order of the pipeline, what waits and what runs at each, their replicas, the rate
at which jobs arrive and the GPUs there are. A policy is pure: what it must remember between two calls is a `State` that
the caller keeps and hands back, one `Memory` a stage. The same types serve the simulator and the live autoscaler.

Imports the standard library only, because Ray pickles a policy with its module into the controller. Knows nothing of
Ray, clocks, or where the numbers come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class PolicyError(ValueError):
    """A policy that does not exist, an option it does not have, or bounds that cannot be met; one sentence."""


@dataclass(frozen=True)
class StageNow:
    """One stage at one moment. Calls are what a replica computes; V2V and VFI are called once a window.

    A replica of T2I may compute up to `batch` calls at once, when so many wait.
    """

    name: str
    call_s: float  # mean seconds of one call on one replica, alone
    calls: int = 1  # of one job
    start_up_s: float = 0.0  # of loading, from a place on a node to a replica that answers
    waiting: int = 0  # calls that no replica computes yet
    running: int = 0  # calls that are being computed
    remaining_s: float = 0.0  # of the busy replicas' time, added up
    busy: int = 0  # replicas that compute
    ready: int = 0  # replicas that compute or could
    starting: int = 0
    pending: int = 0  # of those, replicas that no node has had a place for in all this time
    stopping: int = 0  # replicas that finish what they have, and hold their GPUs until then
    target: int = 0  # what was decided last
    min_replicas: int = 1
    max_replicas: int = 1
    gpus: float = 1.0  # of one replica
    batch: int = 1  # calls that a replica computes at once, at most
    batch_s: float = 0.0  # mean seconds of that many together; 0: nobody knows
    share: float = 1.0  # of the jobs that arrive, those that pass this stage

    @property
    def share_s(self) -> float:
        """Replica-seconds that one call takes when there is enough to do."""
        return min(self.call_s, self.batch_s / self.batch) if self.batch > 1 and self.batch_s > 0 else self.call_s

    @property
    def job_s(self) -> float:
        """Replica-seconds that one job takes here when there is enough to do."""
        return self.share_s * self.calls


@dataclass(frozen=True)
class Snapshot:
    """The whole pipeline at one moment."""

    now_s: float
    stages: tuple[StageNow, ...]  # in the order in which a job passes them
    queued_jobs: int = 0  # accepted, and not yet at the first stage
    arrivals_per_s: float = 0.0
    trend_per_s2: float = 0.0  # how fast that rate grows
    budget_gpus: float | None = None  # for all stages together; None: no limit but max_replicas
    arrived: int = 0  # jobs since the beginning; a live server does not count them


@dataclass(frozen=True)
class Memory:
    """What a policy remembers of one stage; each uses what it needs."""

    levels: tuple[tuple[float, int], ...] = ()  # (s, replicas wanted), of late
    history: tuple[tuple[float, float], ...] = ()  # (s, calls at the stage), of late
    since_s: float | None = None  # when the present wish was first had
    up: bool = False  # whether that wish is for more


State = Mapping[str, Memory]  # by stage; empty at the beginning


@dataclass(frozen=True)
class Decision:
    """Replicas each stage should have, and what to hand to the next call."""

    targets: Mapping[str, int]
    state: State = field(default_factory=dict)


class Policy(Protocol):
    """Anything that decides. It must not keep anything between calls but what it returns."""

    def decide(self, now: Snapshot, state: State) -> Decision:
        """Targets for every stage of the snapshot."""
