"""A simulated stage whose calls are ordered by `cluster.policy.order`, the code that a live server runs; with those of
stages that live in its replicas.

Calls wait in one line for all replicas. At each change (a call comes, ends, is withdrawn; a replica comes, goes, dies)
a snapshot of the line is decided on: replicas that are free begin, those that soon will be are told what comes next, so
that its way there (`router_s`, bytes) is behind it by then, and running calls are told to yield. One that yields stops
at its next step boundary, holds its replica for half of `hand_off_s`, waits again with what is left of it, and pays
the other half where it goes on. What a dead replica had computed is lost.

What the policy knows of seconds is what a live one would: the mean of the class until a call has made a step, its own
pace from then on.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from cluster.policy.calls import Call as Seen
from cluster.policy.calls import Device, Queue, Rules, Running, Tenant, soft_deadline_s
from cluster.policy.order import decide
from cluster.policy.promises import Stop, promise
from cluster.policy.use import UseMeter
from cluster.traffic.traces import Arrival
from cluster.twin.clock import Clock
from cluster.twin.nodes import Nodes
from cluster.twin.parts import Call, Gpus, Replica
from cluster.twin.scenario import JobClass, Scenario, passes
from cluster.twin.stage import Jobs, StagePool

_PLAIN = JobClass()
_SAME = 1e-9  # of a step


class _Work:
    """What one call still has before it."""

    __slots__ = ("at", "began_s", "expected_s", "first_s", "left", "parked", "step_s", "steps", "stops_s", "yields_s")

    def __init__(self, steps: int, seconds: float, expected_s: float) -> None:
        self.steps = self.left = steps
        self.step_s, self.expected_s = seconds / steps, expected_s
        self.at: str | None = None  # the replica that it is on its way to
        self.parked = False
        self.began_s = 0.0  # when the steps began that it makes now
        self.first_s: float | None = None  # when it was first computed
        self.yields_s: float | None = None  # the boundary at which it will stop
        self.stops_s: float | None = None  # when its replica is free of it, though nobody wants it any more

    def made(self, now_s: float) -> float:
        """Steps since it began here."""
        return max(0.0, (now_s - self.began_s) / self.step_s) if self.step_s > 0 else float(self.left)

    def boundary(self, now_s: float) -> int:
        """Steps that it will have made here at the next boundary."""
        return min(self.left, math.ceil(self.made(now_s) - _SAME))

    def expects_s(self, made: float = 0.0) -> float:
        """Seconds that it still needs, as far as anybody can know."""
        if self.steps == 1:
            return max(0.0, self.expected_s - made * self.step_s)
        paced = self.left < self.steps or made >= 1
        pace_s = self.step_s if paced else self.expected_s / self.steps
        return max(0.0, self.left - made) * pace_s


class OrderedPool(StagePool):
    """One stage's replicas and its line."""

    def __init__(
        self, clock: Clock, index: int, name: str, scenario: Scenario, jobs: Jobs, gpus: Gpus | Nodes, seed: int
    ) -> None:
        super().__init__(clock, index, name, scenario, jobs, gpus, seed)
        self._rules, self._names = scenario.order or Rules(), list(scenario.stages)
        self._half_s = self._rules.hand_off_s / 2
        self._line: dict[str, Call] = {}  # by id
        self._work: dict[Call, _Work] = {}  # of those in the line and those that run
        self._draining: dict[int, Replica] = {}
        self._use = UseMeter()

    # Seen from outside

    def send(self, call: Call) -> None:
        self.waiting += call.left
        kind, name = call.job.arrival.kind, self._names[call.stage]
        times = self._scenario.stages[name]
        steps = class_of(self._scenario, kind).steps.get(name, times.steps)
        expected_s = times.call_s * factor(self._scenario, kind, name)
        self._work[call] = _Work(steps, self._jobs.seconds(call, call.parts[0]), expected_s)
        self._line[_id(call)] = call
        self._decide()

    def withdraw(self, call: Call) -> None:
        if self._line.pop(_id(call), None) is not None:
            self.waiting -= call.left
            call.gone = True
            del self._work[call]
        else:
            super().withdraw(call)
            if (work := self._work.get(call)) is not None:
                work.stops_s = self._clock.now + self._scenario.stop_s
        self._decide()

    def remaining_s(self) -> float:
        return math.fsum(device.running.call.left_s for device in self.queue_now().devices if device.running)

    def queue_now(self) -> Queue:
        """The snapshot that is decided on."""
        now_s, used = self._clock.now, self._use.read(self._clock.now)
        stay = [replica for replica in self._replicas.values() if replica.state == "ready"]
        devices = [Device(replica.name, self._running(replica)) for replica in stay]
        devices += [Device(replica.name, self._running(replica), True) for replica in self._draining.values()]
        known = {**dict.fromkeys(used, Tenant()), **self._scenario.tenants}
        tenants = {name: Tenant(tenant.weight, used.get(name, 0.0)) for name, tenant in known.items()}
        waiting = tuple(self._seen(call, self._work[call].expects_s()) for call in self._line.values())
        return Queue(now_s, waiting, tuple(devices), tenants)

    def coming(self, job: Any) -> list[Seen]:
        """The calls that a job of an earlier stage has still to send here."""
        if not passes(self._scenario, job.arrival.kind, self.name):
            return []
        here = sum(call.job is job for call in self._work)
        own_s = self.times.call_s * factor(self._scenario, job.arrival.kind, self.name)
        ids = [f"{job.id:09d}/{self.index}/{number}" for number in range(here, self.times.windows)]
        return [self._wish(job, name, self.index, own_s) for name in ids]

    def jobs(self) -> set[Any]:
        """That have a call here."""
        return {call.job for call in self._work}

    def _wish(self, job: Any, name: str, stage: int, left_s: float) -> Seen:
        kind, about = job.arrival.kind, class_of(self._scenario, job.arrival.kind)
        until_s = deadline_of(self._scenario, job.arrival) - behind_s(self._scenario, kind, stage)
        promised = about.deadline_s is not None
        return Seen(name, left_s, until_s, promised, about.priority, about.tenant, str(job.id), yields=job.yields)

    def _seen(self, call: Call, left_s: float) -> Seen:
        work = self._work[call]
        return replace(self._wish(call.job, _id(call), call.stage, left_s), parked=work.parked, at=work.at)

    def _running(self, replica: Replica) -> Running | None:
        if not replica.current:
            return None
        call, now_s = replica.current[0], self._clock.now
        work = self._work[call]
        if work.stops_s is not None:
            return Running(Seen(_id(call), max(0.0, work.stops_s - now_s), math.inf), call.started_s)
        made = work.made(now_s)
        boundary_s = work.began_s + work.boundary(now_s) * work.step_s if work.yields_s is None else work.yields_s
        return Running(
            self._seen(call, max(0.0, work.began_s - now_s) + work.expects_s(made)),
            call.started_s,
            step_s=work.step_s if work.steps > 1 else 0.0,
            stop_in_s=max(0.0, boundary_s - now_s),
            steps_left=work.left - math.floor(made + _SAME),
            yielding=work.yields_s is not None,
        )

    # Calls

    def _decide(self) -> None:
        if not self._line and not self._draining:
            return
        moves = decide(self.queue_now(), self._rules)
        replicas = {replica.name: replica for replica in (*self._replicas.values(), *self._draining.values())}
        for told in moves.yields:
            self._stop_at_boundary(replicas[told.device])
        for device, name in moves.next.items():
            call, replica = self._line.get(name), replicas[device]
            if call is None:  # it has still to yield
                continue
            work = self._work[call]
            if work.at != device:
                work.at, call.ready_s = device, self._clock.now + self._lag_s
            if not replica.current:
                self._begin(call, replica)

    def _begin(self, call: Call, replica: Replica) -> None:
        del self._line[_id(call)]
        call.replica, call.running, replica.current = replica, True, [call]
        self.busy += 1
        self._begin_part(call)
        self._run(replica)
        self._moved(replica)

    def _run(self, replica: Replica) -> None:
        call = replica.current[0]
        work = self._work[call]
        work.began_s = call.started_s + (self._half_s if work.parked else 0.0)
        work.first_s = call.started_s if work.first_s is None else work.first_s
        work.parked = False
        end_s = work.began_s + work.left * work.step_s
        self._at(end_s, replica, self._on_part)
        if self._lag_s and (sooner_s := end_s - self._rules.ahead_s - self._clock.now) > 0:  # to tell it what is next
            self._clock.after(sooner_s, self._decide)

    def _at(self, moment_s: float, replica: Replica, then: Any) -> None:
        """Whatever else was to come of the replica is void."""
        replica.token += 1
        self._clock.after(max(0.0, moment_s - self._clock.now), then, replica, replica.token)

    def _stop_at_boundary(self, replica: Replica) -> None:
        work = self._work[replica.current[0]]
        work.yields_s = work.began_s + work.boundary(self._clock.now) * work.step_s
        self._at(work.yields_s + self._half_s, replica, self._on_yield)

    def _on_yield(self, replica: Replica, token: int) -> None:
        if token != replica.token:
            return
        call: Call = replica.current[0]
        work = self._work[call]
        work.left -= work.boundary(work.yields_s or 0.0)
        work.parked, work.at, work.yields_s = True, None, None
        call.job.yields += 1
        self._count_part(call, replica)
        call.replica, call.running = None, False
        self.waiting += call.left
        self._line[_id(call)] = call
        replica.current = []
        self.busy -= 1
        self._next(replica)

    def _on_part(self, replica: Replica, token: int) -> None:
        if token != replica.token:
            return
        call: Call = replica.current[0]
        first_s = self._work[call].first_s
        self._count_part(call, replica)
        call.at += 1
        call.replica, call.running = None, False
        self._free(replica)
        self._jobs.part_done(call, call.started_s if first_s is None else first_s, replica.name)
        self._jobs.call_done(call)

    def _count_part(self, call: Call, replica: Replica) -> None:
        super()._count_part(call, replica)
        tenant = class_of(self._scenario, call.job.arrival.kind).tenant
        self._use.add(tenant, max(0.0, self._clock.now - call.started_s), self._clock.now)

    def _free(self, replica: Replica) -> None:
        for call in replica.current:
            del self._work[call]
        super()._free(replica)

    def _next(self, replica: Replica) -> None:
        if replica.draining and not replica.load:
            self._end(replica)
            return
        self._moved(replica)
        self._decide()

    # Replicas

    def _stop(self, replica: Replica) -> None:
        super()._stop(replica)
        if replica.state == "ready":  # it still computes
            self._draining[replica.id] = replica
            self._decide()

    def _end(self, replica: Replica) -> None:
        self._draining.pop(replica.id, None)
        super()._end(replica)

    def _on_death(self, replica: Replica) -> None:
        if replica.state != "ready":
            return
        self._draining.pop(replica.id, None)
        for call in replica.current:
            del self._work[call]
        super()._on_death(replica)
        self._decide()


