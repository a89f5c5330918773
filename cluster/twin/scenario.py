"""What the simulator is told: seconds and bytes of each stage, replicas, faults, and how requests are handled.

Plain frozen values, checked when they are made. Where the seconds come from (a profile, a live run, a guess) is
not known here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from cluster.policy.calls import Rules, Tenant

Spread = Literal["idle", "calls", "one"]
Packing = Literal["spread", "pack"]


class TwinError(ValueError):
    """A scenario that cannot be simulated, in one sentence."""


def _at_least(owner: str, name: str, value: float, floor: float) -> None:
    if not floor <= value < math.inf:
        raise TwinError(f"{owner} needs {name} of {floor} or more, got {value}.")


@dataclass(frozen=True)
class StageTimes:
    """One stage on one replica. `mean_s` and `bytes_out` are of one job, all of its calls together.

    A call's seconds are drawn from a gamma distribution around its share, with coefficient of variation `cv` (0: the
    same every time, 1: exponential). A stage with `windows` above 1 is called once a window; `shares` are those of each
    in the seconds, which are else alike. Up to `batch` jobs may be
    computed at once; each one after the first adds `batch_share` of a job's seconds. A call of more than one of `steps`
    can be stopped between them, where the scenario has an `order`.
    """

    mean_s: float
    cv: float = 0.0
    start_up_s: float = 0.0
    windows: int = 1
    bytes_out: int = 0
    batch: int = 1
    batch_share: float = 1.0
    steps: int = 1
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, floor in (
            ("mean_s", 0),
            ("cv", 0),
            ("start_up_s", 0),
            ("windows", 1),
            ("bytes_out", 0),
            ("batch", 1),
            ("steps", 1),
        ):
            _at_least("StageTimes", name, getattr(self, name), floor)
        _at_least("StageTimes", "batch_share", self.batch_share, 0)
        if self.shares and (len(self.shares) != self.windows or abs(sum(self.shares) - 1) > 1e-3):
            raise TwinError(f"A stage of {self.windows} windows needs as many shares that make 1, got {self.shares}.")
        if self.batch > 1 and self.windows > 1:
            raise TwinError(f"A stage is either called in {self.windows} windows or batched by {self.batch}, not both.")

    @property
    def call_s(self) -> float:
        return self.mean_s / self.windows

    @property
    def batch_s(self) -> float:
        """Seconds of a whole batch."""
        return self.mean_s * (1 + self.batch_share * (self.batch - 1))


@dataclass(frozen=True)
class NodePool:
    """Nodes of one kind, each billed whole."""

    gpus: int
    max_nodes: int
    min_nodes: int = 0
    boot_s: float = 0.0
    idle_s: float = 300.0  # an empty one stays so long
    least_bill_s: float = 60.0
    price_per_hour: float = 0.0  # of a node
    life_s: float | None = None  # mean time until its owner takes it back; None: never
    notice_s: float = 120.0  # before that
    away_s: float = 0.0  # no new one of its kind after that

    def __post_init__(self) -> None:
        for name, floor in (("gpus", 1), ("max_nodes", 1), ("min_nodes", 0), ("boot_s", 0), ("idle_s", 0)):
            _at_least("NodePool", name, getattr(self, name), floor)
        for name in ("least_bill_s", "price_per_hour", "notice_s", "away_s"):
            _at_least("NodePool", name, getattr(self, name), 0)
        if self.min_nodes > self.max_nodes:
            raise TwinError(f"NodePool has min_nodes {self.min_nodes} above max_nodes {self.max_nodes}.")
        if self.life_s is not None and not self.life_s > 0:
            raise TwinError(f"NodePool needs life_s above 0, got {self.life_s}.")


@dataclass(frozen=True)
class Pool:
    """The replicas of one stage: at the start, and within which bounds a policy may move them."""

    replicas: int = 1
    min_replicas: int = 0
    max_replicas: int = 1_000_000
    gpus: float = 1.0  # of one replica
    price_per_hour: float = 0.0  # of one GPU
    max_ongoing: int = 2  # calls (of a stage with batches: batches) at a replica: one on the device, others behind it
    on: tuple[str, ...] = ()  # node pools, the first that has a place; the others are its fallback
    slower: Mapping[str, float] = field(default_factory=dict)  # by node pool: on its seconds there

    def __post_init__(self) -> None:
        for name, floor in (("replicas", 0), ("min_replicas", 0), ("max_replicas", 1), ("gpus", 0), ("max_ongoing", 1)):
            _at_least("Pool", name, getattr(self, name), floor)
        _at_least("Pool", "price_per_hour", self.price_per_hour, 0)
        for name, by in self.slower.items():
            if not 0 < by < math.inf:
                raise TwinError(f"Pool needs slower above 0, got {by} on {name}.")
        if self.min_replicas > self.max_replicas:
            raise TwinError(f"Pool has min_replicas {self.min_replicas} above max_replicas {self.max_replicas}.")


@dataclass(frozen=True)
class JobClass:
    """What jobs of one kind are promised, and whose they are; for a scenario with an `order`."""

    priority: int = 0
    deadline_s: float | None = None  # from arrival; None: no promise
    soft_s: float | None = None  # from arrival, in its place; None: thrice what the job takes alone
    tenant: str = ""
    steps: Mapping[str, int] = field(default_factory=dict)  # of a call, by stage, where they are not the stage's

    def __post_init__(self) -> None:
        for name in ("deadline_s", "soft_s"):
            if getattr(self, name) is not None:
                _at_least("JobClass", name, getattr(self, name), 0)
        for stage, steps in self.steps.items():
            _at_least("JobClass", f"steps of stage {stage}", steps, 1)


@dataclass(frozen=True)
class Faults:
    """What goes wrong. A call whose replica dies is repeated, and one that raises too, each within its limit."""

    replica_life_s: float | None = None  # mean time until a replica dies; None: never
    call_failure: float = 0.0  # chance that a call raises
    attempts: int = 3  # of one call whose replica dies
    failures: int = 2  # calls that may raise in one job
    detect_s: float = 0.02  # until the death of a replica is known
    backoff_s: float = 1.0  # before the first repetition of a call that raised; doubles

    def __post_init__(self) -> None:
        if self.replica_life_s is not None and not self.replica_life_s > 0:
            raise TwinError(f"Faults needs replica_life_s above 0, got {self.replica_life_s}.")
        if not 0 <= self.call_failure <= 1:
            raise TwinError(f"Faults needs call_failure between 0 and 1, got {self.call_failure}.")
        for name, floor in (("attempts", 1), ("failures", 0), ("detect_s", 0), ("backoff_s", 0)):
            _at_least("Faults", name, getattr(self, name), floor)


@dataclass(frozen=True)
class Scenario:
    """One served pipeline. `stages` stand in the order in which a job passes them; `pools` has one for each.

    `spread` says what a job's windows do at a stage that has several: "calls" sends each as a call of its own, as the
    server does; "idle" cuts them into as many runs as replicas are idle at that moment, at least one, and each run
    stays on its replica; "one" never spreads. A stage behind one of as many windows begins each window as soon as it
    and the one before it are there.

    Without an `order` calls are served as they come, and bound to a replica up to `max_ongoing`. With one they wait
    until a replica is free or about to be, in the order of `cluster.policy.order`, and running ones may yield. With
    `refuses` a job whose deadline cannot be promised ends as it arrives.

    With `nodes` every pool says on which of them it stands, and bills are of nodes; else GPUs are there as soon as the
    budget has them. `paths` says which of the stages jobs of a kind pass, all of them where it says nothing: the others
    are left out, at the beginning or at the end.

    With an `order` a stage may live in the replicas of another, its host (`hosts`): calls of both wait in one line, and
    its own `pools` entry is that of the host.
    """

    stages: Mapping[str, StageTimes]
    pools: Mapping[str, Pool]
    budget_gpus: float | None = None  # held by all replicas together, those too that start or stop
    max_jobs: int | None = None  # in flight; others wait in the journal
    spread: Spread = "calls"
    submit_s: float = 0.0  # from arrival to the first stage's call
    router_s: float = 0.0  # from a call to its replica, each time
    finish_s: float = 0.0  # from the last call to the end of the job, on no replica's device
    bytes_per_s: float | None = None  # between two stages; None: moving costs nothing
    stop_s: float = 0.5  # until a running call that is cancelled gives its replica back
    faults: Faults = Faults()
    control_s: float = 1.0  # between two decisions of the policy
    sample_s: float = 10.0
    rate_window_s: float = 300.0  # over which the rate of arrivals is measured
    kinds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # kind -> stage -> factor on its seconds
    order: Rules | None = None
    classes: Mapping[str, JobClass] = field(default_factory=dict)  # by kind
    tenants: Mapping[str, Tenant] = field(default_factory=dict)  # with their weights
    refuses: bool = False
    nodes: Mapping[str, NodePool] = field(default_factory=dict)
    packing: Packing = "spread"
    taken: tuple[tuple[float, str], ...] = ()  # (s, kind): a node of the kind is taken back then, the fullest
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by kind
    hosts: Mapping[str, str] = field(default_factory=dict)  # of the stages that live with another

    def __post_init__(self) -> None:
        if not self.stages:
            raise TwinError("A scenario needs at least one stage.")
        if set(self.stages) != set(self.pools):
            raise TwinError(f"Stages are {', '.join(self.stages)}, but pools are given for {', '.join(self.pools)}.")
        for name in ("submit_s", "router_s", "finish_s", "stop_s"):
            _at_least("Scenario", name, getattr(self, name), 0)
        for name in ("control_s", "sample_s", "rate_window_s"):
            if not getattr(self, name) > 0:
                raise TwinError(f"Scenario needs {name} above 0, got {getattr(self, name)}.")
        for name, floor in (("max_jobs", 1), ("budget_gpus", 0)):
            if getattr(self, name) is not None:
                _at_least("Scenario", name, getattr(self, name), floor)
        if self.bytes_per_s is not None and not self.bytes_per_s > 0:
            raise TwinError(f"Scenario needs bytes_per_s above 0, got {self.bytes_per_s}.")
        if self.order is not None:
            if self.spread != "calls":
                raise TwinError(
                    f'With an order each window is a call of its own, so spread must be "calls", not "{self.spread}".'
                )
            for name, times in self.stages.items():
                if self.pools[name].slower:
                    raise TwinError(f"With an order a stage is as fast on all nodes; stage {name} is not.")
                if times.batch > 1:
                    raise TwinError(f"Stage {name} has batches of {times.batch}; with an order they must be of 1.")
        elif self.classes or self.refuses:
            raise TwinError("Classes and refusals need an order, which is None.")
        own = [pool for name, pool in self.pools.items() if name not in self.hosts]
        held = sum(pool.replicas * pool.gpus for pool in own)
        least = sum(pool.min_replicas * pool.gpus for pool in own)
        if self.budget_gpus is not None and max(held, least) > self.budget_gpus:
            raise TwinError(f"The first replicas need {max(held, least):g} GPUs, the budget is {self.budget_gpus:g}.")
        _judge_nodes(self)
        _judge_paths(self)
        _judge_hosts(self)
        for first, second in pairwise(self.stages.items()):
            if second[1].windows not in (1, first[1].windows) and first[1].windows != 1:
                raise TwinError(
                    f"Stage {second[0]} has {second[1].windows} windows behind {first[1].windows} of {first[0]}; "
                    "they must be as many, or one of both must be 1."
                )


def _judge_nodes(about: Scenario) -> None:
    if unknown := [kind for _, kind in about.taken if kind not in about.nodes]:
        raise TwinError(f"A node of {unknown[0]!r} is taken back; there are {', '.join(about.nodes) or 'none'}.")
    rooms = {name: kind.max_nodes * kind.gpus for name, kind in about.nodes.items()}
    for name, pool in about.pools.items():
        if unknown := [own for own in pool.on if own not in about.nodes]:
            raise TwinError(f"Stage {name} is on nodes {unknown[0]!r}; there are {', '.join(about.nodes) or 'none'}.")
        if about.nodes and not pool.on:
            raise TwinError(f"Stage {name} is on no nodes; put it on one of {', '.join(about.nodes)}.")
        if about.nodes and pool.gpus > (most := max(about.nodes[own].gpus for own in pool.on)):
            raise TwinError(f"A replica of stage {name} takes {pool.gpus:g} GPUs, its largest node has {most}.")
        if about.nodes and pool.replicas * pool.gpus > (room := sum(rooms[own] for own in pool.on)) + 1e-9:
            raise TwinError(
                f"Stage {name} begins with {pool.replicas} replicas of {pool.gpus:g} GPUs, all its nodes have {room}."
            )


def _judge_hosts(about: Scenario) -> None:
    for guest, host in about.hosts.items():
        if guest not in about.stages or host not in about.stages or host in about.hosts:
            raise TwinError(f"Stage {guest!r} lives with {host!r}; both must be stages, and the host its own.")
        if about.order is None or about.refuses or about.pools[guest] != about.pools[host]:
            raise TwinError(f"Stage {guest} lives with {host}: that needs an order that refuses nobody, and one pool.")


def _judge_paths(about: Scenario) -> None:
    names = list(about.stages)
    for kind, path in about.paths.items():
        at = names.index(path[0]) if path and path[0] in names else 0
        if not path or list(path) != names[at : at + len(path)]:
            raise TwinError(
                f"Jobs of kind {kind!r} pass {', '.join(path) or 'nothing'}; name neighbours of {', '.join(names)}."
            )


def passes(scenario: Scenario, kind: str, stage: str) -> bool:
    """Whether jobs of a kind pass a stage."""
    path = scenario.paths.get(kind)
    return path is None or stage in path


def moving_s(scenario: Scenario, index: int) -> float:
    """Seconds to move one call's input from the stage before."""
    if scenario.bytes_per_s is None or index == 0:
        return 0.0
    before, own = list(scenario.stages.values())[index - 1 : index + 1]
    return before.bytes_out / (before.windows if own.windows > 1 else 1) / scenario.bytes_per_s
