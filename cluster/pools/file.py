"""`pools.yaml`: which GPUs there are, what they cost, and which stages may live on them.

    currency: USD                     # only named, never converted
    control: {price_per_hour: 0.20}   # of the node without GPUs for ingress, pipeline and keeper; 0 if left out
    pools:
      - name: big                     # nodes join with `ray start --labels pool=big`
        accelerator: H100             # as profiles name it
        gib: 80                       # of one GPU
        gpus_per_node: 8
        nodes: {min: 0, max: 2, boot_s: 180, idle_s: 300, least_bill_s: 60}
        price_per_hour: 3.0           # of one GPU; nodes are billed whole, `least_bill_s` at least
        stages: [i2v, v2v]
        fraction: {}                  # share of one GPU: {t2i: 0.7, vfi: 0.3} puts both on the same; 1 if left out
        spot: {interruptions_per_hour: 0.05, notice_s: 120}   # of one node; none if left out
        fallback: other               # the pool for replicas that find no place here, as it is full or taken back
        time_shared: false            # true: a GPU may have a replica of every stage, which take turns
        monolith: false               # true: one replica may do all four stages on a GPU, offloading if it must
        lives_with: {v2v: i2v}        # V2V may live in I2V's replicas and hold the common layers once; none if left out
        machine: {cpus: 192, memory_gib: 2048}   # of one node, for manifests; of AWS's machines known without

Reading is strict: what cannot be meant is refused with one sentence that names the pool.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from client._shell.texts import read_text
from stages.types import STAGE_NAMES, StageName


class PoolFileError(ValueError):
    """A pools file that cannot be used; one sentence."""


_EXAMPLE = "cluster/pools.yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Nodes(_Strict):
    """How many nodes there may be, and what one takes to come and go."""

    min: int = Field(default=0, ge=0)
    max: int = Field(ge=1)
    boot_s: float = Field(default=180.0, ge=0, description="From the wish to a node that takes replicas.")
    idle_s: float = Field(default=300.0, ge=0, description="An empty node stays so long.")
    least_bill_s: float = Field(default=60.0, ge=0, description="Billed at least, however short it ran.")

    @model_validator(mode="after")
    def _ordered(self) -> "Nodes":
        if self.min > self.max:
            raise ValueError(f"nodes.min is {self.min}, above nodes.max, which is {self.max}; lower it")
        return self


class Machine(_Strict):
    """One node beside its GPUs."""

    cpus: int = Field(ge=3)
    memory_gib: int = Field(ge=8)
    instance: str | None = Field(default=None, min_length=1)  # what AWS calls it; None: it is not AWS's


class Spot(_Strict):
    """Nodes that their owner may take back."""

    interruptions_per_hour: float = Field(gt=0, description="Of one node.")
    notice_s: float = Field(default=120.0, ge=0, description="From the warning to the end.")


class GpuPool(_Strict):
    """GPUs of one kind."""

    name: str = Field(min_length=1)
    accelerator: str
    gib: float = Field(gt=0)
    gpus_per_node: int = Field(ge=1)
    nodes: Nodes
    price_per_hour: float = Field(ge=0)
    stages: tuple[StageName, ...] = Field(min_length=1)
    labels: dict[str, str] = {}
    fraction: dict[StageName, float] = {}
    lives_with: dict[StageName, StageName] = {}
    time_shared: bool = False
    monolith: bool = False
    spot: Spot | None = None
    fallback: str | None = None
    machine: Machine | None = None

    @model_validator(mode="after")
    def _sensible(self) -> "GpuPool":
        for name, share in self.fraction.items():
            if not 0 < share <= 1:
                raise ValueError(f"fraction.{name} is {share}; it must be above 0 and at most 1")
        if strangers := [name for name in self.fraction if name not in self.stages]:
            raise ValueError(f"{strangers[0]} has a fraction, but is not among its stages")
        absent = [name for name in STAGE_NAMES if name not in self.stages]
        for key in ("time_shared", "monolith"):
            if getattr(self, key) and absent:
                raise ValueError(f"{key} is true, but {absent[0]} is not among its stages; add it, or leave that out")
        for name, home in self.lives_with.items():
            if (name, home) != ("v2v", "i2v"):
                raise ValueError(f"lives_with.{name} is {home}; v2v alone can live with another, i2v")
            if homeless := [stage for stage in (name, home) if stage not in self.stages]:
                raise ValueError(f"{name} may live with {home}, but {homeless[0]} is not among its stages")
        return self

    @property
    def gpus_max(self) -> int:
        return self.gpus_per_node * self.nodes.max

    @property
    def node_labels(self) -> dict[str, str]:
        return self.labels or {"pool": self.name}

    def gpus_of(self, stage: StageName) -> float:
        """GPUs that one replica takes."""
        return self.fraction.get(stage, 1.0)

    @property
    def node_price_per_hour(self) -> float:
        return self.gpus_per_node * self.price_per_hour


class Control(_Strict):
    """The nodes without GPUs."""

    price_per_hour: float = Field(ge=0, description="Of one node.")
    nodes: int = Field(default=1, ge=1)


class PoolFile(_Strict):
    """All pools of a cluster."""

    pools: tuple[GpuPool, ...] = Field(min_length=1)
    currency: str = Field(default="", max_length=8)
    control: Control | None = None

    @model_validator(mode="after")
    def _named_once(self) -> "PoolFile":
        names = [pool.name for pool in self.pools]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two pools are called {twice[0]!r}")
        if homeless := [stage for stage in STAGE_NAMES if not any(stage in pool.stages for pool in self.pools)]:
            raise ValueError(f"no pool takes the stage {homeless[0]}; add it to the stages of one")
        for pool in self.pools:
            _judge_fallback(pool, self.pools)
        return self

    @property
    def control_per_hour(self) -> float:
        return self.control.price_per_hour * self.control.nodes if self.control else 0.0

    def named(self, name: str) -> GpuPool:
        return next(pool for pool in self.pools if pool.name == name)


def _judge_fallback(pool: GpuPool, pools: Sequence[GpuPool]) -> None:
    if pool.fallback is None:
        return
    names = [other.name for other in pools if other.name != pool.name]
    if pool.fallback not in names:
        nearest = (
            f"name another pool, one of {', '.join(names)}" if names else "there is no other pool, so leave it out"
        )
        raise ValueError(f"{pool.name}.fallback is {pool.fallback!r}; {nearest}")
    other = next(own for own in pools if own.name == pool.fallback)
    if lacking := [stage for stage in pool.stages if stage not in other.stages]:
        raise ValueError(f"{pool.name}.fallback is {other.name}, which does not take {lacking[0]}; add it there")
    if other.fallback is not None:
        raise ValueError(
            f"{pool.name}.fallback is {other.name}, which falls back itself, to {other.fallback}; name that one"
        )


def load_pools(path: Path) -> PoolFile:
    """The pools of a file.

    Raises:
        PoolFileError: it cannot be read, or says what cannot be meant.
    """
    try:
        document = yaml.safe_load(read_text(path, PoolFileError))
    except yaml.YAMLError as error:
        raise PoolFileError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(document, dict):
        raise PoolFileError(f"{path} has no `pools:`; write them as in {_EXAMPLE}.")
    try:
        return PoolFile.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = _place(document, first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] in ("missing", "too_short"):
            which = "is missing" if first["type"] == "missing" else "names none"
            raise PoolFileError(f"{path}: {place.removesuffix(': ')} {which}; write it as in {_EXAMPLE}.") from error
        given = f" (got {first['input']!r})" if not isinstance(first["input"], (dict, list)) else ""
        raise PoolFileError(f"{path}: {place}{said}{given}.") from error


def _place(document: object, loc: Sequence[str | int]) -> str:
    if len(loc) >= 2 and loc[0] == "pools" and isinstance(loc[1], int):
        try:
            name = document["pools"][loc[1]]["name"]  # type: ignore[index]
        except (KeyError, TypeError, IndexError):
            name = f"number {loc[1] + 1}"
        rest = ".".join(str(part) for part in loc[2:])
        return f"pool {name}: {rest}: " if rest else f"pool {name}: "
    return f"{'.'.join(str(part) for part in loc)}: " if loc else ""
