"""From an experiment to its runs: every combination of system, policy, replicas, load and seed.

Takes a `Spec`; gives `RunPlan`s, each with the requests and the scenario that a simulation needs, made and judged
before the first run starts. A monolith is one stage that takes the seconds of all four and the GPUs of all pools
together.

Pure but for reading recordings. Knows nothing of results.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cluster.experiments.spec import ExperimentError, LoadSpec, NodeSpec, PolicySpec, Spec, System
from cluster.policy.calls import Rules
from cluster.policy.serve_rule import Fixed
from cluster.policy.types import Policy
from cluster.traffic.traces import Arrival, Trace, TraceError, TraceSpec, kept_specs, make_trace, read_trace
from cluster.twin.scenario import JobClass, NodePool, Pool, Scenario, StageTimes, TwinError
from stages.types import STAGE_NAMES

MONOLITH = "monolith"


@dataclass(frozen=True)
class RunPlan:
    """One run."""

    name: str  # of its folder
    system: System
    policy: PolicySpec
    replicas: Mapping[str, int]  # by stage, at the start
    varied: str  # the stage whose replicas this run sets, or ""
    trace: Trace
    seed: int
    scenario: Scenario

    def make_policy(self) -> Policy:
        """A fixed one keeps the replicas of the run."""
        made = self.policy.make()
        return Fixed(self.replicas) if isinstance(made, Fixed) else made

    @property
    def gpus(self) -> dict[str, float]:
        return {name: pool.gpus for name, pool in self.scenario.pools.items()}

    @property
    def prices(self) -> dict[str, float]:
        return {name: pool.price_per_hour for name, pool in self.scenario.pools.items()}


def plan_runs(spec: Spec, folder: Path) -> list[RunPlan]:
    """All runs, in the order in which they are made; the first factors change slowest.

    Raises:
        ExperimentError: a recording is broken, or a combination cannot be.
    """
    traces = [trace for load in spec.loads for trace in _traces(load, folder)]
    found: dict[str, RunPlan] = {}
    for system in spec.systems:
        for policy in spec.policies:
            for varied, replicas in _replica_sets(spec):
                for trace in traces:
                    for seed in spec.seeds:
                        plan = _plan(spec, system, policy, varied, replicas, trace, seed)
                        if plan.name not in found:  # a set may be named twice: once as what `stages` says
                            found[plan.name] = plan
    return list(found.values())


def _plan(
    spec: Spec, system: System, policy: PolicySpec, varied: str, replicas: Mapping[str, int], trace: Trace, seed: int
) -> RunPlan:
    made = policy.make()
    if isinstance(made, Fixed):  # its own numbers win
        replicas = {name: made.replicas.get(name, count) for name, count in replicas.items()}
    counts = " ".join(f"{name}={replicas[name]}" for name in STAGE_NAMES)
    try:
        scenario = _pools(spec, replicas) if system == "pools" else _monolith(spec, system, replicas)
    except TwinError as error:
        raise ExperimentError(
            f"Replicas {counts} cannot be run: {error} Change stages, replicas, nodes, paths or budget_gpus."
        ) from error
    if unknown := {arrival.kind for arrival in trace.arrivals} - {"", *spec.named_kinds}:
        known = ", ".join(spec.named_kinds) or "none"
        raise ExperimentError(
            f"Load {trace.name!r} names the kind {sorted(unknown)[0]!r}, `paths` has {known}; add it there or to "
            "`classes`, or leave the column `kind` empty."
        )
    name = f"{system} {policy.shown} {counts} {trace.name} seed={seed}"
    return RunPlan(
        name=re.sub(r"[^\w.=-]+", "_", name),
        system=system,
        policy=policy,
        replicas={stage: pool.replicas for stage, pool in scenario.pools.items()},
        varied=varied,
        trace=trace,
        seed=seed,
        scenario=scenario,
    )


def _replica_sets(spec: Spec) -> list[tuple[str, dict[str, int]]]:
    """What is varied, and all stages' replicas."""
    base: dict[str, int] = {name: stage.replicas for name, stage in spec.stages.items()}
    varied = [(str(name), {**base, name: count}) for name, counts in spec.replicas.vary.items() for count in counts]
    sets = [("", {**base, **given}) for given in spec.replicas.sets]
    return [*varied, *sets] or [("", base)]


def _pools(spec: Spec, replicas: Mapping[str, int]) -> Scenario:
    stages, pools = {}, {}
    for name, stage in spec.stages.items():
        stages[str(name)] = StageTimes(
            *(stage.mean_s, stage.cv, stage.start_up_s, stage.windows, stage.bytes_out), steps=stage.steps
        )
        count = replicas[name]
        pools[str(name)] = Pool(
            *(count, min(stage.min_replicas, count), max(stage.max_replicas, count), stage.gpus, stage.price_per_hour),
            on=stage.nodes or tuple(spec.nodes),
        )
    return _scenario(spec, stages, pools)


