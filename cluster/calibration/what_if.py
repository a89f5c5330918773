"""Another split of the served pipeline, and what the twin makes of it: replicas of each stage by pool, p95, bill.

    v2v=+2        two more where it is      v2v=4@spot      four in that pool

With a pools file replicas stand on its nodes: spot ones are taken back, and what starts again there takes `START_UP_S`,
for no journal says how long. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import cast

from client import Pools
from cluster.calibration.journal import Learnt
from cluster.experiments.spec import ExperimentError
from cluster.planner.refine import node_pool
from cluster.pools.bill import nodes_for
from cluster.pools.file import GpuPool, PoolFile
from cluster.traffic.traces import Trace
from cluster.twin.scenario import NodePool, Pool, Scenario
from cluster.twin.simulator import simulate
from stages.types import STAGE_NAMES, StageName

Split = Mapping[str, Mapping[str, int]]  # stage -> pool -> replicas
Hosts = Mapping[str, str]  # of stages that live in another's replicas
Change = tuple[str, str, int, str | None]  # stage, sign, count, pool
MOST = 10_000  # replicas of a stage that anybody may ask for
START_UP_S = 60.0
_NONE: Hosts = MappingProxyType({})


@dataclass(frozen=True)
class Predicted:
    """One run of the twin."""

    p50_s: float
    p95_s: float
    per_s: float
    latencies_s: tuple[float, ...] = ()
    requests: int = 0


def parse_change(text: str) -> Change:
    """Stage, sign or "", count, pool.

    Raises:
        ExperimentError: another form.
    """
    stage, _, rest = text.partition("=")
    count, _, pool = rest.partition("@")
    digits = count.lstrip("+-")
    if stage not in STAGE_NAMES or not digits.isdecimal() or len(count) - len(digits) > 1 or rest.endswith("@"):
        known = ", ".join(STAGE_NAMES)
        raise ExperimentError(f"--what-if is {text!r}; write a stage ({known}) and a number, v2v=+2 or v2v=4@spot.")
    if len(digits) > 9 or int(digits) > MOST:
        raise ExperimentError(f"--what-if is {text!r}; at most {MOST:,} replicas of a stage can be asked for.")
    return stage, count.removesuffix(digits), int(digits), pool or None


def split_of(pools: Pools, hosts: Hosts = _NONE) -> dict[str, dict[str, int]]:
    """As it is served now; without stages that live in the replicas of another."""
    states = [state for state in pools.stages if state.stage not in hosts]
    return {state.stage: {state.pool or "": max(1, state.replicas)} for state in states}


def changed(split: Split, changes: Sequence[Change], file: PoolFile | None, hosts: Hosts = _NONE) -> Split:
    """Another one.

    Raises:
        ExperimentError: a stage has no replicas of its own, or would have none, or a pool does not take it or has no
            room.
    """
    made = {stage: dict(pools) for stage, pools in split.items()}
    for stage, sign, count, pool in changes:
        if stage in hosts:
            host, there = hosts[stage], sum(split[hosts[stage]].values())
            raise ExperimentError(
                f"--what-if changes stage {stage}, which computes in the {there} replicas of {host}; write "
                f"{host}={sign}{count} for both."
            )
        name = pool if pool is not None else next(iter(made[stage]))
        there = made[stage].get(name, 0)
        made[stage][name] = {"+": there + count, "-": there - count, "": count}[sign]
        total = sum(made[stage].values())
        if min(made[stage].values()) < 0 or total < 1:
            raise ExperimentError(
                f"--what-if leaves stage {stage} with {total} replicas, of {sum(split[stage].values())} now; keep 1."
            )
        if pool is None or file is None:
            continue
        names = [own.name for own in file.pools if stage in own.stages]
        if pool not in names:
            raise ExperimentError(f"Pool {pool!r} does not take stage {stage}; choose one of {', '.join(names)}.")
    for own, stands in _used(made, file) if file is not None else ():
        if (nodes := nodes_for(own, stands)) > own.nodes.max:
            raise ExperimentError(
                f"--what-if needs {nodes} nodes of pool {own.name}, which may have {own.nodes.max}; ask for fewer "
                "replicas, or raise nodes.max in the pools file."
            )
    return made


def predict(learnt: Learnt, split: Split, trace: Trace | None = None, file: PoolFile | None = None) -> Predicted:
    """What the twin makes of the requests; of another hour's, kinds that it has not learnt are left out."""
    counts = {stage: sum(pools.values()) for stage, pools in split.items()}
    given = learnt.trace if trace is None else trace
    known = tuple(own for own in given.arrivals if own.kind in learnt.paths)
    scenario = learnt.scenario(counts)
    if file is not None:
        scenario = on_nodes(scenario, split, file)
    run = simulate(scenario, replace(given, arrivals=known))
    seconds = tuple(row.latency_s for row in run.rows if row.outcome == "succeeded")
    metrics = run.metrics
    return Predicted(metrics.latency_s["p50"], metrics.p95_s, metrics.throughput_per_s, seconds, len(known))


def on_nodes(scenario: Scenario, split: Split, file: PoolFile) -> Scenario:
    """The same on the nodes that the split needs; the first of a stage's pools is filled first."""
    nodes: dict[str, NodePool] = {}
    for pool, there in _used(split, file):
        count = max(1, nodes_for(pool, there))
        spare = 0 if pool.spot is None else 1  # while one is taken back, another may come
        nodes[pool.name] = replace(node_pool(pool), min_nodes=0, max_nodes=count + spare)
    pools = dict[str, Pool]()
    for stage, own in scenario.pools.items():
        if stage in scenario.hosts:
            continue
        found = [pool_of(stage, name, file) for name, count in split.get(stage, {}).items() if count]
        share = found[0].gpus_of(cast(StageName, stage))
        pools[stage] = replace(own, on=tuple(pool.name for pool in found), gpus=share)
    pools |= {guest: pools[host] for guest, host in scenario.hosts.items()}
    stages = {name: replace(own, start_up_s=own.start_up_s or START_UP_S) for name, own in scenario.stages.items()}
    return replace(scenario, pools=pools, nodes=nodes, stages=stages, packing="pack")


def bill_of(split: Split, file: PoolFile) -> float:
    """Of an hour, in whole nodes.

    Raises:
        ExperimentError: the file has no such pool.
    """
    used = {pool.name: there for pool, there in _used(split, file)}
    nodes = [(own, nodes_for(own, used.get(own.name, []))) for own in file.pools]
    return file.control_per_hour + sum(count * own.node_price_per_hour for own, count in nodes)


def pool_of(stage: str, name: str, file: PoolFile) -> GpuPool:
    """The pool of the file that a stage is served in.

    Raises:
        ExperimentError: it has none.
    """
    found = next((own for own in file.pools if own.node_labels.get("pool") == name or own.name == name), None)
    if found is None and not name:
        raise ExperimentError(f"Stage {stage} is served in no pool, but on one machine; leave out --pools.")
    if found is None:
        names = ", ".join(own.name for own in file.pools)
        raise ExperimentError(f"Stage {stage} is served in pool {name!r}, the pools file has {names}; add it.")
    return found


def _used(split: Split, file: PoolFile) -> list[tuple[GpuPool, list[tuple[float, int]]]]:
    """Pools with the shares and counts of what stands there."""
    used: dict[str, list[tuple[float, int]]] = {}
    for stage, pools in split.items():
        for name, count in pools.items():
            pool = pool_of(stage, name, file)
            used.setdefault(pool.name, []).append((pool.gpus_of(cast(StageName, stage)), count))
    return [(file.named(name), there) for name, there in used.items()]
