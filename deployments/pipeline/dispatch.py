"""The order of calls in one pipeline replica: its desk, what the routers say of replicas, and what may be promised.

Brings together `deployments.order`, which knows calls, with handles, settings and the journal. `promise` asks
`cluster.policy.promises` about a job that is not accepted yet, behind all that waits, runs, and will come of jobs that
run, here or elsewhere, or that nobody has claimed.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ray import serve

from cluster.policy.calls import Device, Queue
from cluster.policy.promises import Promise, Stop, promise
from deployments.jobs.outlook import Promised
from deployments.jobs.plans import plan_of, planned_of, stages_of
from deployments.jobs.values import Claim, Job, JobRequest, NewJob
from deployments.jobs.work import Speed, loads_of
from deployments.journal.journal import Journal
from deployments.journal.looks import read_measured
from deployments.journal.rows import written_job
from deployments.on_ray.ray_internals import count_waiting
from deployments.on_ray.routed import listen, replicas_of
from deployments.order.desk import Desk
from deployments.order.pace import Pace
from deployments.order.shared import SharedLines
from deployments.pipeline.lacking import Lacking
from deployments.pipeline.placing import Placing, calls_in
from deployments.settings.application import AppArgs
from stages.types import STAGE_NAMES, StageName

_COUNT_S = 0.5  # between two looks at which replicas there are, where no router says anything
_AHEAD = 200  # jobs that a promise looks at, beside those at hand


def app_name() -> str:
    return str(serve.get_replica_context().app_name)


class Dispatch:
    """One for each pipeline replica."""

    def __init__(
        self, args: AppArgs, name: str, handles: Mapping[StageName, Any], journal: Journal, lacking: Lacking
    ) -> None:
        """`name`: the replica's."""
        self._args, self._handles, self._journal, self._lacking = args, handles, journal, lacking
        self._pace = Pace(args.scaling.call_s if args.scaling is not None else None)
        rules = args.order.rules()
        self._far = SharedLines(name, app_name(), rules, self._hear)
        self._desk = Desk(name, rules, self._pause)
        self._many = asyncio.Event()
        self._speeds: Mapping[StageName, Speed] = {}  # as jobs have shown that earlier pipeline replicas drove
        self._counted: dict[str, int] = {}  # calls that wait, as Serve was told
        self._placings: dict[str, Placing] = {}  # of jobs at hand
        self._promising = asyncio.Lock()
        self._begin_to_share()

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What runs for ever."""
        return [self._watch(), self._desk.run(), self._share()]

    def take(self, args: AppArgs) -> None:
        """Other settings."""
        self._args = args
        for one in (self._desk, self._far):
            one.take(args.order.rules())
        self._begin_to_share()

    def begin(self, claim: Claim, job: Job) -> Placing:
        """A job begins here, or begins again."""
        self._placings[claim.job_id] = made = self._placing(claim, job)
        return made

    def end(self, claim: Claim) -> None:
        """It has ended, or is somebody else's, or begins here under another claim."""
        if (own := self._placings.get(claim.job_id)) is not None and own.claim == claim:
            del self._placings[claim.job_id]

    async def promise(self, request: JobRequest, tenant: str, priority: int, deadline_s: float) -> Promised | None:
        """When a job would be done that is accepted now, and how many promises to others that would break; None where
        a stage has not shown yet how long it takes.
        """
        now_s, steps = time.monotonic(), plan_of(request)
        wish = NewJob(request, tenant, priority=priority, deadline_s=deadline_s)
        job = written_job("new", wish, planned_of(request, steps), 0.0, ())
        own = self._placing(Claim("new", "", 0), job)
        way = [name for name in stages_of(request) if STAGE_NAMES.index(name) >= STAGE_NAMES.index(request.enter)]
        if any(own.seconds(name, steps[name]) is None for name in way):
            return None
        async with self._promising:  # one after the other, or they would have all threads
            queues = [await self._queue(name) for name in way]
            given = (own, way, queues, tuple(self._placings.values()))
            found = await asyncio.to_thread(self._promised, *given, priority=priority, tenant=tenant)
        return Promised(found.end_s - now_s, len(found.late))

    def _promised(
        self,
        own: Placing,
        way: Sequence[StageName],
        queues: Sequence[Queue],
        here: Sequence[Placing],
        **about: Any,
    ) -> Promise:
        """In a thread: with hundreds of calls it takes a while."""
        known = {other.claim.job_id for other in here}
        ahead = [(one, age_s) for one, age_s in self._journal.ahead(_AHEAD) if one.id not in known]
        others = [*here, *(self._placing(Claim(one.id, "", 0, age_s), one) for one, age_s in ahead)]
        stops = []
        for stage, queue in zip(way, queues, strict=True):
            there = calls_in(queue)
            coming = [call for other in others for call in other.coming(stage, there)]
            stops.append(Stop(queue, [call.left_s for call in own.coming(stage)], own.behind_s(stage), coming))
        return promise(stops, own.until_s, self._args.order.rules(), **about)

    def _begin_to_share(self) -> None:
        """Once there may be several pipeline replicas, for good."""
        if self._args.many_pipelines and not self._many.is_set():
            self._desk.share(self._far)
            self._many.set()

    async def _share(self) -> None:
        await self._many.wait()
        await self._far.run(self._desk.look)

    async def _queue(self, stage: StageName) -> Queue:
        home = self._args.ordered().get(stage, stage)
        queue = await self._desk.queue(home)
        if queue.devices:
            return queue
        # it scales from nothing, or its calls are not ordered
        replicas = self._desk.count(home) or self._args.stages[self._args.home(stage)].least_replicas or 1
        return replace(queue, devices=tuple(Device(f"{home}-{number}") for number in range(replicas)))

    def _placing(self, claim: Claim, job: Job) -> Placing:
        loads, soft_s = loads_of(job.request), self._args.order.soft_s.get(job.priority)
        known_s = {
            name: self._speeds[name].seconds(load) / load.calls for name, load in loads.items() if name in self._speeds
        }
        homes = self._args.ordered()
        return Placing(self._desk, self._pace, homes, claim, job, plan_of(job.request), known_s, soft_s)

    async def _watch(self) -> None:
        """Tell who wants to know which replicas there are, as soon as a router does."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()
        for handle in self._handles.values():
            handle.options()  # from here on its router learns of replicas, before the first call
        with suppress(Exception):  # the database is away: what is computed here shows it
            self._speeds = await asyncio.to_thread(self._measured)
        listen(lambda: loop.call_soon_threadsafe(changed.set))
        while True:
            there = replicas_of(app_name())
            for home in set(self._args.ordered().values()) & there.keys():
                self._desk.see(home, there[home])
                self._count_waiting(home)
            homes = {name: self._args.home(name) for name in self._handles}
            self._lacking.look({name: len(there[home]) for name, home in homes.items() if home in there})
            changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _COUNT_S)

    def _measured(self) -> Mapping[StageName, Speed]:
        with self._journal.database.read() as connection:
            return read_measured(connection, self._args.preset)

    def _count_waiting(self, home: StageName) -> None:
        """Serve's own scaling rule sees calls that were sent; those that wait in a line are told to it."""
        if self._args.scaling is None and self._args.stages[home].autoscaling is not None:
            waiting = self._desk.waiting(home)
            count_waiting(self._handles[home], waiting - self._counted.get(home, 0))
            self._counted[home] = waiting

    async def _pause(self, home: str, replica: str, call: str) -> object:
        """Tell a replica to stop a call."""
        handle = next(self._handles[name] for name in self._handles if self._args.home(name) == home)
        return await handle.pause.remote(call, at=replica)

    def _hear(self, told: Any) -> None:
        self._desk.hear(told)