def _monolith(spec: Spec, system: System, replicas: Mapping[str, int]) -> Scenario:
    """All four models on each GPU slot; as many slots as the pools have in all."""
    each = spec.stages.values()
    seconds = sum(stage.mean_s for stage in each) + (spec.offload_s if system == "monolith-offload" else 0.0)
    spread = math.sqrt(sum((stage.cv * stage.mean_s) ** 2 / stage.windows for stage in each)) / seconds
    gpus, price = max(stage.gpus for stage in each), max(stage.price_per_hour for stage in each)
    slots = int(sum(replicas[name] * stage.gpus for name, stage in spec.stages.items()) / gpus)
    if slots < 1:
        raise TwinError(f"The pools' GPUs do not make one monolith of {gpus:g} GPUs.")
    most = spec.budget_gpus or sum(stage.max_replicas * stage.gpus for stage in each)
    times = StageTimes(seconds, cv=spread, start_up_s=sum(stage.start_up_s for stage in each))
    pool = Pool(slots, min(1, slots), max(slots, int(most / gpus)), gpus, price, on=tuple(spec.nodes))
    return _scenario(spec, {MONOLITH: times}, {MONOLITH: pool})


def _scenario(spec: Spec, stages: Mapping[str, StageTimes], pools: Mapping[str, Pool]) -> Scenario:
    return Scenario(
        stages,
        pools,
        budget_gpus=spec.budget_gpus,
        max_jobs=spec.max_jobs,
        submit_s=spec.overhead_s,
        control_s=spec.control_s,
        sample_s=spec.sample_s,
        rate_window_s=spec.rate_window_s,
        nodes={name: _nodes(node) for name, node in spec.nodes.items()},
        packing=spec.packing,
        paths={kind: tuple(str(name) for name in path) for kind, path in spec.paths.items()},
        order=Rules() if spec.classes else None,
        classes={kind: JobClass(own.priority, own.deadline_s) for kind, own in spec.classes.items()},
    )


def _nodes(node: NodeSpec) -> NodePool:
    given = node.model_dump(exclude={"interruptions_per_hour"})
    often = node.interruptions_per_hour
    return NodePool(**given, life_s=3600 / often if often else None)


def _traces(load: LoadSpec, folder: Path) -> list[Trace]:
    """One for each rate."""
    rates = load.rates_per_s or (load.rate_per_s,)
    try:
        made = [_trace(load.model_copy(update={"rate_per_s": rate, "rates_per_s": ()}), folder) for rate in rates]
    except TraceError as error:
        raise ExperimentError(str(error)) from error
    for trace in made:
        if not trace.arrivals:
            raise ExperimentError(
                f"Load {trace.name!r} sends nothing in {trace.span_s:g} s; give it a rate, a count or a longer span_s."
            )
    return made


def _trace(load: LoadSpec, folder: Path) -> Trace:
    name = load.name or f"{load.kind}-{load.rate_per_s:.4g}"
    if load.kind == "recorded":
        return _stretched(read_trace(folder / str(load.file), max_gap_s=load.max_gap_s), load)
    if load.kind == "kept":
        kept = {spec.name: spec for spec in kept_specs()}
        if load.name not in kept:
            raise TraceError(f"There is no kept trace {load.name!r}; choose one of {', '.join(kept)}.")
        return _stretched(make_trace(kept[load.name]), load)
    spec = TraceSpec(
        name=name if len(load.rates_per_s) < 2 else f"{name}-{load.rate_per_s:.4g}",
        kind="poisson" if load.kind == "burst" else load.kind,
        span_s=load.span_s,
        seed=load.seed,
        rate_per_s=load.rate_per_s,
        burst_size=load.burst_size,
        burst_s=load.burst_s,
        pause_s=load.pause_s,
        swing=load.swing,
        period_s=load.period_s,
        cancel_share=load.cancel_share,
        patience_s=load.patience_s,
        kinds=load.kinds,
    )
    trace = make_trace(spec)
    if load.kind != "burst":
        return trace
    sent = load.at_s + np.arange(load.count) * load.burst_s / max(1, load.count)
    burst = (Arrival(float(at), kind) for at, kind in zip(sent, _kinds(load), strict=True))
    arrivals = sorted([*trace.arrivals, *burst], key=lambda arrival: arrival.time_s)
    last = arrivals[-1].time_s if arrivals else 0.0
    return Trace(load.name or f"burst-of-{load.count}", tuple(arrivals), max(load.span_s, last))


def _kinds(load: LoadSpec) -> list[str]:
    """Of the requests of a burst."""
    names, shares = list(load.kinds) or [""], np.array(list(load.kinds.values()) or [1.0])
    chosen = np.random.default_rng([load.seed, 1]).choice(len(names), load.count, p=shares / shares.sum())
    return [names[number] for number in chosen]


def _stretched(trace: Trace, load: LoadSpec) -> Trace:
    by = load.stretch
    arrivals = tuple(
        replace(
            arrival, time_s=arrival.time_s * by, cancel_s=None if arrival.cancel_s is None else arrival.cancel_s * by
        )
        for arrival in trace.arrivals
    )
    return Trace(load.name or trace.name, arrivals, trace.span_s * by)
