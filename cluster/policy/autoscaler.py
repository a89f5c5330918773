"""The look-ahead policy as Ray Serve's application-level autoscaling policy.

    pipeline replicas ──record_autoscaling_stats──► Serve's controller ──contexts──► Scaler ──targets──► Serve
                                                                             policy.LookAhead

`serve_config.yaml` names it under `autoscaling_policy`. Serve makes one in its controller and calls it about nine times
a second with what it knows of each autoscaled deployment; once a `period_s` the newest reports of the pipeline's
replicas become a snapshot, and the policy decides. Its settings travel with the reports, so they stand in one place,
`scaling` among the application's arguments.

How long a replica loads is measured by itself and comes with the reports; how long it waits for a place on a node is no
part of that. One that should have loaded long ago counts as pending. Without a report nothing changes. It never raises
and never blocks: Serve's control loop waits for it.
"""

import logging
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from cluster.policy.look_ahead import LookAhead
from cluster.policy.reports import Report, StageReport, from_floats, joined
from cluster.policy.types import PolicyError, Snapshot, StageNow, State

logger = logging.getLogger("ray.serve")  # the controller's own, so that an operator finds it there

PIPELINE = "pipeline"
_LATE_S = 3.0  # a stop begins, and is reported, at most so much later than it was wished
_STALE_S = 15.0  # a replica that has said nothing for so long is not counted
_PLACE_S = 120.0  # beside twice its start-up: a replica that does not run after so long has no place
_ROUNDING = 1e-3  # of a replica

_Targets = dict[Any, int]


class Scaler:
    """What `autoscaling_policy.policy_function` names."""

    def __init__(self, period_s: float = 1.0) -> None:
        self._period_s = period_s
        self._state: State = {}
        self._decided_s = -math.inf
        self._targets: dict[str, int] = {}
        self._starts: dict[str, _Starts] = {}
        self._stops: dict[str, deque[tuple[float, int]]] = {}  # when how many replicas were let go
        self._complained = False

    def __call__(self, contexts: Mapping[Any, Any]) -> tuple[_Targets, dict[Any, dict[str, Any]]]:
        """Serve's protocol: a target for each deployment of `contexts` that should have one, and no state."""
        try:
            now_s = max((float(context.current_time) for context in contexts.values()), default=0.0)
            self._watch(contexts, now_s)
            if now_s - self._decided_s >= self._period_s:
                self._decide(contexts, now_s)
        except Exception:
            if not self._complained:
                logger.exception("The look-ahead policy cannot decide; replicas stay as they are.")
            self._complained = True
        return {key: self._targets.get(key.name, context.target_num_replicas) for key, context in contexts.items()}, {}

    def _watch(self, contexts: Mapping[Any, Any], now_s: float) -> None:
        for key, context in contexts.items():
            target, ready = int(context.target_num_replicas), int(context.current_num_replicas)
            starts = self._starts.setdefault(key.name, _Starts())
            if starts.target > target:
                self._stops.setdefault(key.name, deque()).append((now_s, starts.target - target))
            starts.see(target, ready, now_s)

    def _decide(self, contexts: Mapping[Any, Any], now_s: float) -> None:
        named = {key.name: context for key, context in contexts.items()}
        report = joined(_reports(named.get(PIPELINE), now_s))
        if report is None:
            return
        snapshot = self._snapshot(report, named, now_s)
        try:
            policy = LookAhead(**report.options)
        except (TypeError, PolicyError) as wrong:
            if not self._complained:
                logger.error("The options of the look-ahead policy are wrong (%s); its defaults are used.", wrong)
            self._complained, policy = True, LookAhead()
        decision = policy.decide(snapshot, self._state)
        self._state, self._decided_s = decision.state, now_s
        if decision.targets != {name: self._targets.get(name) for name in decision.targets}:
            logger.info("Look-ahead: %s.", ", ".join(f"{name} {n}" for name, n in decision.targets.items()))
        self._targets = {**decision.targets, PIPELINE: _drivers(report, named[PIPELINE])}

    def _snapshot(self, report: Report, named: Mapping[str, Any], now_s: float) -> Snapshot:
        stages = tuple(
            self._stage(name, stage, named[name], now_s) for name, stage in report.stages.items() if name in named
        )
        return Snapshot(
            now_s,
            stages,
            queued_jobs=round(report.queued_jobs),
            arrivals_per_s=report.arrivals_per_s,
            trend_per_s2=report.trend_per_s2,
            budget_gpus=report.budget_gpus if report.budget_gpus >= 0 else None,
        )

    def _stage(self, name: str, stage: StageReport, context: Any, now_s: float) -> StageNow:
        ready, target = int(context.current_num_replicas), int(context.target_num_replicas)
        waiting, running = round(stage.waiting), round(stage.running)
        busy = math.ceil(stage.busy - _ROUNDING) or running  # a pipeline of an older version says nothing of it
        return StageNow(
            name,
            call_s=stage.call_s,
            calls=max(1, round(stage.calls)),
            start_up_s=stage.start_up_s,
            waiting=waiting,
            running=running,
            remaining_s=stage.remaining_s,
            busy=min(busy, ready),
            ready=ready,
            starting=max(0, target - ready),
            pending=self._starts[name].older(now_s - 2 * stage.start_up_s - _PLACE_S),
            stopping=min(self._let_go(name, now_s, stage.call_s), max(0, busy - ready)),
            target=target,
            min_replicas=int(context.capacity_adjusted_min_replicas),
            max_replicas=int(context.capacity_adjusted_max_replicas),
            gpus=stage.gpus,
            batch=max(1, round(stage.batch)),
            batch_s=stage.batch_s,
            share=min(1.0, max(0.0, stage.share)),
        )

    def _let_go(self, name: str, now_s: float, call_s: float) -> int:
        """Replicas that may still compute their last call.

        Serve does not say which stop. More calls than replicas are no sign of it alone: reports of several pipeline
        replicas are not of one moment.
        """
        stops = self._stops.get(name, deque())
        while stops and now_s - stops[0][0] > call_s + _LATE_S:
            stops.popleft()
        return sum(count for _, count in stops)


