"""Open-loop load on a live server: requests at their intended times, whatever becomes of those before them.

    trace ──POST /v1/videos, DELETE──► server      at the intended moments, each from a thread of its own
    every sample_s: GET /v1/pools, Ray's dashboard ──► Sample
    at the end:     GET /v1/videos/{id}/events     ──► RequestRow

Latency counts from the intended send. All other times are those of the server's own journal, as its events carry them,
to about the `flush_s` of its pipeline (0.02 s here): nothing depends on how often anybody polls. So both clocks must be
one, and the server runs on this machine. A stage's span goes from its `stage_started` to its `stage_completed`; if a
job ran a stage twice, from the first to the last.

`waiting` and `running` of a live sample count jobs where a simulation counts calls: a job counts once at a stage,
however many windows it has there. Standard library only; knows nothing of how the server was started.
"""

import heapq
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.measures import Outcome, RequestRow, Sample, StageSample, StageSpan
from cluster.traces import Trace

PROMPT = "a fox in a snowy forest at dusk"
_THREADS = 64  # requests that may wait for an answer at once
_HTTP_S = 30.0
_POLL_S = 0.2
_CANCEL_S = 30.0  # until what was cancelled at the deadline has stopped


class LiveError(RuntimeError):
    """A live run that cannot go on, in one sentence."""


@dataclass(frozen=True)
class Api:
    """The two servers: ours, and Ray's dashboard with a token that was made for it."""

    url: str
    dashboard_url: str
    token: str
    app: str = "magicvideo"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Our server's answer.

        Raises:
            LiveError: none, or an error.
        """
        return _json(self.url + path, method, body, {})

    def events(self, video_id: str) -> list[dict[str, Any]]:
        """Of a job that has ended, in order."""
        text = _text(f"{self.url}/v1/videos/{video_id}/events", "GET", None, {})
        found = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        return [event for event in found if event["kind"] != "stage_progress"]

    def deployments(self) -> dict[str, Any]:
        """What Serve knows of each deployment."""
        status = _json(f"{self.dashboard_url}/api/serve/applications/", "GET", None, self._headers)
        found: dict[str, Any] = status["applications"][self.app]["deployments"]
        return found

    def scale(self, deployment: str, replicas: int) -> None:
        """Set a stage's replicas, as an external scaler."""
        path = f"/api/v1/applications/{self.app}/deployments/{deployment}/scale"
        _json(self.dashboard_url + path, "POST", {"target_num_replicas": replicas}, self._headers)

    @property
    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}


@dataclass
class _Shot:
    """One request, as far as it is."""

    intended_s: float
    id: str | None = None
    refused_s: float | None = None  # when the server said no


@dataclass(frozen=True)
class Observed:
    """What a run gave; `busy_s` are seconds that replicas computed, by stage."""

    rows: tuple[RequestRow, ...]
    samples: tuple[Sample, ...]
    busy_s: Mapping[str, float]


def drive(
    api: Api,
    trace: Trace,
    stages: Sequence[str],
    *,
    deadline_s: float,
    sample_s: float,
    told: Callable[[int, int], object] = lambda done, total: None,
) -> Observed:
    """Send the trace and wait until every job has ended; at `deadline_s` what is left is cancelled, and has failed."""
    start_s = time.time()
    shots = [_Shot(arrival.time_s) for arrival in trace.arrivals]
    watch = _Watch(api, stages, start_s, sample_s)
    watch.start()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        _send(api, pool, shots, trace, start_s)
        _wait(watch, len(shots), start_s + deadline_s, told, not_before_s=start_s + trace.span_s)
        late = watch.unfinished > 0
        ended_s = time.time() - start_s
        if late:
            list(pool.map(lambda shot: _cancel(api, shot), shots))
            _wait(watch, len(shots), time.time() + _CANCEL_S, told)
        watch.stop()
        looked = list(pool.map(lambda shot: api.events(shot.id) if shot.id else [], shots))
    finally:
        watch.stop()
        pool.shutdown(wait=False, cancel_futures=True)
    rows, busy_s = [], dict.fromkeys(stages, 0.0)
    for number, (shot, events) in enumerate(zip(shots, looked, strict=True)):
        rows.append(_row(number, shot, events, stages, start_s, ended_s if late else None))
        for event in events:
            if event["kind"] == "stage_output" and event["data"]["stage"] in busy_s:
                busy_s[event["data"]["stage"]] += event["data"]["run_s"]
    over_s = max(trace.span_s, *(row.ended_s for row in rows)) if rows else trace.span_s
    return Observed(tuple(rows), _until(watch.samples, over_s), busy_s)


def _until(samples: Sequence[Sample], over_s: float) -> tuple[Sample, ...]:
    """What was seen up to a moment, and as the last one how it was then."""
    seen = [sample for sample in samples if sample.at_s <= over_s] or [samples[0]]
    return (*seen, replace(seen[-1], at_s=max(over_s, seen[-1].at_s)))


