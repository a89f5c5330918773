"""What an experiment is: a YAML file, judged whole before anything starts.

    title, stages or profile      what is served: seconds, start-ups, GPUs and prices of each stage
    nodes, packing, paths         simulated: machines that replicas stand on, billed whole; which stages a kind passes
    systems, policies, replicas,  the sweep: every combination is one run
    loads, seeds
    live, quick                   how it is run on a real server; what `--quick` puts in the place of other keys

`load_spec` reads a file or a ready one of `experiments/` by its name and gives a frozen `Spec`; `Spec.sped` is the same
experiment with every time divided, so that a minute of start-up can be lived through in a second. Everything wrong is
one sentence with the value, what is allowed and what to do.

Knows nothing of running it: `experiment_runs` makes the runs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from client._shell.texts import read_text
from cluster.planner.profiles import ProfileError, load_profile
from cluster.policy.look_ahead import make_policy
from cluster.policy.types import Policy, PolicyError
from cluster.traffic.traces import LONGEST_S, MOST
from cluster.twin.scenario import Packing
from stages.types import STAGE_NAMES, StageName

FOLDER = Path(__file__).parent
System = Literal["pools", "monolith", "monolith-offload"]
LoadKind = Literal["poisson", "bursts", "diurnal", "recorded", "burst", "kept"]
_MOST_REPLICAS = 10_000  # of a stage
_MOST_WINDOWS = 1_000
_STAGE_TIMES = ("mean_s", "start_up_s")
_NODE_TIMES = ("boot_s", "idle_s", "least_bill_s", "notice_s", "away_s")
_LOAD_TIMES = ("span_s", "burst_s", "pause_s", "period_s", "patience_s", "at_s")


class ExperimentError(ValueError):
    """An experiment that cannot be run as it is written, in one sentence."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StageSpec(_Frozen):
    """One stage and its pool. Seconds and bytes are of one job, all of its calls together, on one replica."""

    mean_s: float = Field(gt=0)
    cv: float = Field(default=0.0, ge=0, description="Spread of a call; a replayed stage has none.")
    start_up_s: float = Field(default=0.0, ge=0)
    windows: int = Field(default=1, ge=1, le=_MOST_WINDOWS, description="Calls of one job.")
    steps: int = Field(default=1, ge=1, description="Of a call, between which it can yield, where there are classes.")
    bytes_out: int = Field(default=300_000, ge=1)
    replicas: int = Field(default=1, ge=0, le=_MOST_REPLICAS, description="At the start; under `fixed` for ever.")
    min_replicas: int = Field(default=1, ge=0, le=_MOST_REPLICAS)
    max_replicas: int = Field(default=64, ge=1)
    gpus: float = Field(default=1.0, gt=0, description="Of one replica.")
    price_per_hour: float = Field(default=0.0, ge=0, description="Of one GPU; with nodes, those are billed instead.")
    nodes: tuple[str, ...] = Field(default=(), description="The first that has a place; all when left out.")


class NodeSpec(_Frozen):
    """Nodes of one kind, each billed whole."""

    gpus: int = Field(ge=1)
    max_nodes: int = Field(ge=1)
    min_nodes: int = Field(default=0, ge=0)
    boot_s: float = Field(default=180.0, ge=0)
    idle_s: float = Field(default=300.0, ge=0, description="An empty one stays so long.")
    least_bill_s: float = Field(default=60.0, ge=0)
    price_per_hour: float = Field(default=0.0, ge=0, description="Of a node.")
    interruptions_per_hour: float = Field(default=0.0, ge=0, description="Of one node; 0: nobody takes it back.")
    notice_s: float = Field(default=120.0, ge=0, description="Before that.")
    away_s: float = Field(default=0.0, ge=0, description="No new one after that.")


class ClassSpec(_Frozen):
    """What jobs of a kind are promised."""

    deadline_s: float | None = Field(default=None, gt=0, description="From arrival; none: no promise.")
    priority: int = 0


class ProfileSpec(_Frozen):
    """Where seconds, spread, bytes and start-ups come from when a stage does not say them."""

    name: str
    accelerator: str


