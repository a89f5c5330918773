"""What a scaling policy sees and says: one frozen snapshot in, targets and a new state out.

A `Snapshot` holds the stages in the order of the pipeline, what waits and what runs at each, their replicas, the rate
at which jobs arrive and the GPUs there are. A policy is pure: what it must remember between two calls is a `State` that
the caller keeps and hands back, one `Memory` a stage. The same types serve the simulator and the live autoscaler.

Imports the standard library only, because Ray pickles a policy with its module into the controller. Knows nothing of
Ray, clocks, or where the numbers come from.
"""

import math
from collections import deque
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
    start_up_s: float = 0.0  # from the decision to a replica that answers
    waiting: int = 0  # calls that no replica computes yet
    running: int = 0  # calls that are being computed
    remaining_s: float = 0.0  # of the busy replicas' time, added up
    busy: int = 0  # replicas that compute
    ready: int = 0  # replicas that compute or could
    starting: int = 0
    stopping: int = 0  # replicas that finish what they have, and hold their GPUs until then
    target: int = 0  # what was decided last
    idle_s: float = 0.0  # how long nothing has waited or run here
    min_replicas: int = 1
    max_replicas: int = 1
    gpus: float = 1.0  # of one replica
    batch: int = 1  # calls that a replica computes at once, at most
    batch_s: float = 0.0  # mean seconds of that many together; 0: nobody knows

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


class ArrivalMeter:
    """The steady rate of arrivals over the last `window_s`, and its trend; the one thing here that is fed bit by bit.

    A burst is a backlog, which a policy sees by itself, and no reason to expect more of it. So the window is cut into
    bins about as long as the mean gap, and the rate is what a Poisson stream would need to leave as many of them empty;
    a bin with forty arrivals counts like a bin with one. The trend compares the two halves of the window, and is given
    only where they differ by more than twice the noise of a Poisson count.
    """

    def __init__(self, window_s: float = 300.0) -> None:
        self._window_s = window_s
        self._times: deque[float] = deque()
        self._first_s: float | None = None

    def add(self, at_s: float) -> None:
        """A job has arrived."""
        if self._first_s is None:
            self._first_s = at_s
        self._times.append(at_s)

    def read(self, now_s: float) -> tuple[float, float]:
        """Arrivals per second, and how fast that grows, per second squared."""
        while self._times and self._times[0] <= now_s - self._window_s:
            self._times.popleft()
        if self._first_s is None or not self._times:
            return 0.0, 0.0
        # A meter that has just begun divides by no less than a quarter of the window: one arrival is no rate.
        span_s = min(self._window_s, max(now_s - self._first_s, self._window_s / 4))
        ages = [now_s - time for time in self._times]
        rate = _steady_rate(ages, span_s)
        half_s = span_s / 2
        late = _steady_rate([age for age in ages if age < half_s], half_s)
        early = _steady_rate([age - half_s for age in ages if age >= half_s], half_s)
        noise = 2 * (rate / half_s) ** 0.5  # of the difference of two Poisson counts, as a rate, about 1.4 times
        known = now_s - self._first_s >= self._window_s and abs(late - early) > 1.4 * noise
        return rate, (late - early) / half_s if known else 0.0


def _steady_rate(ages: list[float], span_s: float) -> float:
    """Arrivals per second that leave as many bins empty as these do."""
    if not ages:
        return 0.0
    bins = max(1, len(ages))
    taken = len({min(bins - 1, int(age / span_s * bins)) for age in ages})
    if taken == bins:
        return len(ages) / span_s
    return min(len(ages), -bins * math.log(1 - taken / bins)) / span_s
