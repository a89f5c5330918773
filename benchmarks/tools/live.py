"""What benchmarks of a running application share: an open loop of requests, how they ended, which replicas there were.

`send_openly` posts at given times whether or not the server keeps up; `ended` waits until the journal holds the end of
every job and gives rows in the form that a simulation has too (`cluster.traffic.measures`). A latency counts from the
intended send time until the journal has the end, which is when event streams tell it; a client that polls sees it
later by its own period. `Replicas` samples Serve's own count of a stage's replicas, from which GPU-seconds follow.

Takes a URL, a journal and arguments of the application. Measures with the clock of one machine: the server must run on
this one. Knows nothing of policies or of what a benchmark claims.
"""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ray import serve

import client
from cluster.traffic.measures import RequestRow, Sample, StageSample, StageSpan, held_gpu_s
from deployments.jobs.values import Job
from deployments.journal.journal import Journal
from stages.types import STAGE_NAMES, StageName

PROMPT = "a fox in a snowy forest at dusk"
DEADLINE_S = 600.0
_POLL_S = 0.25  # between two looks at the journal: one cheap query
_LEAD_S = 0.2  # until the sender stands
_STOPPED = ("STOPPING", "PENDING_MIGRATION")


@dataclass(frozen=True)
class Sent:
    """One request that was accepted. Seconds since the epoch."""

    id: str
    intended_s: float
    arrived_s: float


def send_openly(url: str, times_s: Sequence[float], *, seed: int = 0) -> list[Sent]:
    """POST one request at each of `times_s`, counted from almost now; returns once the last one is accepted."""
    start = time.time() + _LEAD_S
    shots = asyncio.run(
        client.send_openly(url, times_s, PROMPT, lambda number: {"seed": seed + number - 1}, start=start)
    )
    sent = []
    for shot in shots:
        if shot.id is None or shot.accepted_s is None:
            raise RuntimeError(f"Request {shot.number} was not accepted: {shot.outcome}.")
        intended_s = start + shot.intended_s
        sent.append(Sent(shot.id, intended_s, intended_s + shot.accepted_s))
    return sent


def ended(journal: Journal, sent: Sequence[Sent]) -> list[Job]:
    """The jobs of `sent` once every one of them is finished.

    Raises:
        RuntimeError: one has failed, or none of this ends.
    """
    deadline = time.monotonic() + DEADLINE_S
    while set(journal.counts()) - {"succeeded", "failed", "cancelled"}:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"After {DEADLINE_S:g} s the jobs are {journal.counts()}; a benchmark of stuck jobs is none."
            )
        time.sleep(_POLL_S)
    jobs = [journal.get(one.id) for one in sent]
    if failed := [job for job in jobs if job.state != "succeeded"]:
        raise RuntimeError(
            f"{failed[0].id} is {failed[0].state} ({failed[0].error}); a benchmark of failing jobs is none."
        )
    return jobs


def rows_of(sent: Sequence[Sent], jobs: Sequence[Job]) -> list[RequestRow]:
    """Rows whose seconds count from the first intended send."""
    zero = min(one.intended_s for one in sent)
    none: Mapping[str, StageSpan] = {}
    return [
        RequestRow(
            number, one.intended_s - zero, one.arrived_s - zero, (job.finished_at or 0.0) - zero, "succeeded", none
        )
        for number, (one, job) in enumerate(zip(sent, jobs, strict=True))
    ]


def replicas_now(app_name: str) -> dict[str, StageSample]:
    """Serve's count for every stage: ready, starting, and stopping ones, which hold their GPU until they have ended."""
    deployments = serve.status().applications[app_name].deployments
    found: dict[str, StageSample] = {}
    for name in STAGE_NAMES:
        states = {str(state): int(count) for state, count in deployments[name].replica_states.items()}
        ready, stopping = states.get("RUNNING", 0), sum(states.get(state, 0) for state in _STOPPED)
        starting = sum(states.values()) - ready - stopping
        found[name] = StageSample(0, 0, ready, starting, stopping, ready + starting)
    return found


def wait_for_replicas(app_name: str, wanted: Mapping[StageName, int]) -> None:
    """Until exactly so many run and no other one starts or stops."""
    deadline = time.monotonic() + DEADLINE_S
    while any(
        (stage.ready, stage.starting, stage.stopping) != (wanted[name], 0, 0)
        for name, stage in ((name, replicas_now(app_name)[name]) for name in STAGE_NAMES)
    ):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{app_name} does not come to {dict(wanted)} replicas, it has {replicas_now(app_name)}.")
        time.sleep(_POLL_S)


class Replicas:
    """`with Replicas(app_name, gpus) as watched:` samples until the block ends; `watched.gpu_s` is then what was held.

    A replica that waits for a free GPU is starting to Serve and holds nothing: more than the `gpus` there are is never
    counted. One GPU a replica.
    """

    def __init__(self, app_name: str, gpus: int, period_s: float = 0.25) -> None:
        self._app_name, self._gpus, self._period_s = app_name, gpus, period_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="replicas", daemon=True)
        self._failed: BaseException | None = None
        self.samples: list[Sample] = []
        self.gpu_s: dict[str, float] = {}

    def _watch(self) -> None:
        try:
            while not self._end.wait(self._period_s):
                self._look()
        except BaseException as error:  # told in __exit__, where somebody hears it
            self._failed = error

    def _look(self) -> None:
        stages = replicas_now(self._app_name)
        self.samples.append(Sample(time.monotonic(), 0, 0, within(stages, self._gpus)))

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if self._failed is not None and kind is None:
            raise RuntimeError("Serve could not be asked for its replicas.") from self._failed
        if kind is None:
            self._look()
        self.gpu_s = held_gpu_s(self.samples, dict.fromkeys(STAGE_NAMES, 1.0))


def within(stages: Mapping[str, StageSample], gpus: int) -> dict[str, StageSample]:
    """The same without those starting replicas for which there cannot be a GPU."""
    room = gpus - sum(stage.ready + stage.stopping for stage in stages.values())
    kept = {}
    for name, stage in stages.items():
        starting = max(0, min(stage.starting, room))
        room -= starting
        kept[name] = StageSample(stage.waiting, stage.running, stage.ready, starting, stage.stopping, stage.target)
    return kept
