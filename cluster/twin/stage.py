"""The replicas of one simulated stage: who computes what, who waits, who starts, stops and dies.

Calls go to an idle replica first, then behind a running one up to `max_ongoing`, then into the stage's queue, as the
router of `deployments` does it. A replica computes its calls one after the other (or up to `batch` of those it has at
once). Replicas start as GPUs are free, take their start-up, and stop as Ray Serve stops them: those that have not
started first, then the newest, which finish what they were given.

Events are plain callbacks (`cluster.twin.clock`).
"""

from collections import deque
from typing import Protocol

import numpy as np

from cluster.traffic.measures import StageSample
from cluster.twin.clock import Clock
from cluster.twin.nodes import Nodes
from cluster.twin.parts import Call, Gpus, Replica
from cluster.twin.scenario import Pool, Scenario, StageTimes, moving_s

_BLOCK = 4096  # random numbers drawn at once


class Jobs(Protocol):
    """What a pool tells the simulation."""

    def part_done(self, call: Call, started_s: float, replica: str) -> None: ...

    def call_done(self, call: Call) -> None: ...

    def call_lost(self, call: Call) -> None: ...

    def seconds(self, call: Call, part: int) -> float: ...


class StagePool:
    """One stage's replicas and its queue."""

    def __init__(
        self, clock: Clock, index: int, name: str, scenario: Scenario, jobs: Jobs, gpus: Gpus | Nodes, seed: int
    ) -> None:
        self._clock, self._jobs, self._gpus = clock, jobs, gpus
        self.index, self.name = index, name
        self.times: StageTimes = scenario.stages[name]
        self.pool: Pool = scenario.pools[name]
        self._scenario = scenario
        self._rng = np.random.default_rng([seed, index, 1])
        self._uniform: list[float] = []
        self._made = 0
        self.queue: deque[Call] = deque()
        self.waiting = self.running = 0  # parts
        self.busy = self.ready = self.starting = self.stopping = 0  # replicas; ready ones take calls
        self.target = self.started = 0
        self.gpu_s = self.busy_gpu_s = 0.0
        self._held = 0  # replicas that hold GPUs
        self._held_since = 0.0
        self._started_sum = 0.0  # over the running parts
        self._replicas: dict[int, Replica] = {}  # in the order of their making; those that should stay
        self._heirs: dict[Replica, Replica] = {}  # one that starts -> the one that leaves then
        self._lag_s = scenario.router_s + moving_s(scenario, index)
        self._batch = self.times.batch
        self._room = self.pool.max_ongoing * self._batch  # calls
        self._by_load: list[list[Replica]] = [[] for _ in range(self._room + 1)]
        self._with_room = self._by_load[:-1]

    # Seen from outside

    def send(self, call: Call) -> None:
        """A call whose inputs are there."""
        self.waiting += call.left
        call.ready_s = self._clock.now + self._lag_s
        self._place(call)

    def withdraw(self, call: Call) -> None:
        """A call that nobody wants any more; a running one stops within `stop_s`, a batch with its last."""
        replica = call.replica
        if replica is None or (call in replica.current and not call.running):  # in the queue, or between two windows
            self.waiting -= call.left
            call.gone = True
        elif not call.running:
            self.waiting -= call.left
            replica.behind.remove(call)
            self._fill(replica)
            self._moved(replica)
        elif self.times.batch == 1:
            replica.token += 1
            self.waiting -= call.left - 1
            del call.parts[call.at + 1 :]
            self._clock.after(self._scenario.stop_s, self._on_free, replica, replica.token)
        else:
            call.gone = True
            if all(own.gone for own in replica.current):
                replica.token += 1
                self._clock.after(self._scenario.stop_s, self._on_free, replica, replica.token)

    def extend(self, call: Call, part: int) -> None:
        """One more window behind those of a call that waits or runs."""
        call.parts.append(part)
        self.waiting += 1

    def set_target(self, target: int) -> None:
        """Start or stop replicas."""
        self.target = target
        for _ in range(target - self.ready - self.starting + len(self._heirs)):
            self._start(self.times.start_up_s)
        while (surplus := self.ready + self.starting - len(self._heirs) - target) > 0:
            for replica in self._first_to_go(surplus):
                self._stop(replica)

    def _first_to_go(self, count: int) -> list[Replica]:
        """Those that have not started, the newest first; then those of the emptiest nodes, so that these can go."""
        newest = list(reversed(self._replicas.values()))
        chosen = [replica for replica in newest if replica.state != "ready"][:count]
        ready = [replica for replica in newest if replica.state == "ready"]
        if self.pool.on:
            ready.sort(key=lambda replica: (len(replica.node.replicas), replica.node.id))
        return chosen + ready[: count - len(chosen)]

    def start_at_once(self, count: int) -> None:
        """Replicas that are ready when the run begins."""
        self.target = count
        for _ in range(count):
            self._start(0.0)

    def begin(self, replica: Replica) -> None:
        """Its GPU is there. `Gpus` calls this."""
        replica.state = "starts"
        self._count_held(1)
        if replica.start_up_s == 0:
            self._get_ready(replica)
        else:
            self._clock.after(replica.start_up_s, self._get_ready, replica)

    def settle(self) -> None:
        """Count what is held until now."""
        self._count_held(0)

    def remaining_s(self) -> float:
        """Of the busy replicas together, by the mean; one that is overdue counts as nearly done."""
        if self.times.batch > 1:
            return sum(self._batch_left_s(replica) for replica in self._replicas.values() if replica.current)
        elapsed = self.running * self._clock.now - self._started_sum
        return max(self.running * self.times.call_s - elapsed, 0.1 * self.running * self.times.call_s)

    def _batch_left_s(self, replica: Replica) -> float:
        whole_s = self.times.mean_s * (1 + self.times.batch_share * (len(replica.current) - 1))
        return max(whole_s - (self._clock.now - replica.current[0].started_s), 0.1 * whole_s)

    def sample(self) -> StageSample:
        return StageSample(self.waiting, self.running, self.ready, self.starting, self.stopping, self.target)

    @property
    def idle(self) -> int:
        return len(self._by_load[0])

    # Calls

    def _place(self, call: Call) -> None:
        for found in self._with_room:
            if found:
                break
        else:
            self.queue.append(call)
            return
        replica = found[int(self._chance() * len(found))] if len(found) > 1 else found[0]
        call.replica = replica
        if replica.current:
            replica.behind.append(call)
        else:
            self._begin_calls(replica, [call])
        self._moved(replica)

    def _fill(self, replica: Replica) -> None:
        """Give the replica calls of the queue, as many as it may hold."""
        while self.queue and not replica.draining and replica.load < self._room:
            call = self.queue.popleft()
            if not call.gone:
                call.replica = replica
                replica.behind.append(call)

    def _next(self, replica: Replica) -> None:
        """Start what is next on a replica whose device is free; one that drains and has nothing left ends."""
        if self.queue:
            self._fill(replica)
        if replica.behind:
            size = min(self._batch, len(replica.behind))
            self._begin_calls(replica, [replica.behind.popleft() for _ in range(size)])
        elif replica.draining:
            self._end(replica)
            return
        self._moved(replica)

    def _begin_calls(self, replica: Replica, calls: list[Call]) -> None:
        replica.current = calls
        self.busy += 1
        for call in calls:
            call.running = True
            self._begin_part(call)
        self._run(replica)

    def _begin_part(self, call: Call) -> None:
        now = self._clock.now
        call.started_s = call.ready_s if call.ready_s > now else now
        self.waiting -= 1
        self.running += 1
        self._started_sum += call.started_s

    def _run(self, replica: Replica) -> None:
        calls = replica.current
        first = calls[0]
        seconds, begun = self._jobs.seconds(first, first.parts[first.at]), first.started_s
        for call in calls[1:]:
            seconds += self.times.batch_share * self._jobs.seconds(call, call.parts[call.at])
            begun = max(begun, call.started_s)
        delay = begun - self._clock.now + seconds * replica.slow
        replica.token += 1
        self._clock.after(delay, self._on_part, replica, replica.token)

    def _on_part(self, replica: Replica, token: int) -> None:
        if token != replica.token:
            return
        calls: list[Call] = replica.current
        for call in calls:
            self._count_part(call, replica)
            call.at += 1
            call.running = False
        first = calls[0]
        if first.left:  # more windows of the same job stay here
            self._jobs.part_done(first, first.started_s, replica.name)
            if not first.gone:
                first.running, first.ready_s = True, 0.0
                self._begin_part(first)
                self._run(replica)
                return
            calls = []
        for call in replica.current:
            call.replica = None
        self._free(replica)
        for call in calls:
            self._jobs.part_done(call, call.started_s, replica.name)
            self._jobs.call_done(call)

    def _count_part(self, call: Call, replica: Replica) -> None:
        self.running -= 1
        self._started_sum -= call.started_s
        if (took_s := self._clock.now - call.started_s) > 0:
            self.busy_gpu_s += took_s * self.pool.gpus * (1 / len(replica.current))

    def _on_free(self, replica: Replica, token: int) -> None:
        """A cancelled call, or a batch of them, has stopped."""
        if token == replica.token and replica.state == "ready":
            for call in replica.current:
                self._count_part(call, replica)
            self._free(replica)

    def _free(self, replica: Replica) -> None:
        replica.current = []
        self.busy -= 1
        self._next(replica)

    # Replicas

    def move(self, replica: Replica) -> None:
        """Its node is emptied: it leaves once another one is ready. `Nodes` calls this."""
        if replica.id in self._replicas and not self.moves(replica):
            heir = self._start(self.times.start_up_s)
            if replica.state != "ready" or heir.state == "ready":  # that one may start in no time
                self._stop(replica)
            else:
                self._heirs[heir] = replica

    def moves(self, replica: Replica) -> bool:
        """Whether it will leave. `Nodes` calls this."""
        return replica in self._heirs.values()

    def lose(self, replica: Replica) -> None:
        """Its node is gone. `Nodes` calls this."""
        self._on_death(replica)

    def _start(self, start_up_s: float) -> Replica:
        self._made += 1
        replica = Replica(self._made, f"{self.name}-{self._made}", start_up_s, self.pool.gpus)
        self._replicas[replica.id] = replica
        self.starting += 1
        self.started += 1
        self._gpus.take(replica, self, self.pool.gpus, self.pool.on, self.begin)
        return replica

    def _get_ready(self, replica: Replica) -> None:
        if replica.state != "starts":
            return
        replica.state = "ready"
        self.starting -= 1
        self.ready += 1
        life_s = self._scenario.faults.replica_life_s
        if life_s is not None:
            self._clock.after(float(self._rng.exponential(life_s)), self._on_death, replica)
        self._enter(replica)
        self._next(replica)
        if (before := self._heirs.pop(replica, None)) is not None:
            self._stop(before)

    def _forget(self, replica: Replica) -> None:
        """It stays no more; what was to take its place, or whose place it was to take, stays as it is."""
        del self._replicas[replica.id]
        self._heirs.pop(replica, None)
        for heir in [heir for heir, before in self._heirs.items() if before is replica]:
            del self._heirs[heir]

    def _stop(self, replica: Replica) -> None:
        self._forget(replica)
        if replica.state != "ready":
            self.starting -= 1
            if replica.state == "starts":
                self._release(replica)
            replica.state = "dead"
            return
        self._leave(replica)
        replica.draining = True
        self.ready -= 1
        self.stopping += 1
        if not replica.load:
            self._end(replica)

    def _end(self, replica: Replica) -> None:
        replica.state = "dead"
        self.stopping -= 1
        self._release(replica)

    def _on_death(self, replica: Replica) -> None:
        """The replica dies with all that it was given; another one starts in its place."""
        if replica.state != "ready":
            return
        replica.state = "dead"
        replica.token += 1
        lost = [*replica.current, *replica.behind]
        if replica.current:
            self.busy -= 1
        for call in replica.current:
            self._count_part(call, replica)
            self.waiting -= call.left - 1
        for call in replica.behind:
            self.waiting -= call.left
        if replica.draining:
            self.stopping -= 1
        else:
            if not self.moves(replica):  # else that one starts already
                self._start(self.times.start_up_s)
            self._leave(replica)
            self._forget(replica)
            self.ready -= 1
        self._release(replica)
        for call in lost:
            call.replica, call.running = None, False
            self._jobs.call_lost(call)

    def _release(self, replica: Replica) -> None:
        self._count_held(-1)
        self._gpus.give(replica, self.pool.gpus)

    def _count_held(self, change: int) -> None:
        self.gpu_s += self._held * self.pool.gpus * (self._clock.now - self._held_since)
        self._held += change
        self._held_since = self._clock.now

    # Which replica has how much to do

    def _enter(self, replica: Replica) -> None:
        row = self._by_load[replica.load]
        replica.place = (replica.load, len(row))
        row.append(replica)

    def _leave(self, replica: Replica) -> None:
        load, at = replica.place
        row = self._by_load[load]
        last = row.pop()
        if last is not replica:
            row[at] = last
            last.place = (load, at)

    def _moved(self, replica: Replica) -> None:
        load, place = len(replica.current) + len(replica.behind), replica.place
        if place[0] == load or replica.draining or replica.state != "ready":
            return
        row = self._by_load[place[0]]  # as `_leave` and `_enter`, of which this is the most frequent use
        last = row.pop()
        if last is not replica:
            row[place[1]] = last
            last.place = place
        row = self._by_load[load]
        replica.place = (load, len(row))
        row.append(replica)

    # Small things

    def _chance(self) -> float:
        if not self._uniform:
            self._uniform = self._rng.random(_BLOCK).tolist()
        return self._uniform.pop()
