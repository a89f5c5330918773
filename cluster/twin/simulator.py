"""The twin of the served pipeline: jobs arrive, wait, run, are cancelled, fail and end, in simulated time.

    trace ─► journal ─► t2i ─► i2v ─► v2v, a call a window ─► vfi, a window at a time ─► end
                 max_jobs        every stage: a queue, replicas that start and stop (`twin_pool`)
                                 every control_s: policy.decide(snapshot) ─► targets

Takes a `Scenario`, a `Trace` and a policy; gives a `Run`: one row a request, samples over time and the figures, in the
form that live experiments have too (`cluster.traffic.measures`). The same seed gives the same run, and under every
policy a job's calls take the same seconds, so that two policies are compared on the same work.

What it does not know: how far apart nodes are, memory, retries of whole jobs after a lost node, other users of the
machines, and any dependence of one call's seconds on another's.
"""

import gc
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.policy.arrivals import ArrivalMeter, PathMeter
from cluster.policy.serve_rule import Fixed
from cluster.policy.types import Policy, Snapshot, StageNow, State
from cluster.traffic.measures import Metrics, Outcome, RequestRow, Sample, measure, write_run
from cluster.traffic.traces import Trace
from cluster.twin.clock import Clock
from cluster.twin.nodes import Nodes
from cluster.twin.ordered import OrderedPool, factor, is_refused
from cluster.twin.parts import Call, Gpus, Job
from cluster.twin.scenario import Faults, JobClass, NodePool, Pool, Scenario, StageTimes, TwinError
from cluster.twin.stage import StagePool

__all__ = ["Faults", "JobClass", "NodePool", "Pool", "Run", "Scenario", "StageTimes", "TwinError", "simulate"]

Told = Callable[[int, int], object]


@dataclass(frozen=True)
class Run:
    """What a simulation gives."""

    rows: tuple[RequestRow, ...]
    samples: tuple[Sample, ...]
    metrics: Metrics
    stages: tuple[str, ...]
    yields: tuple[int, ...] = ()  # of each request's calls, where the scenario has an order

    def write(self, folder: Path) -> None:
        """`requests.csv`, `samples.csv`, `metrics.json`."""
        write_run(folder, self.rows, self.samples, self.metrics, self.stages)


def simulate(
    scenario: Scenario, trace: Trace, policy: Policy | None = None, *, seed: int = 0, told: Told | None = None
) -> Run:
    """Every request of the trace until its end; without a policy the replicas stay as they are.

    `told(ended, requests)` hears of them at each decision of the policy.

    Raises:
        TwinError: a request can never end, because a stage has no replica and no policy starts one; or the trace
            names a kind that the scenario does not know.
    """
    twin = _Twin(scenario, trace, policy or Fixed(), seed, told)
    collecting = gc.isenabled()
    gc.disable()  # nothing becomes garbage in a cycle before the end, and looking for it takes a third of the time
    try:
        return twin.run()
    finally:
        if collecting:
            gc.enable()


