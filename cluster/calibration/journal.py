"""What a served pipeline's own journal tells of it: service times, paths, arrivals, overheads, and how it did.

    GET /v1/videos, GET /v1/videos/{id}/events ──► Seen, one a job ──► learn ──► Learnt ──► scenario, trace

Seconds are those that replicas reported (`run_s` of each call), of each window by itself. A kind is a size, a length
and a path: a job may stop after a stage (`until`) or begin at one (a remix, a restored output). Overheads are what lies
between the events of calls that found a replica free, in the mean; and what lies between two calls of one replica of
which the second had long been there is a part of a call. Stages that computed in the same replicas live together. What
is not in a journal: how long replicas start, and on which node one computed.

The reading is the client's; the rest is pure.
"""

import math
import statistics
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from client import Client, Event, Video
from cluster.experiments.spec import ExperimentError
from cluster.policy.calls import Rules
from cluster.traffic.measures import percentiles
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.scenario import Pool, Scenario, StageTimes
from stages.types import STAGE_NAMES, StageName

_THREADS = 8
_ENDS = ("completed", "failed", "cancelled")
_LONG_S = 0.1  # a call that was there so long before a replica ended another has been waited with, not waited for
_FEW = 5  # calls that say nothing in the mean


@dataclass(frozen=True)
class SeenCall:
    """One call whose output came."""

    index: int
    end_s: float
    run_s: float
    replica: str

    @property
    def start_s(self) -> float:
        return self.end_s - self.run_s


@dataclass(frozen=True)
class Seen:
    """One job that has ended."""

    kind: str
    outcome: str  # the last event's kind
    arrived_s: float  # since the epoch, as all moments here
    ended_s: float
    calls: Mapping[StageName, Sequence[SeenCall]]
    sent: Mapping[StageName, float]  # its first call
    began: Mapping[StageName, float]
    retries: int = 0
    yields: int = 0

    @property
    def path(self) -> tuple[StageName, ...]:
        """The stages that computed for it, and those between them."""
        at = [index for index, name in enumerate(STAGE_NAMES) if self.calls.get(name)]
        return STAGE_NAMES[at[0] : at[-1] + 1] if at else ()

    def run_s(self, stage: StageName) -> float:
        """Of all its calls."""
        return math.fsum(call.run_s for call in self.calls[stage])

    def left_s(self, stage: StageName) -> float | None:
        """Its last output."""
        return max((call.end_s for call in self.calls.get(stage, ())), default=None)

    def ready_s(self, stage: StageName, index: int) -> float | None:
        """When a call had its input: a window behind one of as many, with it and the one before it."""
        before = self.calls.get(STAGE_NAMES[STAGE_NAMES.index(stage) - 1], ()) if stage != STAGE_NAMES[0] else ()
        if len(before) == len(self.calls[stage]) > 1:
            return max(call.end_s for call in before if call.index in (index, index - 1))
        return self.sent.get(stage)


@dataclass(frozen=True)
class LearntStage:
    """Of one job, all of its calls together."""

    mean_s: float
    cv: float  # of a call, within its kind and window
    windows: int
    share: float  # of the jobs, those that pass it
    shares: tuple[float, ...] = ()  # of the seconds, by window; (): all alike


@dataclass(frozen=True)
class Learnt:
    """All that a journal tells."""

    stages: Mapping[StageName, LearntStage]
    factors: Mapping[str, Mapping[str, float]]  # kind -> stage -> on its seconds
    paths: Mapping[str, tuple[str, ...]]
    submit_s: float
    hop_s: float  # from one stage to the next, and to its replica and back
    finish_s: float
    trace: Trace
    latency_s: Mapping[str, float]  # of those that were completed
    outcomes: Mapping[str, int]
    retries: int
    preset: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)  # of stages that live in another's replicas

    def scenario(self, replicas: Mapping[str, int], start_up_s: Mapping[str, float] | None = None) -> Scenario:
        """The twin of it, in the order that servers have by default."""
        starts = start_up_s or {}
        return Scenario(
            {
                name: StageTimes(own.mean_s, own.cv, starts.get(name, 0.0), own.windows, shares=own.shares)
                for name, own in self.stages.items()
            },
            {name: Pool(max(1, replicas.get(self.hosts.get(name, name), 1))) for name in self.stages},
            submit_s=max(0.0, self.submit_s - self.hop_s),
            router_s=self.hop_s,
            finish_s=self.finish_s,
            kinds=self.factors,
            paths=self.paths,
            order=Rules(),
            sample_s=60.0,
            hosts=self.hosts,
        )