def _send(api: Api, pool: ThreadPoolExecutor, shots: Sequence[_Shot], trace: Trace, start_s: float) -> None:
    """Every POST and DELETE at its moment; returns when all are answered."""
    plan: list[tuple[float, int, bool]] = [(shot.intended_s, number, False) for number, shot in enumerate(shots)]
    plan += [(a.cancel_s, number, True) for number, a in enumerate(trace.arrivals) if a.cancel_s is not None]
    heapq.heapify(plan)
    answers: list[Future[None]] = []
    while plan:
        at_s, number, gives_up = heapq.heappop(plan)
        time.sleep(max(0.0, start_s + at_s - time.time()))
        answers.append(pool.submit(_cancel if gives_up else _post, api, shots[number], start_s, number))
    for answer in answers:
        answer.result()


def _post(api: Api, shot: _Shot, start_s: float, number: int) -> None:
    try:
        shot.id = api.call("POST", "/v1/videos", {"prompt": PROMPT, "seed": number})["id"]
    except LiveError:
        shot.refused_s = time.time() - start_s


def _cancel(api: Api, shot: _Shot, *_: Any) -> None:
    try:
        if shot.id is not None and api.call("GET", f"/v1/videos/{shot.id}")["status"] in ("queued", "in_progress"):
            api.call("DELETE", f"/v1/videos/{shot.id}")
    except LiveError:
        return  # it has ended meanwhile


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

    api: Api
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
            except (LiveError, KeyError) as error:
                failures += 1
                if failures > 5:  # a busy machine may miss one
                    self.error = error
                    return

    def _look(self) -> None:
        asked_s = time.time()
        pools, served = self.api.call("GET", "/v1/pools"), self.api.deployments()
        work = {pool["stage"]: pool for pool in pools["stages"]}
        stages = {name: _stage_sample(work[name], served[name]) for name in self.stages}
        queued, running = pools["jobs"].get("queued", 0), pools["jobs"].get("running", 0)
        self.samples.append(Sample(time.time() - self.start_s, queued, running, stages))
        self.unfinished, self.looked_s = queued + running, asked_s


def _stage_sample(work: Mapping[str, Any], served: Mapping[str, Any]) -> StageSample:
    states = [replica["state"] for replica in served["replicas"]]
    ready, stopping = states.count("RUNNING"), states.count("STOPPING")
    return StageSample(
        waiting=work["queued"],
        running=work["running"],
        ready=ready,
        starting=len(states) - ready - stopping,
        stopping=stopping,
        target=served["target_num_replicas"],
    )


def _row(
    number: int,
    shot: _Shot,
    events: Sequence[Mapping[str, Any]],
    stages: Sequence[str],
    start_s: float,
    late_s: float | None,
) -> RequestRow:
    last = events[-1] if events else None
    outcome: Outcome = "failed"
    if last is not None and last["kind"] in ("completed", "cancelled"):
        outcome = "succeeded" if last["kind"] == "completed" else "cancelled"
    ended_s = (shot.refused_s or shot.intended_s) if last is None else last["at"] - start_s
    if late_s is not None and ended_s >= late_s:  # it was we who ended it
        outcome, ended_s = "failed", late_s
    return RequestRow(
        id=number,
        intended_s=shot.intended_s,
        arrived_s=events[0]["at"] - start_s if events else shot.intended_s,
        ended_s=ended_s,
        outcome=outcome,
        spans=_spans(events, stages, start_s),
        retries=sum(event["kind"] == "stage_retried" for event in events),
    )


def _spans(events: Sequence[Mapping[str, Any]], stages: Sequence[str], start_s: float) -> dict[str, StageSpan]:
    found = {}
    for name in stages:
        own = [event for event in events if event["data"].get("stage") == name]
        began = [event["at"] for event in own if event["kind"] == "stage_started"]
        ended = [event["at"] for event in own if event["kind"] in ("stage_output", "stage_completed")]
        names = [event["data"]["replica"] for event in own if event["kind"] == "stage_output"]
        if began and ended:
            replicas = tuple(dict.fromkeys(names))
            found[name] = StageSpan(min(began) - start_s, max(ended) - start_s, replicas)
    return found


def _json(url: str, method: str, body: Any, headers: Mapping[str, str]) -> Any:
    return json.loads(_text(url, method, body, headers) or "null")


def _text(url: str, method: str, body: Any, headers: Mapping[str, str]) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=_HTTP_S) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        raise LiveError(f"{method} {url} is answered {error.code}: {error.read().decode()[:300]}") from error
    except OSError as error:
        raise LiveError(f"{method} {url} is not answered ({error}).") from error