class _Twin:
    """One simulation; used once."""

    def __init__(self, scenario: Scenario, trace: Trace, policy: Policy, seed: int, told: Told | None) -> None:
        self._scenario, self._trace, self._policy = scenario, trace, policy
        self._clock = Clock()
        self._names = list(scenario.stages)
        self._windows = [scenario.stages[name].windows for name in self._names]
        self._rng = np.random.default_rng([seed, 0, 0])
        self._nodes = Nodes(self._clock, scenario, seed) if scenario.nodes else None
        gpus = self._nodes or Gpus(scenario.budget_gpus)
        made = StagePool if scenario.order is None else OrderedPool
        own = [(at, name) for at, name in enumerate(self._names) if name not in scenario.hosts]
        self._pools = [made(self._clock, at, name, scenario, self, gpus, seed) for at, name in own]
        named = {pool.name: pool for pool in self._pools}
        self._at = [named[scenario.hosts.get(name, name)] for name in self._names]  # of each stage
        self._seconds = [self._draw(name, index, seed) for index, name in enumerate(self._names)]
        ways = {kind: self._way(kind) for kind in {arrival.kind for arrival in trace.arrivals}}
        self._jobs = [
            Job(number, arrival, len(self._names), ways[arrival.kind]) for number, arrival in enumerate(trace.arrivals)
        ]
        self._paths = PathMeter(self._names)
        self._journal: deque[Job] = deque()
        self._queued = self._in_flight = self._ended = self._arrived = self._stuck = 0
        self._meter, self._may_raise = ArrivalMeter(scenario.rate_window_s), scenario.faults.call_failure > 0
        self._samples: list[Sample] = []
        self._told = told
        self._state: State = {}
        self._sampled_s = -scenario.sample_s

    def run(self) -> Run:
        for pool in self._pools:
            pool.start_at_once(self._scenario.pools[pool.name].replicas)
        if self._nodes is not None:
            self._nodes.begin()
        if self._jobs:
            self._begin()
            self._clock.run()
        if self._clock.now < self._trace.span_s:
            if not self._jobs:
                self._begin()
            self._clock.run(self._trace.span_s)
        for pool in self._pools:
            pool.settle()
        if self._nodes is not None:
            self._nodes.settle()
        self._sample()
        rows = tuple(job.row(self._names) for job in self._jobs)
        metrics = measure(
            rows,
            {pool.name: pool.gpu_s for pool in self._pools},
            busy_gpu_s={pool.name: pool.busy_gpu_s for pool in self._pools},
            prices_per_hour={name: pool.price_per_hour for name, pool in self._scenario.pools.items()},
            node_s=self._nodes.node_s if self._nodes is not None else None,
            node_prices_per_hour={name: kind.price_per_hour for name, kind in self._scenario.nodes.items()},
            start_ups=sum(pool.started for pool in self._pools),
            yields=sum(job.yields for job in self._jobs),
        )
        yields = tuple(job.yields for job in self._jobs) if self._scenario.order is not None else ()
        return Run(rows, tuple(self._samples), metrics, tuple(self._names), yields)

    # What happens by itself

    def _begin(self) -> None:
        self._arrive()
        self._control()

    def _arrive(self) -> None:
        """The jobs of this moment; then it waits for the next one's."""
        while self._arrived < len(self._jobs):
            job = self._jobs[self._arrived]
            ahead_s = job.arrival.time_s - self._clock.now
            if ahead_s > 0 and self._clock.now + ahead_s > self._clock.now:
                self._clock.after(ahead_s, self._arrive)
                return
            self._arrived += 1
            self._meter.add(self._clock.now)
            self._paths.add(self._names[job.first : job.last + 1])
            refused = self._scenario.refuses and is_refused(self._scenario, self._pools, job.arrival, self._journal)
            self._journal.append(job)
            self._queued += 1
            if refused:
                self._end(job, "refused")
                continue
            if job.arrival.cancel_s is not None:
                self._later(job.arrival.cancel_s - self._clock.now, self._give_up, job)
            self._claim()

    def _control(self) -> None:
        decision = self._policy.decide(self._snapshot(), self._state)
        self._state = decision.state
        moves = [(pool, self._bounded(pool, decision.targets.get(pool.name, pool.target))) for pool in self._pools]
        for pool, target in sorted(moves, key=lambda move: move[1] - move[0].target):  # free GPUs before taking them
            if target != pool.target:
                pool.set_target(target)
        if self._nodes is not None:
            self._nodes.compact()
        if self._clock.now - self._sampled_s >= self._scenario.sample_s - 1e-9:
            self._sampled_s = self._clock.now
            self._sample()
        if self._told is not None:
            self._told(self._ended, len(self._jobs))
        self._stuck = self._stuck + 1 if self._is_stuck() else 0
        if self._stuck > 100_000:
            names = ", ".join(pool.name for pool in self._pools if pool.waiting and not pool.ready)
            raise TwinError(f"Nothing ends any more: stage {names} has work and no replica, and none is started.")
        self._clock.after(self._scenario.control_s, self._control)

    def _is_stuck(self) -> bool:
        """Whether all that is left waits for replicas that nobody starts."""
        idle = all(not pool.running and not pool.starting for pool in self._pools)
        return idle and any(pool.waiting and not pool.ready for pool in self._pools)

    def _bounded(self, pool: StagePool, target: int) -> int:
        return max(pool.pool.min_replicas, min(pool.pool.max_replicas, target))

    def _snapshot(self) -> Snapshot:
        rate, trend = self._meter.read(self._clock.now)
        stages = tuple(
            StageNow(
                name=pool.name,
                call_s=pool.times.call_s,
                calls=pool.times.windows,
                start_up_s=pool.times.start_up_s + self._boot_s(pool),
                waiting=pool.waiting,
                running=pool.running,
                remaining_s=pool.remaining_s(),
                busy=pool.busy,
                ready=pool.ready,
                starting=pool.starting,
                pending=self._pending(pool),
                stopping=pool.stopping,
                target=pool.target,
                min_replicas=pool.pool.min_replicas,
                max_replicas=pool.pool.max_replicas,
                gpus=pool.pool.gpus,
                batch=pool.times.batch,
                batch_s=pool.times.batch_s,
                share=self._paths.read(pool.name),
            )
            for pool in self._pools
        )
        about = (self._queued, rate, trend, self._scenario.budget_gpus, self._arrived)
        return Snapshot(self._clock.now, stages, *about)

    def _boot_s(self, pool: StagePool) -> float:
        return self._nodes.boot_s(pool.pool.on, pool.pool.gpus) if self._nodes is not None else 0.0

    def _pending(self, pool: StagePool) -> int:
        return (
            self._nodes.hopeless(pool, pool.pool.on, pool.pool.gpus) if self._nodes is not None and pool.starting else 0
        )

    def _way(self, kind: str) -> tuple[int, int]:
        """The first and the last stage of such jobs."""
        path = self._scenario.paths.get(kind)
        return (self._names.index(path[0]), self._names.index(path[-1])) if path else (0, len(self._names) - 1)

    def _sample(self) -> None:
        stages = {pool.name: pool.sample() for pool in self._pools}
        nodes = self._nodes.counts() if self._nodes is not None else {}
        self._samples.append(Sample(self._clock.now, self._queued, self._in_flight, stages, nodes))

    # A job's way

    def _claim(self) -> None:
        limit = self._scenario.max_jobs
        while self._queued and (limit is None or self._in_flight < limit):
            job = self._journal.popleft()
            if job.outcome is not None:  # cancelled while it waited
                continue
            self._queued -= 1
            self._in_flight += 1
            job.claimed = True
            self._later(self._scenario.submit_s, self._enter, job, job.first)

    def _enter(self, job: Job, stage: int) -> None:
        """Send all of a job's windows to a stage whose whole input is there."""
        if job.outcome is not None:
            return
        count, spread = self._windows[stage], self._scenario.spread
        if count == 1:
            self._send(job, stage, [0])
            return
        runs = count if spread == "calls" else 1
        if spread == "idle":
            runs = max(1, min(count, self._at[stage].idle))
        for run in range(runs):
            self._send(job, stage, list(range(run * count // runs, (run + 1) * count // runs)))

    def _send(self, job: Job, stage: int, parts: list[int]) -> None:
        call = Call(job, stage, parts)
        job.calls.append(call)
        self._at[stage].send(call)
        job.lane[stage] = call

    def part_done(self, call: Call, started_s: float, replica: str) -> None:
        """The window before `call.at` is computed. `StagePool` calls this."""
        job, stage, part = call.job, call.stage, call.parts[call.at - 1]
        span = job.spans[stage]
        if span is None:
            job.spans[stage] = span = [started_s, 0.0, []]
        elif started_s < span[0]:
            span[0] = started_s
        span[1] = self._clock.now
        if replica not in span[2]:
            span[2].append(replica)
        if job.outcome is not None or (self._may_raise and self._raises(call)):
            return
        done = job.done[stage] = job.done[stage] | 1 << part
        after, windows = stage + 1, self._windows[stage]
        if stage == job.last:
            if done == (1 << windows) - 1:
                self._later(self._scenario.finish_s, self._finish, job)
        elif windows > 1 and self._windows[after] == windows:
            if part == 0 or done >> (part - 1) & 1:  # it and the one before it are there
                self._send_window(job, after, part)
            if done >> (part + 1) & 1:
                self._send_window(job, after, part + 1)
        elif done == (1 << windows) - 1:
            self._enter(job, after)

    def _send_window(self, job: Job, stage: int, part: int) -> None:
        """To a call that the job has there already, unless a replica is idle."""
        own = job.lane[stage]
        may_spread = self._scenario.spread == "calls" or (self._scenario.spread == "idle" and self._at[stage].idle)
        if own is not None and own in job.calls and not may_spread:
            self._at[stage].extend(own, part)
        else:
            self._send(job, stage, [part])

    def call_done(self, call: Call) -> None:
        """All windows of a call are computed. `StagePool` calls this."""
        calls = call.job.calls
        if call in calls:
            calls.remove(call)

    def _finish(self, job: Job) -> None:
        if job.outcome is None:
            self._end(job, "succeeded")

    def _end(self, job: Job, outcome: Outcome) -> None:
        """Whatever is still under way for the job is stopped."""
        job.outcome, job.ended_s = outcome, self._clock.now
        for call in job.calls:
            self._at[call.stage].withdraw(call)
        job.calls = []
        if job.claimed:
            self._in_flight -= 1
        else:
            self._queued -= 1
        self._ended += 1
        if self._ended == len(self._jobs):
            self._clock.stop()
        self._claim()

    # What goes wrong

    def _give_up(self, job: Job) -> None:
        if job.outcome is None:
            self._end(job, "cancelled")

    def _raises(self, call: Call) -> bool:
        """Whether the window that a call has just ended has failed; then it is asked for again, or the job fails."""
        faults, job = self._scenario.faults, call.job
        if self._rng.random() >= faults.call_failure:
            return False
        job.failures += 1
        if job.failures > faults.failures:
            self._end(job, "failed")
            return True
        job.retries += 1
        part = call.parts[call.at - 1]
        again = faults.backoff_s * 2 ** (job.failures - 1)
        self._later(again, self._repeat, job, call.stage, [part], 0)
        return True

    def call_lost(self, call: Call) -> None:
        """A replica has died under a call. `StagePool` calls this."""
        job = call.job
        if job.outcome is not None:
            return
        job.calls.remove(call)
        if call.lost + 1 >= self._scenario.faults.attempts:
            self._end(job, "failed")
            return
        job.retries += 1
        self._later(self._scenario.faults.detect_s, self._repeat, job, call.stage, call.parts[call.at :], call.lost + 1)

    def _repeat(self, job: Job, stage: int, parts: list[int], lost: int) -> None:
        if job.outcome is None:
            self._send(job, stage, parts)
            job.calls[-1].lost = lost

    # Numbers

    def seconds(self, call: Call, part: int) -> float:
        """Of computing one window, the same however often it is asked for. `StagePool` calls this."""
        job: Job = call.job
        drawn = self._seconds[call.stage][job.id * self._windows[call.stage] + part]
        kinds = self._scenario.kinds
        return drawn * factor(self._scenario, job.arrival.kind, self._names[call.stage]) if kinds else drawn

    def _draw(self, name: str, index: int, seed: int) -> list[float]:
        """Seconds of every call of a stage, by job and window."""
        known = {**self._scenario.kinds, **self._scenario.classes, **self._scenario.paths}
        if unknown := {arrival.kind for arrival in self._trace.arrivals} - {"", *known}:
            told = ", ".join(known) or "none"
            raise TwinError(f"The trace names the kind {sorted(unknown)[0]!r}, the scenario knows {told}.")
        times = self._scenario.stages[name]
        count = len(self._trace.arrivals) * times.windows
        means = [times.mean_s * share for share in times.shares] or [times.call_s] * times.windows
        if times.cv == 0 or times.mean_s == 0:
            return means * len(self._trace.arrivals)
        shape, rng = 1 / times.cv**2, np.random.default_rng([seed, index, 2])
        parts = np.tile(means, len(self._trace.arrivals)) / times.call_s if times.shares else 1.0
        drawn: list[float] = (rng.gamma(shape, times.call_s / shape, count) * parts).tolist()
        return drawn

    def _later(self, delay_s: float, action: Any, *values: Any) -> None:
        if delay_s <= 0:
            action(*values)
            return
        self._clock.after(delay_s, action, *values)