def read_journal(
    client: Client,
    since_s: float,
    until_s: float,
    told: Callable[[int, int], object] = lambda done, total: None,
    preset: str = "",
) -> list[Seen]:
    """Every job of the preset that arrived in that time and has ended, the first one first.

    Raises:
        ExperimentError: there is none.
    """
    wanted, newest_s, others = list[Video](), 0.0, Counter[str]()
    for video in client.videos.iterate(order="desc", page_size=100):
        newest_s = max(newest_s, float(video.created_at))
        if video.created_at < since_s - 1:
            break
        if video.created_at <= until_s and video.status in ("completed", "failed", "cancelled"):
            if preset in ("", video.model):
                wanted.append(video)
            else:
                others[video.model] += 1
    found = list[Seen]()
    with ThreadPoolExecutor(_THREADS) as threads:
        told_of = threads.map(lambda own: list(client.videos.events(own.id)), wanted)
        for video, events in zip(wanted, told_of, strict=True):
            found.append(seen(video.size, video.seconds, events))
            told(len(found), len(wanted))
    kept = sorted((job for job in found if since_s <= job.arrived_s <= until_s), key=lambda job: job.arrived_s)
    if not any(job.path for job in kept):
        if others:
            named = ", ".join(f"{count} of preset {model}" for model, count in others.items())
            raise ExperimentError(
                f"No video of preset {preset}, which is served, has been computed in the "
                f"{(until_s - since_s) / 3600:g} h that were asked for, only {named}; wait for some, or give a longer "
                "--hours."
            )
        ago = f"the newest came {max(0.0, until_s - newest_s) / 3600:.1f} h before that" if newest_s else "it has none"
        raise ExperimentError(
            f"No video of the {(until_s - since_s) / 3600:g} h that were asked for has been computed and ended; {ago}; "
            "give a longer --hours."
        )
    return kept


def seen(size: str, seconds: str, events: Sequence[Event]) -> Seen:
    """One job of its events, in their order."""
    calls, began, sent = defaultdict[Any, list[SeenCall]](list), dict[Any, float](), dict[Any, float]()
    for event in events:
        name = event.data.get("stage")
        if event.kind == "stage_queued":
            sent.setdefault(name, event.at)
        elif event.kind == "stage_started":
            began.setdefault(name, event.at)
        elif event.kind == "stage_output":
            data = event.data
            calls[name].append(SeenCall(data["index"], event.at, float(data["run_s"]), data["replica"]))
    job = Seen(
        kind="",
        outcome=events[-1].kind if events and events[-1].kind in _ENDS else "failed",
        arrived_s=events[0].at if events else 0.0,
        ended_s=events[-1].at if events else 0.0,
        calls={name: sorted(own, key=lambda call: call.index) for name, own in calls.items()},
        sent=sent,
        began=began,
        retries=sum(event.kind == "stage_retried" for event in events),
        yields=sum(event.kind == "stage_yielded" for event in events),
    )
    way = "" if job.path == STAGE_NAMES else f" {'-'.join(job.path) or 'nothing'}"
    return replace(job, kind=f"{size} {seconds}s{way}")


def learn(jobs: Sequence[Seen], preset: str = "") -> Learnt:
    """What they have in common. At least one has been computed."""
    whole = [job for job in jobs if job.path and job.outcome == "completed"] or [job for job in jobs if job.path]
    begun_s = jobs[0].arrived_s
    hosts = _hosts(jobs)
    home = {str(name): hosts.get(name, name) for name in STAGE_NAMES}
    lines = {name: _Line(jobs, name, [own for own in STAGE_NAMES if home[own] == home[name]]) for name in STAGE_NAMES}
    hop_s = _mean(_hops(whole, lines)) + _mean(_ways(whole))
    turns = {name: line.turn_s for name, line in lines.items()}
    stages, factors = dict[StageName, LearntStage](), defaultdict[str, dict[str, float]](dict)
    for name in STAGE_NAMES:
        through = [job for job in whole if job.calls.get(name)]
        stages[name] = _stage(through, name, len(whole), turns[name])
        for kind in {job.kind for job in through}:
            own_s = statistics.fmean(job.run_s(name) for job in through if job.kind == kind)
            all_s = statistics.fmean(job.run_s(name) for job in through)
            factors[kind][name] = own_s / all_s if all_s else 1.0
    stages = _even_windows(stages)
    done = [job.ended_s - job.arrived_s for job in jobs if job.outcome == "completed"]
    arrivals = tuple(Arrival(job.arrived_s - begun_s, job.kind) for job in jobs if job.path)
    first = [(job, job.path[0]) for job in whole if job.path[0] in job.began]
    ends = [(job.ended_s, job.left_s(job.path[-1])) for job in whole]
    return Learnt(
        stages=stages,
        factors=dict(factors),
        paths={job.kind: job.path for job in jobs if job.path},
        submit_s=_mean([(job.began[name] - job.arrived_s, lines[name].free(job)) for job, name in first]),
        hop_s=max(0.0, hop_s - statistics.fmean(turns[name] for name in stages if stages[name].share)),
        finish_s=statistics.median(ended_s - left_s for ended_s, left_s in ends if left_s is not None),
        trace=Trace("journal", arrivals, max(job.ended_s for job in jobs) - begun_s),
        latency_s=percentiles(done),
        outcomes=dict(Counter(job.outcome for job in jobs)),
        retries=sum(job.retries for job in jobs),
        preset=preset,
        hosts=hosts,
    )


