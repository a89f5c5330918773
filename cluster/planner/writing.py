"""A plan into a Serve config: pools, replicas, GPUs, CPUs, batches and who lives where; comments and what scales stay.

A stage that scales gets bounds around the plan: its own lower one where that is below, and up to twice the plan as far
as the pool goes. A budget below the plan is raised to it. Where stages share replicas or GPUs, their numbers are fixed;
`scaling` and its policy go, for they count stages that scale by themselves. A replica gets no more CPUs than its share
of a node's, or fewer would find a place than the plan counts on.
"""

import math
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from client._shell.outputs import written
from client._shell.texts import read_text
from cluster.planner.options import TIME_SHARE, Choice
from cluster.planner.search import Plan
from cluster.pools.file import GpuPool, PoolFile, PoolFileError
from cluster.pools.machines import KEPT_CPUS, machine_of


def write_config(plan: Plan, file: PoolFile, path: Path) -> None:
    """See the top of this module.

    Raises:
        PoolFileError: it is no Serve config of ours.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 160
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        document = yaml.load(read_text(path, PoolFileError))
        application = document["applications"][0]
        stages = application["args"].setdefault("stages", {})
    except (YAMLError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise PoolFileError(f"{path} is no Serve config with an application that has args ({error!r}).") from error
    lived = any("lives_with" in (stages.get(choice.stage) or {}) for choice in plan.choices)
    for choice in plan.choices:
        stage = stages.setdefault(choice.stage, {})
        _place(stage, choice, plan, file)
        if lived and "speed" in stage:
            stage["speed"].pop("offload", None)  # of the plan before
        if plan.layout in ("monolith", "offload"):
            stage.setdefault("speed", {})["offload"] = "none" if plan.layout == "monolith" else "model"
    if plan.layout != "apart":
        application.pop("autoscaling_policy", None)
        application["args"].pop("scaling", None)
    elif (scaling := application["args"].get("scaling")) and "budget_gpus" in scaling:
        scaling["budget_gpus"] = max(scaling["budget_gpus"], math.ceil(plan.gpus))
    with written(path) as draft, draft.open("w", encoding="utf-8") as out:
        yaml.dump(document, out)


def _place(stage: Any, choice: Choice, plan: Plan, file: PoolFile) -> None:
    """One stage's keys."""
    host = next(own for own in plan.choices if own.stage == plan.hosts.get(choice.stage, choice.stage))
    pool = file.named(host.pool)
    stage["pool"] = _label(pool)
    gpus = TIME_SHARE if plan.layout == "shared" else host.share
    stage["num_gpus"] = int(gpus) if float(gpus).is_integer() else gpus
    for key in ("replicas", "batch", "lives_with", "fallback_pool"):
        stage.pop(key, None)
    if pool.fallback is not None:
        stage["fallback_pool"] = _label(file.named(pool.fallback))
    if (most := _cpus(pool, gpus)) is not None and stage.get("num_cpus", 1) > most:
        stage["num_cpus"] = most
    if plan.layout != "apart":
        stage.pop("autoscaling", None)
    if choice.stage in plan.hosts and plan.layout != "shared":
        stage["lives_with"] = host.stage
    elif (bounds := stage.get("autoscaling")) is not None:
        bounds.update(_around(choice, file, bounds.get("min_replicas")))
    else:
        stage["replicas"] = host.replicas
    if choice.batch > 1:
        stage["batch"] = {"size": choice.batch}


def _label(pool: GpuPool) -> str:
    return pool.node_labels.get("pool", pool.name)


def _cpus(pool: GpuPool, gpus: float) -> float | None:
    """Of a replica with so many GPUs, if a node's are dealt by GPUs; None where the machine is not known."""
    try:
        cpus = machine_of(pool).cpus - KEPT_CPUS
    except PoolFileError:
        return None
    most = cpus / pool.gpus_per_node * gpus
    return math.floor(most) if most >= 1 else math.floor(most * 100) / 100


def _around(choice: Choice, file: PoolFile, least: int | None) -> dict[str, int]:
    """Bounds of a stage that scales."""
    pool = file.named(choice.pool)
    pools = [pool, *([file.named(pool.fallback)] if pool.fallback is not None else [])]
    per_gpu = int(1 / choice.share + 1e-9) if choice.share < 1 else 1 / choice.share
    planned, room = choice.replicas, int(sum(own.gpus_max for own in pools) * per_gpu + 1e-9)
    lowest = min(planned, least) if least is not None else -(-planned // 2)
    return {"min_replicas": lowest, "max_replicas": max(planned, min(2 * planned, room))}
