"""Open-loop load on a live server: requests at their intended times, whatever becomes of those before them.

    trace ──client: create, cancel──► server       at the intended moments
    every sample_s: GET /v1/pools, Ray's dashboard ──► Sample
    at the end:     GET /v1/videos/{id}/events     ──► RequestRow

Latency counts from the intended send. All other times are those of the server's own journal, as its events carry them,
to about the `flush_s` of its pipeline (0.02 s here): nothing depends on how often anybody polls. So both clocks must be
one, and the server runs on this machine. A stage's span goes from its `stage_started` to its `stage_completed`; if a
job ran a stage twice, from the first to the last.

`waiting` and `running` of a sample count calls, as a simulation does. Sends through the client's public face; knows
nothing of how the server was started.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from client import Client, CreateOptions, Event, MagicVideoError, PoolState, Shot, send_openly
from cluster.traffic.measures import Outcome, RequestRow, Sample, StageSample, StageSpan
from cluster.traffic.traces import Trace

PROMPT = "a fox in a snowy forest at dusk"
_THREADS = 16  # that ask for events or cancel at once, in the end
_HTTP_S = 30.0
_POLL_S = 0.2
_LEAD_S = 0.2  # until the sender stands
_CANCEL_S = 30.0  # until what was cancelled at the deadline has stopped


class LiveError(RuntimeError):
    """A live run that cannot go on, in one sentence."""


@dataclass(frozen=True)
class Dashboard:
    """Ray's own HTTP, with a token that was made for it."""

    url: str
    token: str
    app: str = "magicvideo"

    def deployments(self) -> dict[str, Any]:
        """What Serve knows of each deployment."""
        status = self._call("GET", "/api/serve/applications/", None)
        found: dict[str, Any] = status["applications"][self.app]["deployments"]
        return found

    def scale(self, deployment: str, replicas: int) -> None:
        """Set a stage's replicas, as an external scaler."""
        path = f"/api/v1/applications/{self.app}/deployments/{deployment}/scale"
        self._call("POST", path, {"target_num_replicas": replicas})

    def _call(self, method: str, path: str, body: Any) -> Any:
        try:
            answer = httpx.request(
                method,
                self.url + path,
                json=body,
                headers={"authorization": f"Bearer {self.token}"},
                timeout=_HTTP_S,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise LiveError(f"{method} {self.url}{path} is not answered ({error}).") from error
        if answer.is_error:
            raise LiveError(f"{method} {self.url}{path} is answered {answer.status_code}: {answer.text[:300]}")
        return answer.json() if answer.content else None


@dataclass(frozen=True)
class Observed:
    """What a run gave; `busy_s` are seconds that replicas computed, by stage."""

    rows: tuple[RequestRow, ...]
    samples: tuple[Sample, ...]
    busy_s: Mapping[str, float]


def drive(
    url: str,
    dashboard: Dashboard,
    trace: Trace,
    stages: Sequence[str],
    *,
    deadline_s: float,
    sample_s: float,
    seconds: str | None = None,
    kinds: Mapping[str, CreateOptions] | None = None,
    told: Callable[[int, int], object] = lambda done, total: None,
) -> Observed:
    """Send the trace and wait until every job has ended; at `deadline_s` what is left is cancelled, and has failed.

    `kinds` says what requests of each kind ask beside the prompt.

    Raises:
        LiveError: the server or the dashboard does not answer as it should.
    """
    start_s = time.time() + _LEAD_S
    with Client(url, timeout_s=_HTTP_S) as client, ThreadPoolExecutor(_THREADS) as threads:
        watch = _Watch(client, dashboard, stages, start_s, sample_s)
        try:
            watch.start()
            shots = _send(url, trace, {} if seconds is None else {"seconds": seconds}, kinds or {}, start_s)
            _wait(watch, len(shots), start_s + deadline_s, told, not_before_s=start_s + trace.span_s)
            late = watch.unfinished > 0
            ended_s = time.time() - start_s
            if late:
                list(threads.map(lambda shot: _cancel(client, shot), shots))
                _wait(watch, len(shots), time.time() + _CANCEL_S, told)
            looked = list(threads.map(lambda shot: _events(client, shot), shots))
        except MagicVideoError as error:
            raise LiveError(str(error)) from error
        finally:
            watch.stop()
    rows, busy_s = [], dict.fromkeys(stages, 0.0)
    for number, (shot, events) in enumerate(zip(shots, looked, strict=True)):
        rows.append(_row(number, shot, events, stages, start_s, ended_s if late else None))
        for event in events:
            if event.kind == "stage_output" and event.data["stage"] in busy_s:
                busy_s[event.data["stage"]] += event.data["run_s"]
    over_s = max(trace.span_s, *(row.ended_s for row in rows)) if rows else trace.span_s
    return Observed(tuple(rows), _until(watch.samples, over_s), busy_s)


def _until(samples: Sequence[Sample], over_s: float) -> tuple[Sample, ...]:
    """What was seen up to a moment, and as the last one how it was then."""
    seen = [sample for sample in samples if sample.at_s <= over_s] or [samples[0]]
    return (*seen, replace(seen[-1], at_s=max(over_s, seen[-1].at_s)))


def _send(
    url: str, trace: Trace, asked: CreateOptions, kinds: Mapping[str, CreateOptions], start_s: float
) -> list[Shot]:
    """Every request at its moment, and those given up cancelled at theirs."""
    return asyncio.run(
        send_openly(
            url,
            [arrival.time_s for arrival in trace.arrivals],
            PROMPT,
            lambda number: {**asked, **kinds.get(trace.arrivals[number - 1].kind, {}), "seed": number - 1},
            start=start_s,
            cancels={number: a.cancel_s for number, a in enumerate(trace.arrivals, 1) if a.cancel_s is not None},
        )
    )


def _cancel(client: Client, shot: Shot) -> None:
    with suppress(MagicVideoError):  # it has ended meanwhile
        if shot.id is not None:
            client.videos.cancel(shot.id)


def _events(client: Client, shot: Shot) -> list[Event]:
    """Of a job that has ended, in order; of a request that was refused, none."""
    found = client.videos.events(shot.id) if shot.id is not None else ()
    return [event for event in found if event.kind != "stage_progress"]


def _wait(
    watch: "_Watch", total: int, until_s: float, told: Callable[[int, int], object], *, not_before_s: float = 0.0
) -> None:
    """Until a look that began after now, and after `not_before_s`, finds no job; or the deadline."""
    asked_s = max(time.time() + 1.0, not_before_s)  # the server's answer may be a second old
    while time.time() < until_s:
        if watch.error is not None:
            raise LiveError(str(watch.error)) from watch.error
        told(max(0, total - watch.unfinished), total)
        if watch.looked_s > asked_s and watch.unfinished == 0:
            return
        time.sleep(_POLL_S)


@dataclass
class _Watch:
    """Looks at the pipeline every `sample_s`, in a thread of its own."""

    client: Client
    dashboard: Dashboard
    stages: Sequence[str]
    start_s: float
    sample_s: float
    samples: list[Sample] = field(default_factory=list)
    unfinished: int = 0
    looked_s: float = 0.0
    error: Exception | None = None

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def start(self) -> None:
        self._look()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        failures = 0
        while not self._over.wait(self.sample_s):
            try:
                self._look()
                failures = 0
            except (LiveError, MagicVideoError, KeyError) as error:
                failures += 1
                if failures > 5:  # a busy machine may miss one
                    self.error = error
                    return

    def _look(self) -> None:
        asked_s = time.time()
        pools, served = self.client.pools(), self.dashboard.deployments()
        work = {pool.stage: pool for pool in pools.stages}
        stages = {name: _stage_sample(work[name], served[name]) for name in self.stages}
        queued, running = pools.jobs.get("queued", 0), pools.jobs.get("running", 0)
        self.samples.append(Sample(max(0.0, time.time() - self.start_s), queued, running, stages))
        self.unfinished, self.looked_s = queued + running, asked_s


def _stage_sample(work: PoolState, served: Mapping[str, Any]) -> StageSample:
    states = [replica["state"] for replica in served["replicas"]]
    ready, stopping = states.count("RUNNING"), states.count("STOPPING")
    return StageSample(
        waiting=work.queued,
        running=work.running,
        ready=ready,
        starting=len(states) - ready - stopping,
        stopping=stopping,
        target=served["target_num_replicas"],
    )


def _row(
    number: int,
    shot: Shot,
    events: Sequence[Event],
    stages: Sequence[str],
    start_s: float,
    late_s: float | None,
) -> RequestRow:
    last = events[-1] if events else None
    outcome: Outcome = "failed"
    if last is not None and last.kind in ("completed", "cancelled"):
        outcome = "succeeded" if last.kind == "completed" else "cancelled"
    ended_s = shot.sent_s if last is None else last.at - start_s
    if late_s is not None and ended_s >= late_s:  # it was we who ended it
        outcome, ended_s = "failed", late_s
    return RequestRow(
        id=number,
        intended_s=shot.intended_s,
        arrived_s=events[0].at - start_s if events else shot.intended_s,
        ended_s=ended_s,
        outcome=outcome,
        spans=_spans(events, stages, start_s),
        retries=sum(event.kind == "stage_retried" for event in events),
    )


def _spans(events: Sequence[Event], stages: Sequence[str], start_s: float) -> dict[str, StageSpan]:
    found = {}
    for name in stages:
        own = [event for event in events if event.data.get("stage") == name]
        began = [event.at for event in own if event.kind == "stage_started"]
        ended = [event.at for event in own if event.kind in ("stage_output", "stage_completed")]
        names = [event.data["replica"] for event in own if event.kind == "stage_output"]
        if began and ended:
            replicas = tuple(dict.fromkeys(names))
            found[name] = StageSpan(min(began) - start_s, max(ended) - start_s, replicas)
    return found