def _hosts(jobs: Sequence[Seen]) -> dict[str, str]:
    """Of stages that computed in replicas of another: that one, I2V where it is among them, as the planner has it."""
    groups = list[tuple[set[StageName], set[str]]]()
    for name in STAGE_NAMES:
        stages, replicas = {name}, {call.replica for job in jobs for call in job.calls.get(name, ())}
        for group in [group for group in groups if group[1] & replicas]:
            groups.remove(group)
            stages, replicas = stages | group[0], replicas | group[1]
        groups.append((stages, replicas))
    first = [(stages, "i2v" if "i2v" in stages else min(stages, key=STAGE_NAMES.index)) for stages, _ in groups]
    return {guest: host for stages, host in first for guest in STAGE_NAMES if guest in stages and guest != host}


def _stage(jobs: Sequence[Seen], name: StageName, of: int, turn_s: float) -> LearntStage:
    """What they have in common there, of so many jobs in all."""
    if not jobs:
        return LearntStage(0.0, 0.0, 1, 0.0)
    alike = defaultdict[tuple[str, int], list[float]](list)
    for job in jobs:
        for call in job.calls[name]:
            alike[job.kind, call.index].append(call.run_s)
    apart = [own_s / mean for seconds in alike.values() if (mean := statistics.fmean(seconds)) for own_s in seconds]
    windows = Counter(len(job.calls[name]) for job in jobs).most_common(1)[0][0]
    usual = [[call.run_s for call in job.calls[name]] for job in jobs if len(job.calls[name]) == windows]
    by_window = [statistics.fmean(column) for column in zip(*usual, strict=True)]
    whole_s = math.fsum(by_window)
    return LearntStage(
        statistics.fmean(job.run_s(name) for job in jobs) + windows * turn_s,
        statistics.pstdev(apart) if len(apart) > 1 else 0.0,
        windows,
        len(jobs) / of,
        tuple(seconds / whole_s for seconds in by_window) if windows > 1 and whole_s else (),
    )


class _Line:
    """The calls of one stage, and of those that live with it, on their replicas."""

    def __init__(self, jobs: Sequence[Seen], stage: StageName, together: Sequence[StageName]) -> None:
        self._stage = stage
        self._on = defaultdict[str, list[tuple[SeenCall, float | None]]](list)
        for job in jobs:
            for name in together:
                for call in job.calls.get(name, ()):
                    self._on[call.replica].append((call, job.ready_s(name, call.index)))
        for own in self._on.values():
            own.sort(key=lambda entry: entry[0].end_s)
        calls = [entry for own in self._on.values() for entry in own]
        self._ready = sorted(call.start_s if ready_s is None else ready_s for call, ready_s in calls)
        self._ends = sorted(call.end_s for call, _ in calls)

    def free(self, job: Seen) -> bool:
        """Whether fewer calls waited or ran than there are replicas when the job's were sent."""
        at_s = job.sent.get(self._stage)
        if at_s is None:
            return False
        own = sum((job.ready_s(self._stage, call.index) or at_s) <= at_s for call in job.calls.get(self._stage, ()))
        return bisect(self._ready, at_s) - bisect(self._ends, at_s) - own < len(self._on)

    @property
    def turn_s(self) -> float:
        """Between two calls of a replica, the second of which had been there for long."""
        gaps = [
            after.start_s - before.end_s
            for own in self._on.values()
            for (before, _), (after, ready_s) in pairwise(own)
            if ready_s is not None and ready_s < before.end_s - _LONG_S
        ]
        return max(0.0, statistics.median(gaps)) if len(gaps) >= _FEW else 0.0


_Spans = Sequence[tuple[float, bool]]
"""Seconds, and whether nothing was waited for."""


def _hops(jobs: Sequence[Seen], lines: Mapping[StageName, _Line]) -> _Spans:
    """Between two stages that follow each other and whose calls do not overlap."""
    return [
        (job.began[after] - left_s, lines[after].free(job))
        for job in jobs
        for before, after in pairwise(job.path)
        if after in job.began and (left_s := job.left_s(before)) is not None and job.began[after] >= left_s
    ]


def _ways(jobs: Sequence[Seen]) -> _Spans:
    """To a replica and back, beside what it computed, of stages that were called once."""
    return [
        (calls[0].end_s - job.began[name] - calls[0].run_s, True)
        for job in jobs
        for name, calls in job.calls.items()
        if len(calls) == 1 and name in job.began
    ]


def _mean(spans: _Spans) -> float:
    """Of those that did not wait; where there are few, the lower quarter of all."""
    free = [seconds for seconds, waited_for_nothing in spans if waited_for_nothing]
    every = [seconds for seconds, _ in spans] or [0.0]
    usual_s = statistics.quantiles(every, n=4)[0] if len(every) > 1 else every[0]
    return max(0.0, statistics.fmean(free) if len(free) >= _FEW else usual_s)


def _even_windows(stages: Mapping[StageName, LearntStage]) -> dict[StageName, LearntStage]:
    """VFI's windows follow V2V's one by one; where a journal says otherwise, all are one."""
    counts = {own.windows for own in stages.values()} - {1}
    if len(counts) < 2:
        return dict(stages)
    return {name: LearntStage(own.mean_s, own.cv, 1, own.share) for name, own in stages.items()}
