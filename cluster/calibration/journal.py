"""What a served pipeline's own journal tells of it: service times, paths, arrivals, overheads, and how it did.

    GET /v1/videos, GET /v1/videos/{id}/events ──► Seen, one a job ──► learn ──► Learnt ──► scenario, trace

Seconds are those that replicas reported (`run_s` of each call). A kind is a size, a length and a path: a job may stop
after a stage (`until`) or begin at one (a remix, a restored output). Overheads are what lies between the events of jobs
that did not wait: the lower quarter of what was seen. What is not in a journal: how long replicas start, and on which
node one computed.

The reading is the client's; the rest is pure.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from client import Client, Event, Video
from cluster.experiments.spec import ExperimentError
from cluster.traffic.measures import percentiles
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.scenario import Pool, Scenario, StageTimes
from stages.types import STAGE_NAMES, StageName

_THREADS = 8
_ENDS = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Seen:
    """One job that has ended."""

    kind: str
    outcome: str  # the last event's kind
    arrived_s: float  # since the epoch, as all moments here
    ended_s: float
    runs: Mapping[StageName, Sequence[float]]  # seconds of each call
    began: Mapping[StageName, float]  # its first call
    left: Mapping[StageName, float]  # its last output
    retries: int = 0

    @property
    def path(self) -> tuple[StageName, ...]:
        """The stages that computed for it, and those between them."""
        at = [index for index, name in enumerate(STAGE_NAMES) if self.runs.get(name)]
        return STAGE_NAMES[at[0] : at[-1] + 1] if at else ()


@dataclass(frozen=True)
class LearntStage:
    """Of one job, all of its calls together."""

    mean_s: float
    cv: float  # of a call, within its kind
    windows: int
    share: float  # of the jobs, those that pass it


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

    def scenario(self, replicas: Mapping[str, int], start_up_s: Mapping[str, float] | None = None) -> Scenario:
        """The twin of it."""
        starts = start_up_s or {}
        return Scenario(
            {
                name: StageTimes(own.mean_s, own.cv, starts.get(name, 0.0), own.windows)
                for name, own in self.stages.items()
            },
            {name: Pool(max(1, replicas.get(name, 1))) for name in self.stages},
            submit_s=max(0.0, self.submit_s - self.hop_s),
            router_s=self.hop_s,
            finish_s=self.finish_s,
            kinds=self.factors,
            paths=self.paths,
            sample_s=60.0,
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
    runs, began, left = defaultdict[Any, list[float]](list), dict[Any, float](), dict[Any, float]()
    for event in events:
        name = event.data.get("stage")
        if event.kind == "stage_started":
            began.setdefault(name, event.at)
        elif event.kind == "stage_output":
            runs[name].append(float(event.data["run_s"]))
            left[name] = event.at
    job = Seen(
        kind="",
        outcome=events[-1].kind if events and events[-1].kind in _ENDS else "failed",
        arrived_s=events[0].at if events else 0.0,
        ended_s=events[-1].at if events else 0.0,
        runs=dict(runs),
        began=began,
        left=left,
        retries=sum(event.kind == "stage_retried" for event in events),
    )
    way = "" if job.path == STAGE_NAMES else f" {'-'.join(job.path) or 'nothing'}"
    return Seen(**{**vars(job), "kind": f"{size} {seconds}s{way}"})


def learn(jobs: Sequence[Seen], preset: str = "") -> Learnt:
    """What they have in common. At least one has been computed."""
    whole = [job for job in jobs if job.path and job.outcome == "completed"] or [job for job in jobs if job.path]
    begun_s = jobs[0].arrived_s
    stages, factors = dict[StageName, LearntStage](), defaultdict[str, dict[str, float]](dict)
    for name in STAGE_NAMES:
        through = [job for job in whole if job.runs.get(name)]
        if not through:
            stages[name] = LearntStage(0.0, 0.0, 1, 0.0)
            continue
        mean_s = statistics.fmean(math.fsum(job.runs[name]) for job in through)
        calls = list[float]()  # each over the mean of its kind
        for kind in sorted({job.kind for job in through}):
            own = [job for job in through if job.kind == kind]
            own_s = statistics.fmean(math.fsum(job.runs[name]) for job in own)
            factors[kind][name] = own_s / mean_s if mean_s else 1.0
            call_s = statistics.fmean(second for job in own for second in job.runs[name])
            calls += [second / call_s for job in own for second in job.runs[name] if call_s]
        windows = Counter(len(job.runs[name]) for job in through).most_common(1)[0][0]
        cv = statistics.pstdev(calls) if len(calls) > 1 else 0.0
        stages[name] = LearntStage(mean_s, cv, windows, len(through) / len(whole))
    stages = _even_windows(stages)
    done = [job.ended_s - job.arrived_s for job in jobs if job.outcome == "completed"]
    arrivals = tuple(Arrival(job.arrived_s - begun_s, job.kind) for job in jobs if job.path)
    return Learnt(
        stages=stages,
        factors=dict(factors),
        paths={job.kind: job.path for job in jobs if job.path},
        submit_s=_usual([job.began[job.path[0]] - job.arrived_s for job in whole if job.path[0] in job.began]),
        hop_s=_usual(_hops(whole)) + _usual(_ways(whole)),
        finish_s=_usual([job.ended_s - job.left[job.path[-1]] for job in whole if job.path[-1] in job.left]),
        trace=Trace("journal", arrivals, max(job.ended_s for job in jobs) - begun_s),
        latency_s=percentiles(done),
        outcomes=dict(Counter(job.outcome for job in jobs)),
        retries=sum(job.retries for job in jobs),
        preset=preset,
    )


def _hops(jobs: Sequence[Seen]) -> list[float]:
    """Between two stages that follow each other and whose calls do not overlap."""
    return [
        job.began[after] - job.left[before]
        for job in jobs
        for before, after in pairwise(job.path)
        if before in job.left and after in job.began and job.began[after] >= job.left[before]
    ]


def _ways(jobs: Sequence[Seen]) -> list[float]:
    """To a replica and back, beside what it computed, of stages that were called once."""
    return [
        job.left[name] - job.began[name] - job.runs[name][0]
        for job in jobs
        for name in job.path
        if len(job.runs[name]) == 1 and name in job.began
    ]


def _usual(seconds: Sequence[float]) -> float:
    """Of those that did not wait."""
    return max(0.0, statistics.quantiles(seconds, n=4)[0] if len(seconds) > 1 else (seconds or [0.0])[0])


def _even_windows(stages: Mapping[StageName, LearntStage]) -> dict[StageName, LearntStage]:
    """VFI's windows follow V2V's one by one; where a journal says otherwise, all are one."""
    counts = {own.windows for own in stages.values()} - {1}
    if len(counts) < 2:
        return dict(stages)
    return {name: LearntStage(own.mean_s, own.cv, 1, own.share) for name, own in stages.items()}