def is_refused(scenario: Scenario, pools: Iterable[StagePool], arrival: Arrival, queued: Iterable[Any]) -> bool:
    """Whether the deadline of a job that has just arrived cannot be promised; `queued` jobs wait before all stages."""
    about, way = class_of(scenario, arrival.kind), list[Stop]()
    if about.deadline_s is None:
        return False
    before = {job for job in queued if job.outcome is None}  # at an earlier stage
    for pool in pools:
        assert isinstance(pool, OrderedPool)
        if not passes(scenario, arrival.kind, pool.name):
            continue
        own_s = pool.times.call_s * factor(scenario, arrival.kind, pool.name)
        coming = [call for job in sorted(before, key=lambda job: int(job.id)) for call in pool.coming(job)]
        after_s = behind_s(scenario, arrival.kind, pool.index)
        way.append(Stop(pool.queue_now(), [own_s] * pool.times.windows, after_s, coming))
        before |= pool.jobs()
    until_s, rules = deadline_of(scenario, arrival), scenario.order or Rules()
    return not promise(way, until_s, rules, priority=about.priority, tenant=about.tenant).keeps


def deadline_of(scenario: Scenario, arrival: Arrival) -> float:
    """Promised or soft."""
    about = class_of(scenario, arrival.kind)
    if about.deadline_s is not None:
        return arrival.time_s + about.deadline_s
    return soft_deadline_s(arrival.time_s, behind_s(scenario, arrival.kind, -1), about.soft_s)


def behind_s(scenario: Scenario, kind: str, index: int) -> float:
    """Seconds that a job of a kind needs behind a stage when nobody is in its way; -1: of all stages."""
    all_later = list(scenario.stages.items())[index + 1 :]
    later = [(name, times) for name, times in all_later if passes(scenario, kind, name)]
    spread = {name: min(times.windows, max(1, scenario.pools[name].replicas)) for name, times in later}
    own_s = math.fsum(times.mean_s * factor(scenario, kind, name) / spread[name] for name, times in later)
    return own_s + scenario.finish_s


def factor(scenario: Scenario, kind: str, stage: str) -> float:
    """On the seconds of a stage."""
    return scenario.kinds.get(kind, {}).get(stage, 1.0)


def class_of(scenario: Scenario, kind: str) -> JobClass:
    return scenario.classes.get(kind, _PLAIN)


def _id(call: Call) -> str:
    return f"{call.job.id:09d}/{call.stage}/{call.parts[0]}"
