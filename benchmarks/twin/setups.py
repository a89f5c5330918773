"""The six experiments of `benchmarks.twin`: replicas, load, windows, and what happens in the midst of each.

    yields   a quarter of the requests are urgent: calls of others stop for theirs between two steps
    drain    a replica of V2V is taken away, which ends its call first
    node     V2V's replicas stand on nodes of one GPU, and one of these is drained; another node has room

Each has a form for a real server (`spec`, `change`) and one for the simulator (`scenario`), which is told what an
operator knows beforehand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster.experiments.runs import RunPlan
from cluster.experiments.spec import LiveSpec, LoadSpec, Spec, StageSpec
from cluster.policy.calls import Rules
from cluster.policy.types import Decision, Memory, Policy, Snapshot, State
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.simulator import JobClass, NodePool, Scenario
from stages.model.sampling.windows import plan_windows
from stages.presets import TINY, plan
from stages.replay import PAPER_PAYLOADS
from stages.types import STAGE_NAMES, StageName

RUN_S: Mapping[StageName, float] = {"t2i": 0.25, "i2v": 0.8, "v2v": 1.6, "vfi": 0.1}  # VFI's is that of one window
PAYLOAD_SHARE = 0.1
MAX_JOBS = 64
STEPS: Mapping[StageName, int] = {"t2i": 2, "i2v": 8, "v2v": 8, "vfi": 1}  # of a call
RULES = Rules(hand_off_s=0.05, ahead_s=0.2)
STATE_BYTES = 100_000
URGENT, URGENT_EVERY, URGENT_DUE = "urgent", 4, 1.4  # times what a job takes alone
START_UP_S = 6.0  # of a process on two busy cores, about; nothing waits for it
NOTICE_S = 60.0
HEAD = "head"  # the pool of all but V2V, where that has nodes


@dataclass(frozen=True)
class Configuration:
    """One experiment. `load` is the share of the slowest pool's time that the requests ask for."""

    i2v: int
    v2v: int
    load: float
    seconds: str  # of video: 2 are two windows, 4 are five
    urgent: bool = False
    drained: bool = False  # at half time, to one replica fewer
    nodes: int = 0  # of V2V, one of which is drained at half time

    @property
    def replicas(self) -> dict[StageName, int]:
        return {"t2i": 1, "i2v": self.i2v, "v2v": self.v2v, "vfi": 1}

    @property
    def spans(self) -> list[int]:
        """Frames of each window."""
        return [len(span) for span in plan_windows(plan(TINY, "x", seconds=self.seconds).i2v.frames, TINY.v2v_windows)]

    @property
    def job_s(self) -> dict[StageName, float]:
        return {**RUN_S, "vfi": RUN_S["vfi"] * len(self.spans)}

    @property
    def rate_per_s(self) -> float:
        least = {**self.replicas, "v2v": self.v2v - self.drained}
        return self.load * min(least[name] / self.job_s[name] for name in STAGE_NAMES)

    def spec(self, *loads: LoadSpec) -> Spec:
        """The experiment."""
        windows = len(self.spans)
        stages = {
            name: StageSpec(
                mean_s=self.job_s[name],
                windows=windows if name in ("v2v", "vfi") else 1,
                bytes_out=int(PAYLOAD_SHARE * PAPER_PAYLOADS[name].bytes_out),
                replicas=self.replicas[name],
            )
            for name in STAGE_NAMES
        }
        return Spec(title=str(self), stages=stages, loads=loads, max_jobs=MAX_JOBS, live=LiveSpec(seconds=self.seconds))

    def stream(self, requests: int, seed: int) -> LoadSpec:
        """Poisson, of about so many requests."""
        return LoadSpec(kind="poisson", rate_per_s=self.rate_per_s, span_s=requests / self.rate_per_s, seed=seed)

    def change(self, args: dict[str, Any]) -> None:
        """The server's arguments: stages that can stop, a quick order, V2V on its nodes."""
        args["order"] = {"refuses": False, "hand_off_s": RULES.hand_off_s, "ahead_s": RULES.ahead_s}
        for name, stage in args["stages"].items():
            stage["options"] |= {"steps": STEPS[name], "state_bytes": STATE_BYTES if STEPS[name] > 1 else 0}
        if self.nodes:
            args["control_pool"] = HEAD
            for name, stage in args["stages"].items():
                stage |= {"pool": "v2v", "num_gpus": 1.0} if name == "v2v" else {"pool": HEAD}

    def plan(self, one: RunPlan) -> RunPlan:
        """With the urgent ones among its requests."""
        if not self.urgent:
            return one
        arrivals = tuple(
            Arrival(own.time_s, URGENT if number % URGENT_EVERY == 0 else "")
            for number, own in enumerate(one.trace.arrivals)
        )
        return replace(one, trace=Trace(one.trace.name, arrivals, one.trace.span_s))

    def scenario(self, one: RunPlan, router_s: float) -> Scenario:
        """The same for the simulator, with this delay of each call."""
        about, half_s = one.scenario, one.trace.span_s / 2
        total, stages = sum(self.spans), dict(about.stages)
        for name, steps in STEPS.items():
            stages[name] = replace(stages[name], steps=steps, start_up_s=START_UP_S)
        stages["v2v"] = replace(stages["v2v"], shares=tuple(span / total for span in self.spans))
        about = replace(about, stages=stages, router_s=router_s, order=RULES, control_s=0.25)
        if self.urgent:
            classes = {"": JobClass(), URGENT: JobClass(deadline_s=self.due_s)}
            about = replace(about, kinds={URGENT: {}}, classes=classes)
        if self.nodes:
            nodes = {"v2v": NodePool(1, self.nodes, self.nodes, notice_s=NOTICE_S), "others": NodePool(16, 1)}
            pools = {
                name: replace(pool, on=("v2v" if name == "v2v" else "others",)) for name, pool in about.pools.items()
            }
            about = replace(about, nodes=nodes, pools=pools, taken=((half_s, "v2v"),))
        return about

    def policy(self, one: RunPlan) -> Policy | None:
        """What the simulator's replicas do."""
        return Drained(one.trace.span_s / 2) if self.drained else None

    @property
    def plain(self) -> bool:
        """Nothing happens in its midst."""
        return not (self.urgent or self.drained or self.nodes)

    @property
    def due_s(self) -> float:
        """Of an urgent request, from its arrival."""
        return URGENT_DUE * (RUN_S["t2i"] + RUN_S["i2v"] + RUN_S["v2v"] / self.v2v + 2 * RUN_S["vfi"])

    def __str__(self) -> str:
        more = {"urgent requests": self.urgent, "a drain": self.drained, "a node goes": bool(self.nodes)}
        told = ", ".join(["", *(name for name, wanted in more.items() if wanted)])
        return f"replicas 1/{self.i2v}/{self.v2v}/1, load {self.load:.0%}, {len(self.spans)} windows{told}"


@dataclass(frozen=True)
class Drained:
    """One replica of V2V fewer from a moment on."""

    at_s: float

    def decide(self, now: Snapshot, state: State) -> Decision:
        fewer = now.now_s >= self.at_s and not state
        targets = {stage.name: stage.target - (fewer and stage.name == "v2v") for stage in now.stages}
        return Decision(targets, {"v2v": Memory(since_s=now.now_s)} if fewer else state)


CONFIGURATIONS = (
    Configuration(i2v=1, v2v=2, load=0.5, seconds="2"),
    Configuration(i2v=1, v2v=2, load=0.8, seconds="2"),
    Configuration(i2v=2, v2v=2, load=0.7, seconds="2", urgent=True),
    Configuration(i2v=2, v2v=3, load=0.6, seconds="2", drained=True),
    Configuration(i2v=2, v2v=2, load=0.6, seconds="4"),
    Configuration(i2v=2, v2v=3, load=0.5, seconds="4", nodes=4),
)
QUICK = CONFIGURATIONS[2:5:2]