class PolicySpec(_Frozen):
    """A policy by its name. In the file a name alone will do."""

    name: str
    options: dict[str, Any] = {}
    label: str = ""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _exists(self) -> "PolicySpec":
        try:
            self.make()
        except PolicyError as error:
            raise ValueError(str(error)) from error
        except TypeError as error:
            raise ValueError(f"policy {self.name!r} cannot take {self.options}: {error}") from error
        return self

    @property
    def shown(self) -> str:
        return self.label or self.name

    def make(self) -> Policy:
        return make_policy(self.name, **self.options)


class LoadSpec(_Frozen):
    """Requests. `burst` sends `count` evenly over `burst_s` from `at_s` on, beside a Poisson stream of `rate_per_s`;
    `kept` is one of the ten traces by its name; the rest is `cluster.traffic.traces.TraceSpec`. `rates_per_s` makes
    one load of each rate."""

    kind: LoadKind
    name: str = ""
    span_s: float = Field(default=3600.0, gt=0, le=LONGEST_S)
    rate_per_s: float = Field(default=0.0, ge=0)
    rates_per_s: tuple[Annotated[float, Field(gt=0)], ...] = ()
    seed: int = 0
    count: int = Field(default=0, ge=0, le=MOST)
    at_s: float = Field(default=0.0, ge=0)
    burst_size: float = Field(default=0.0, ge=0)
    burst_s: float = Field(default=1.0, gt=0)
    pause_s: float = Field(default=600.0, gt=0)
    swing: float = Field(default=0.0, ge=0, le=1)
    period_s: float = Field(default=3600.0, gt=0)
    cancel_share: float = Field(default=0.0, ge=0, le=1)
    patience_s: float = Field(default=60.0, gt=0)
    file: str | None = Field(default=None, description="Of a recording, from the folder of the experiment's file.")
    max_gap_s: float | None = Field(default=None, gt=0, description="A longer pause in a recording is a hole.")
    stretch: float = Field(default=1.0, gt=0, description="A recording's seconds are multiplied by it.")
    kinds: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="Shares of the requests, by the names in `paths`; '' passes every stage."
    )

    @model_validator(mode="after")
    def _whole(self) -> "LoadSpec":
        if self.kind == "recorded" and not self.file:
            raise ValueError("a recorded load needs `file`, a CSV with the column time_s")
        if self.kind == "kept" and not self.name:
            raise ValueError("a kept load needs `name`, like burst-of-40")
        if self.kinds and self.kind in ("recorded", "kept"):
            raise ValueError(f"kinds go with made loads; one of kind {self.kind} has its own")
        if self.rates_per_s and self.kind != "poisson":
            raise ValueError(f"rates_per_s goes with kind poisson only, not with {self.kind}")
        return self


class ReplicasSpec(_Frozen):
    """What the sweep sets: single stages, one at a time (`vary`), whole sets, or nothing: what `stages` says."""

    vary: dict[StageName, tuple[Annotated[int, Field(ge=1, le=_MOST_REPLICAS)], ...]] = {}
    sets: tuple[dict[StageName, Annotated[int, Field(ge=1, le=_MOST_REPLICAS)]], ...] = ()


class LiveSpec(_Frozen):
    """How the experiment is run on a real server."""

    speed: float = Field(default=1.0, gt=0, description="All times are divided by it.")
    stages: Literal["replay", "real"] = Field(default="replay", description="replay: they take the seconds given.")
    preset: str = "tiny"
    seconds: str | None = Field(default=None, description="Of each video; the preset's when left out.")
    bytes_share: float = Field(default=1.0, gt=0, le=1, description="Of bytes_out: a laptop copies no 100 MB at ease.")
    deadline_s: float = Field(default=600.0, gt=0, description="Of one run; what is not done by then counts as failed.")
    sample_s: float = Field(default=1.0, gt=0)


def _no_list(given: Any) -> Any:
    return [given] if isinstance(given, int) else given


