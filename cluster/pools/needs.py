"""Which pool each stage needs, and whether the cluster has it: a pure preflight.

Takes what the stages ask for (`StageNeed`) and what the nodes offer (`NodeOffer`); gives what is missing (`Lack`) as
sentences. It exists because Ray leaves a replica whose labels nobody carries pending for ever and never names them.

It knows nothing of Ray (`cluster.pools.ray_nodes` reads the live nodes), nor of what else runs on the nodes: it judges
a node's total resources, so it finds pools that are missing or too small in principle, not ones that are merely busy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stages.types import StageName

_EPSILON = 1e-9


@dataclass(frozen=True)
class StageNeed:
    """What one stage asks of the cluster: `replicas` times these resources on nodes with these labels."""

    stage: StageName | None  # None: ingress, pipeline and keeper
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)  # of one replica: {"GPU": 1.0, "CPU": 4.0}
    replicas: int = 1
    fallbacks: tuple[Mapping[str, str], ...] = ()  # labels of nodes that will do where those have no place


@dataclass(frozen=True)
class NodeOffer:
    """One living node: its labels and its total resources."""

    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Lack:
    """One stage that cannot be placed, and why."""

    stage: StageName | None
    sentence: str


def find_lacks(needs: Sequence[StageNeed], nodes: Sequence[NodeOffer]) -> tuple[Lack, ...]:
    """Every stage whose first replicas no set of nodes can hold, in the order of `needs`.

    Stages that share a pool are judged together: a node's capacity is spent on the stages before. A share of a GPU is
    of one GPU.
    """
    free = [_Room(node.resources) for node in nodes]
    lacks: list[Lack] = []
    for need in needs:
        matching = [
            index
            for labels in (need.labels, *need.fallbacks)
            for index, node in enumerate(nodes)
            if all(node.labels.get(key) == value for key, value in labels.items())
        ]
        if not matching:
            lacks.append(Lack(need.stage, _no_such_pool(need, nodes)))
            continue
        placed = sum(_place(need, [free[index] for index in matching]) for _ in range(need.replicas))
        if placed < need.replicas:
            lacks.append(Lack(need.stage, _too_small(need, placed, len(matching))))
    return tuple(lacks)


class _Room:
    """What is free on one node."""

    def __init__(self, resources: Mapping[str, float]) -> None:
        self._free = {name: amount for name, amount in resources.items() if name != "GPU"}
        self._gpus = [1.0] * int(resources.get("GPU", 0.0) + _EPSILON)

    def take(self, resources: Mapping[str, float]) -> bool:
        """Spend them, if they are there."""
        others = {name: amount for name, amount in resources.items() if name != "GPU"}
        if any(self._free.get(name, 0.0) + _EPSILON < amount for name, amount in others.items()):
            return False
        gpus = self._gpus_for(resources.get("GPU", 0.0))
        if gpus is None:
            return False
        for name, amount in others.items():
            self._free[name] = self._free.get(name, 0.0) - amount
        for gpu in gpus:
            self._gpus[gpu] -= min(resources["GPU"], 1.0)
        return True

    def _gpus_for(self, amount: float) -> Sequence[int] | None:
        """Where least is left over; None: no room."""
        if amount < 1:
            fits = [(room, gpu) for gpu, room in enumerate(self._gpus) if room + _EPSILON >= amount]
            return [] if amount <= 0 else [min(fits)[1]] if fits else None
        whole = [gpu for gpu, room in enumerate(self._gpus) if room >= 1 - _EPSILON]
        return whole[: round(amount)] if len(whole) + _EPSILON >= amount else None


def _place(need: StageNeed, free: Sequence[_Room]) -> bool:
    return any(room.take(need.resources) for room in free)


def _subject(need: StageNeed) -> str:
    return f"Stage {need.stage} needs" if need.stage else "Ingress, pipeline and keeper need"


def _key(need: StageNeed) -> str:
    return f"stages.{need.stage}.pool" if need.stage else "control_pool"


def _fewer(need: StageNeed) -> str:
    return f"lower stages.{need.stage}.replicas or its resources" if need.stage else "lower their num_cpus"


def _selector(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items()) or "any node"


def _amounts(resources: Mapping[str, float]) -> str:
    return " + ".join(f"{amount:g} {name}" for name, amount in resources.items() if amount) or "no resources"


def _no_such_pool(need: StageNeed, nodes: Sequence[NodeOffer]) -> str:
    keys = tuple(need.labels)
    seen = sorted(
        {_selector({k: node.labels[k] for k in keys}) for node in nodes if all(k in node.labels for k in keys)}
    )
    there = f"the nodes there carry {'; '.join(seen)}" if seen else f"no node carries a label {' or '.join(keys)}"
    wanted = f"a node labelled {_selector(need.labels)}" if need.labels else "a node"
    return (
        f"{_subject(need)} {wanted}, but of {len(nodes)} living nodes {there if nodes else 'there is none'}. "
        f"Start nodes with that label, or change {_key(need)} in serve_config.yaml."
    )


def _too_small(need: StageNeed, placed: int, nodes: int) -> str:
    return (
        f"{_subject(need)} {need.replicas} x ({_amounts(need.resources)}) on nodes labelled "
        f"{_selector(need.labels)}, but the {nodes} such node{'s have' if nodes > 1 else ' has'} room for {placed}. "
        f"Add nodes to that pool, or {_fewer(need)} in serve_config.yaml."
    )
