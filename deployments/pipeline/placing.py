"""What the order of calls needs to know of one job: its class, until when each of its calls should be done, and how
long they take; and one call's way through stops, from replica to replica.

Knows nothing of Ray. The lines are `deployments.order`'s, the judgement `cluster.policy.order`'s.
"""

import math
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.policy.calls import Call, Queue, soft_deadline_s
from deployments.jobs.plans import stages_of, windows_of
from deployments.jobs.values import Claim, Job
from deployments.order.desk import Desk, Ticket
from deployments.order.pace import Pace
from stages.presets import Plan
from stages.types import STAGE_NAMES, StageName

_UNKNOWN_S = 1.0  # of a call of which nothing is known


@dataclass
class Part:
    """One call, as far as it has come: where it goes on from, and what it has cost."""

    state: Any = None  # a reference to the newest state
    step: int = 0  # of that state
    total: int = 0
    spent_s: float = 0.0  # of computing before that state
    before_s: float = 0.0  # of it, before the replica began that computes now
    stopped_s: float | None = None  # monotonic, since when it is parked
    parked_s: float | None = None  # so long it was, the last time; None: it did not stop, its replica or pipeline died
    asked: bool = False  # it was given its state, and has not said yet whether it goes on from there
    sought: bool = False  # a kept state was looked for, in the place of one that was lost

    def reached(self, state: Any, step: int, total: int, run_s: float) -> None:
        """A state after so many steps, and seconds since the one before."""
        self.state, self.step, self.total = state, step, total
        self.spent_s += run_s

    def take(self, kept: "Part") -> None:
        """The state is gone: a kept one takes its place, or the stage's start."""
        self.state, self.step, self.total, self.spent_s = kept.state, kept.step, kept.total, kept.spent_s
        self.sought = True

    def begin(self, now_s: float) -> None:
        """A replica computes it."""
        self.before_s, self.asked = self.spent_s, self.step > 0
        self.parked_s = None if self.stopped_s is None else now_s - self.stopped_s
        self.stopped_s = None

    def goes_on(self, step: int | None) -> bool:
        """Whether it does so from its state, by the first that it says after `begin`: a step, or None for the output.
        Said once. Where the state did not fit it has begun anew.
        """
        asked, self.asked = self.asked, False
        if asked and step is not None and step < self.step:
            self.state, self.step, self.total, self.spent_s, self.before_s = None, 0, 0, 0.0, 0.0
            return False
        return asked

    @property
    def counted_s(self) -> float:
        """Seconds before this replica that count against its limit: none of a state that may not fit."""
        return 0.0 if self.asked else self.before_s

    def left(self, whole_s: float) -> float:
        """Seconds, of a call that takes `whole_s`."""
        return whole_s * (1 - self.step / self.total) if self.step else whole_s


@dataclass
class Placing:
    """Of one job. `homes`: the deployment of each stage whose calls are ordered."""

    desk: Desk
    pace: Pace
    homes: Mapping[StageName, str]
    claim: Claim
    job: Job
    steps: Plan
    known_s: Mapping[StageName, float] = field(default_factory=dict)  # of a call, as finished jobs have shown
    soft_s: float | None = None  # that a job of its class may take, where no deadline was promised
    yields: int = 0  # of all its calls
    accepted_s: float = field(init=False)  # monotonic
    sent: set[tuple[StageName, int]] = field(default_factory=set)  # calls that were in their line

    def __post_init__(self) -> None:
        self.accepted_s = time.monotonic() - self.claim.waited_s

    @asynccontextmanager
    async def enter(self, stage: StageName, params: Any, number: int, part: Part) -> AsyncIterator[Ticket | None]:
        """One call in its line; None where its stage has none."""
        self.sent.add((stage, number))
        home = self.homes.get(stage)
        if home is None:
            yield None
            return
        async with self.desk.enter(home, self.call(stage, params, number, part), self.claim.weight) as ticket:
            yield ticket

    def call(self, stage: StageName, params: Any, number: int, part: Part) -> Call:
        """As the policy sees it."""
        promised = self.job.deadline_s is not None
        until_s = self.until_s - self.behind_s(stage)
        left_s = part.left(self.whole_s(stage, params))
        about = (promised, self.job.priority, self.job.tenant, self.claim.job_id)
        return Call(self._name(stage, number), left_s, until_s, *about, parked=part.step > 0, yields=self.yields)

    def _name(self, stage: StageName, number: int) -> str:
        """Of a call. Who had the job before, and tells of its own calls still, means others."""
        return f"{self.claim.job_id}/{stage}/{number:03d}/{self.claim.fence}"

    def coming(self, stage: StageName, there: Collection[str] = ()) -> list[Call]:
        """The calls that it has still to send there. `there`: what `calls_in` says of the line."""
        request = self.job.request
        if stage not in stages_of(request) or STAGE_NAMES.index(stage) < STAGE_NAMES.index(request.enter):
            return []
        numbers = range(windows_of(self.steps) if stage in ("v2v", "vfi") else 1)
        if stage == "t2i" and request.pause_after == "t2i":
            numbers = range(request.candidates)
        kept = self.job.outputs.get(stage, {})
        left = [number for number in numbers if number not in kept and (stage, number) not in self.sent]
        if not left:
            return []
        first = self.call(stage, self.steps[stage], left[0], Part())
        made = [replace(first, id=self._name(stage, number)) for number in left]
        return [call for call in made if _of_any_claim(call) not in there]

    @property
    def until_s(self) -> float:
        """When the job should be done."""
        if self.job.deadline_s is not None:
            return self.accepted_s + self.job.deadline_s
        return soft_deadline_s(self.accepted_s, self.behind_s(None), self.soft_s)

    def whole_s(self, stage: StageName, params: Any) -> float:
        """Of one call, from its first step to its last."""
        return self.seconds(stage, params) or _UNKNOWN_S

    def seconds(self, stage: StageName, params: Any) -> float | None:
        """The same; None where nobody knows."""
        return self.pace.seconds(stage, params, self.known_s.get(stage))

    def behind_s(self, stage: StageName | None) -> float:
        """Seconds that the job needs behind a stage when nobody is in its way; None: of all stages."""
        later = STAGE_NAMES[0 if stage is None else STAGE_NAMES.index(stage) + 1 :]
        return sum(self._alone_s(name) for name in later if name in stages_of(self.job.request))

    def _alone_s(self, stage: StageName) -> float:
        own_s = self.seconds(stage, self.steps[stage]) or 0.0
        if stage not in ("v2v", "vfi"):
            return own_s
        replicas = self.desk.count(self.homes.get(stage, stage))
        return own_s * math.ceil(windows_of(self.steps) / max(1, replicas))


def calls_in(queue: Queue) -> frozenset[str]:
    """The calls of a line, under whatever claim of their jobs."""
    running = [device.running.call for device in queue.devices if device.running is not None]
    return frozenset(_of_any_claim(call) for call in (*queue.waiting, *running))


def _of_any_claim(call: Call) -> str:
    return call.id.rpartition("/")[0]