class Spec(_Frozen):
    """A whole experiment. See the top of this module."""

    title: str
    profile: ProfileSpec | None = None
    stages: dict[StageName, StageSpec]
    nodes: dict[str, NodeSpec] = Field(default={}, description="Simulated only.")
    packing: Packing = "spread"
    paths: dict[str, tuple[StageName, ...]] = Field(default={}, description="By kind: neighbours; simulated only.")
    classes: dict[str, ClassSpec] = Field(
        default={}, description="By kind: then calls wait in the server's order, and may yield; simulated only."
    )
    systems: tuple[System, ...] = Field(default=("pools",), min_length=1)
    offload_s: float = Field(default=0.0, ge=0, description="monolith-offload: seconds a job to swap weights.")
    policies: tuple[PolicySpec, ...] = Field(default=(PolicySpec(name="fixed"),), min_length=1)
    replicas: ReplicasSpec = ReplicasSpec()
    loads: tuple[LoadSpec, ...] = Field(min_length=1)
    seeds: Annotated[tuple[int, ...], BeforeValidator(_no_list)] = Field(default=(0,), min_length=1)
    budget_gpus: float | None = Field(default=None, gt=0)
    max_jobs: int | None = Field(default=None, ge=1, description="In flight; others wait in the journal.")
    overhead_s: float = Field(default=0.0, ge=0, description="Simulated: of a job, before its first call.")
    control_s: float = Field(default=1.0, gt=0, description="Simulated: between two decisions.")
    sample_s: float = Field(default=5.0, gt=0, description="Simulated: between two samples.")
    rate_window_s: float = Field(default=300.0, gt=0, description="Over which the rate of arrivals is measured.")
    live: LiveSpec = LiveSpec()

    @field_validator("stages")
    @classmethod
    def _all_four(cls, given: dict[StageName, StageSpec]) -> dict[StageName, StageSpec]:
        if missing := [name for name in STAGE_NAMES if name not in given]:
            raise ValueError(f"the stages {', '.join(missing)} are missing; give each mean_s, or name a profile")
        return {name: given[name] for name in STAGE_NAMES}

    @model_validator(mode="after")
    def _fits(self) -> "Spec":
        shown = [policy.shown for policy in self.policies]
        if twice := sorted({name for name in shown if shown.count(name) > 1}):
            raise ValueError(f"two policies are called {twice[0]!r}; give each a label of its own")
        for name, stage in self.stages.items():
            if unknown := [own for own in stage.nodes if own not in self.nodes]:
                there = ", ".join(self.nodes) or "none"
                raise ValueError(f"stages.{name}.nodes names {unknown[0]!r}; there are {there}")
        for load in self.loads:
            if strangers := [kind for kind in load.kinds if kind and kind not in self.named_kinds]:
                known = ", ".join(self.named_kinds) or "none"
                raise ValueError(
                    f"a load has the kind {strangers[0]!r}, and paths has {known}; add it there, or to classes"
                )
        if self.named_kinds and self.systems != ("pools",):
            raise ValueError("paths and classes are those of pools; leave them out, or write systems: [pools]")
        if "monolith-offload" in self.systems and not self.offload_s:
            raise ValueError("monolith-offload needs offload_s above 0, or leave that system out")
        return self

    @property
    def named_kinds(self) -> tuple[str, ...]:
        """Of jobs, beside the usual one."""
        return tuple(dict.fromkeys(kind for kind in (*self.paths, *self.classes) if kind))

    def sped(self, speed: float) -> "Spec":
        """The same with every time of stages, loads and policies divided. What the server does by itself keeps its
        pace: decisions, samples, overheads.
        """
        if speed == 1:
            return self
        stages = {
            name: stage.model_copy(update={key: getattr(stage, key) / speed for key in _STAGE_TIMES})
            for name, stage in self.stages.items()
        }
        policies = tuple(
            policy.model_copy(update={"options": _divided(_timed(policy), speed)}) for policy in self.policies
        )
        loads = tuple(_faster(load, speed) for load in self.loads)
        nodes = {name: _faster_node(node, speed) for name, node in self.nodes.items()}
        classes = {
            kind: own.model_copy(update={"deadline_s": None if own.deadline_s is None else own.deadline_s / speed})
            for kind, own in self.classes.items()
        }
        changed: dict[str, Any] = {"stages": stages, "policies": policies, "loads": loads, "nodes": nodes}
        changed |= {"classes": classes}
        changed |= {name: getattr(self, name) / speed for name in ("offload_s", "sample_s", "rate_window_s")}
        return self.model_copy(update=changed)