def _drivers(report: Report, context: Any) -> int:
    """Replicas of the pipeline itself: more while jobs find none with room, fewer only when there is no job at all."""
    least, most = int(context.capacity_adjusted_min_replicas), int(context.capacity_adjusted_max_replicas)
    target = int(context.target_num_replicas)
    if not report.running_jobs and not report.queued_jobs:
        return least
    needed = math.ceil((report.running_jobs + report.queued_jobs) / max(1.0, report.max_jobs))
    return max(least, min(most, max(target, needed)))


class _Starts:
    """When the replicas of one deployment that do not run yet were wished for."""

    def __init__(self) -> None:
        self._asked: deque[float] = deque()
        self._seen: tuple[int, int] | None = None  # target and running replicas

    @property
    def target(self) -> int:
        """As it was seen last."""
        return self._seen[0] if self._seen else 0

    def see(self, target: int, running: int, now_s: float) -> None:
        """The deployment as it is now."""
        before, self._seen = self._seen or (running, running), (target, running)
        self._asked.extend([now_s] * max(0, target - max(before[0], running)))
        for _ in range(min(len(self._asked), max(0, running - before[1]))):
            self._asked.popleft()
        while len(self._asked) > max(0, target - running):
            self._asked.pop()  # the wish was taken back

    def older(self, before_s: float) -> int:
        """Those that were wished for earlier."""
        return sum(asked < before_s for asked in self._asked)


def _reports(context: Any, now_s: float) -> list[Report]:
    """The newest one of each replica of the pipeline that still speaks."""
    if context is None:
        return []
    flat: dict[Any, dict[str, float]] = {}
    for name, series in (context.raw_metrics or {}).items():
        for replica, values in series.items():
            if values and now_s - values[-1].timestamp <= _STALE_S:
                flat.setdefault(replica, {})[name] = float(values[-1].value)
    return [report for numbers in flat.values() if (report := from_floats(numbers)) is not None]