def load_spec(name: str, *, quick: bool = False) -> tuple[Spec, Path]:
    """An experiment by its file or as one of the ready ones, and the folder from which its recordings are named.

    Raises:
        ExperimentError: there is none, or something in it cannot be.
    """
    ready = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    path = FOLDER / f"{name}.yaml" if name in ready else Path(name)
    if not path.exists():
        raise ExperimentError(f"There is no experiment {name!r}: give a file, or one of {', '.join(ready)}.")
    try:
        document = yaml.safe_load(read_text(path, ExperimentError))
    except yaml.YAMLError as error:
        raise ExperimentError(f"{path} is no YAML: {' '.join(str(error).split())}; mend it there.") from error
    if not isinstance(document, dict):
        raise ExperimentError(f"{path} holds {type(document).__name__}, not an experiment; begin with `title:`.")
    shorter = document.pop("quick", None) or {}
    if quick:
        document.update(shorter)
    return parse_spec(document, str(path)), path.parent


def parse_spec(document: Mapping[str, Any], source: str) -> Spec:
    """The same, of what stands in a file.

    Raises:
        ExperimentError: something in it cannot be.
    """
    try:
        return Spec.model_validate(_profiled(dict(document)))
    except ProfileError as error:
        raise ExperimentError(f"{source}: {error}") from error
    except ValidationError as error:
        own = [item for item in error.errors() if not (item["type"] == "too_short" and item["input"])]  # for one within
        raise ExperimentError(f"{source}: {'; '.join(_told(item) for item in own)}.") from error


def _told(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "the file"
    kind, message = item["type"], str(item["msg"]).removeprefix("Value error, ").rstrip(".")
    if kind == "extra_forbidden":
        model = _model_at(item["loc"])
        return f"{where} is no key of an experiment; allowed there are {', '.join(model.model_fields)}"
    if kind == "missing":
        return f"{where} is missing; write it"
    shown = repr(item["input"])
    return f"{where}: {message}" + (
        f", got {shown}; change it there" if len(shown) < 80 and kind != "value_error" else ""
    )


def _model_at(loc: tuple[Any, ...]) -> type[BaseModel]:
    """The model in which an unknown key stands."""
    models: dict[str, type[BaseModel]] = {
        "stages": StageSpec,
        "nodes": NodeSpec,
        "profile": ProfileSpec,
        "policies": PolicySpec,
        "loads": LoadSpec,
    }
    models |= {"replicas": ReplicasSpec, "live": LiveSpec}
    return Spec if len(loc) == 1 else models.get(str(loc[0]), Spec)


def _profiled(document: dict[str, Any]) -> dict[str, Any]:
    """With the profile's seconds where a stage says none."""
    about, given = document.get("profile"), document.get("stages") or {}
    if not isinstance(about, dict) or not {"name", "accelerator"} <= set(about) or not isinstance(given, dict):
        return document
    profile = load_profile(str(about["name"])).on(str(about["accelerator"]))
    stages: dict[str, Any] = dict(given)
    for name in get_args(StageName):
        stage = profile.stages[name]
        known = {
            "mean_s": stage.job_s,
            "cv": stage.cv,
            "start_up_s": stage.load_s,
            "windows": stage.calls,
            "bytes_out": stage.bytes_out * stage.calls,
        }
        own = stages.get(name) or {}
        stages[name] = {**known, **own} if isinstance(own, dict) else own
    return {**document, "stages": stages}


def _timed(policy: PolicySpec) -> dict[str, Any]:
    """Options with the times that the policy has by itself, so that they can be divided too."""
    made = policy.make()
    own = {name: getattr(made, name) for name in getattr(made, "__dataclass_fields__", {}) if name.endswith("_s")}
    return {**{name: value for name, value in own.items() if value is not None}, **policy.options}


def _divided(options: Mapping[str, Any], speed: float) -> dict[str, Any]:
    return {
        name: value / speed if name.endswith("_s") and isinstance(value, int | float) else value
        for name, value in options.items()
    }


def _faster_node(node: NodeSpec, speed: float) -> NodeSpec:
    changed: dict[str, Any] = {name: getattr(node, name) / speed for name in _NODE_TIMES}
    return node.model_copy(update={**changed, "interruptions_per_hour": node.interruptions_per_hour * speed})


def _faster(load: LoadSpec, speed: float) -> LoadSpec:
    changed: dict[str, Any] = {name: getattr(load, name) / speed for name in _LOAD_TIMES}
    changed |= {
        "rate_per_s": load.rate_per_s * speed,
        "rates_per_s": tuple(rate * speed for rate in load.rates_per_s),
        "stretch": load.stretch / speed,
    }
    return load.model_copy(update=changed)
