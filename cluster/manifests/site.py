"""A place to deploy to: pools and Serve config joined and judged, so that what is rendered can be scheduled.

Takes a `PoolFile` and the text of a Serve config; gives a `Site`, from which every manifest follows. Of the config it
types the stages and what else manifests need; `deployments.settings.application` judges the rest when the application
is built.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from cluster.pools.file import GpuPool, Machine, PoolFile
from cluster.pools.machines import KEPT_CPUS, machine_of
from cluster.pools.needs import NodeOffer, StageNeed, find_lacks
from cluster.pools.stage_args import ServeConfigError, StageArgs, our_application
from stages.types import STAGE_NAMES, StageName

NAME = "magicvideo"
CONTROL = "control"  # nodes without GPUs, for ingress, pipeline and keeper
HEAD = "head"
_GROUP = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_IMAGE = re.compile(r"[a-z0-9][\w.:/-]*(@sha256:[0-9a-f]{64})?")


class SiteError(ValueError):
    """Pools and config that do not go together; one sentence."""


class _Beside(BaseModel):
    enabled: bool = True
    replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=1.0, ge=0)


class _Storage(BaseModel):
    database_url: str = "sqlite:///data/jobs.sqlite"
    artifacts_url: str = "file://data/artifacts"


class _Args(BaseModel):
    preset: str = "tiny"
    control_pool: str | None = None
    stages: dict[StageName, StageArgs] = {}
    storage: _Storage = Field(default_factory=_Storage)
    ingress: _Beside = Field(default_factory=_Beside)
    pipeline: _Beside = Field(default_factory=_Beside)
    keeper: _Beside = Field(default_factory=_Beside)


@dataclass(frozen=True)
class Group:
    """The nodes of one pool."""

    name: str
    labels: Mapping[str, str]
    gpus: int
    machine: Machine
    nodes_min: int
    nodes_max: int
    slowest_call_s: int = 0  # what a node that goes away must let end
    price_per_hour: float = 0.0  # of a node
    notice_s: int | None = None  # a spot node's, from the warning to the end; None: nobody takes it back

    @property
    def drain_s(self) -> int:
        """For which a node that is told to stop lets calls end: no longer than its owner leaves it."""
        return self.slowest_call_s if self.notice_s is None else min(self.slowest_call_s, self.notice_s)

    @property
    def cpus(self) -> int:
        """That Ray may give away on one node."""
        return self.machine.cpus - KEPT_CPUS

    @property
    def memory_gib(self) -> int:
        return self.machine.memory_gib * 85 // 100


@dataclass(frozen=True)
class Site:
    """What manifests are made from."""

    image: str
    ray_version: str
    preset: str
    config: Mapping[str, Any]  # the Serve config, as it was given
    port: int
    metrics_path: str
    groups: tuple[Group, ...]
    unused: tuple[str, ...]  # pools where no stage runs
    writers: tuple[str, ...]  # pools whose stages write files
    control_cpus: int
    database_in_config: bool  # else it comes from the secret
    artifacts_path: str | None  # the folder that all nodes must share; None: an object store
    control_price: float = 0.0  # of a node without GPUs, an hour

    @property
    def slowest_call_s(self) -> int:
        return max(group.slowest_call_s for group in self.groups)

    @property
    def node_prices(self) -> dict[str, float]:
        """By the label `pool`; where several pools carry one, the dearest."""
        found: dict[str, float] = {}
        for group in self.groups:
            label = group.labels.get("pool", group.name)
            found[label] = max(group.price_per_hour, found.get(label, 0.0))
        return found | ({CONTROL: self.control_price} if self.control_price else {})

    @property
    def image_can_change(self) -> bool:
        """Whether the name could stand for another image tomorrow."""
        return "@sha256:" not in self.image

    @property
    def control_memory_gib(self) -> int:
        return 4 * self.control_cpus


def make_site(file: PoolFile, text: str, *, image: str, ray_version: str, source: str = "the Serve config") -> Site:
    """Join both.

    Raises:
        SiteError: they do not go together, or the config is none of ours.
        PoolFileError: a pool's machine is not known.
    """
    if not _IMAGE.fullmatch(image):
        raise SiteError(
            f"--image is {image!r}; write it like registry.example.com/magicvideo:1, or better NAME@sha256:DIGEST."
        )
    config, ours, args = _read(text, source)
    if args.control_pool != CONTROL:
        raise SiteError(
            f"{source}: args.control_pool is {args.control_pool!r}, so that ingress, pipeline and keeper could run on "
            f"nodes with GPUs and keep them; make it {CONTROL}, the label of the group that has none."
        )
    groups = {pool.name: _group(pool) for pool in file.pools}
    homes = {stage: _homes(stage, args, file, source) for stage in STAGE_NAMES}
    for name, group in groups.items():
        there = [args.stages[stage] for stage in STAGE_NAMES if name in _names(homes[stage])]
        slowest_s = max((stage.graceful_shutdown_timeout_s for stage in there), default=0.0)
        groups[name] = replace(group, slowest_call_s=math.ceil(slowest_s))
    used = [pool.name for pool in file.pools if any(pool in pools for pools in homes.values())]
    for stage, pools in homes.items():
        if args.stages[stage].lives_with is None:
            _judge_growth(stage, args.stages[stage], [groups[pool.name] for pool in pools])
    _judge_first(args, [groups[name] for name in used])
    beside = [args.ingress, args.pipeline, *([args.keeper] if args.keeper.enabled else [])]
    return Site(
        image=image,
        ray_version=ray_version,
        preset=args.preset,
        config=config,
        port=_port(config, source),
        metrics_path=f"{str(ours.get('route_prefix') or '/').rstrip('/')}/metrics",
        groups=tuple(groups[name] for name in used),
        unused=tuple(pool.name for pool in file.pools if pool.name not in used),
        writers=_names(homes[STAGE_NAMES[-1]]),
        control_cpus=1 + max(1, round(sum(part.replicas * part.num_cpus for part in beside))),
        database_in_config=not args.storage.database_url.startswith(("sqlite", "env:")),
        artifacts_path=_shared_folder(args.storage.artifacts_url, source),
        control_price=file.control.price_per_hour if file.control is not None else 0.0,
    )


def _read(text: str, source: str) -> tuple[Mapping[str, Any], Mapping[str, Any], _Args]:
    """The config, our application in it, and its arguments."""
    try:
        config, ours = our_application(text, source)
        return config, ours, _Args.model_validate(ours.get("args") or {})
    except ServeConfigError as error:
        raise SiteError(str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SiteError(f"{source}: args.{place}: {first['msg']} (got {first['input']!r}).") from error


def _group(pool: GpuPool) -> Group:
    if not _GROUP.fullmatch(pool.name) or pool.name in (CONTROL, HEAD):
        raise SiteError(
            f"pool {pool.name!r} cannot be a group of Kubernetes: call it by at most 30 small letters, digits and "
            f"dashes, a letter first, and neither {CONTROL} nor {HEAD}."
        )
    if pool.node_labels.get("pool") == CONTROL:
        raise SiteError(f"pool {pool.name}: pool={CONTROL} is the label of the nodes without GPUs; choose another.")
    for key, value in pool.node_labels.items():
        if not (_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            raise SiteError(
                f"pool {pool.name}: {key}={value} is no label of Kubernetes; use letters, digits, '-', '_' and '.'."
            )
    return Group(
        *(pool.name, pool.node_labels, pool.gpus_per_node, machine_of(pool), pool.nodes.min, pool.nodes.max),
        price_per_hour=pool.node_price_per_hour,
        notice_s=None if pool.spot is None else int(pool.spot.notice_s),
    )


def _names(pools: list[GpuPool]) -> tuple[str, ...]:
    return tuple(pool.name for pool in pools)


def _homes(stage: StageName, args: _Args, file: PoolFile, source: str) -> list[GpuPool]:
    """The pools that carry the stage's label, or its host's; then those of its fallback."""
    if stage not in args.stages:
        return _carrying(stage, None, file, source)
    home = args.stages[stage].lives_with or stage
    if home not in args.stages or (home != stage and args.stages[home].lives_with is not None):
        raise SiteError(f"{source}: stage {stage} lives with {home}, which has no replicas of its own; name another.")
    own = args.stages[home]
    first = _carrying(stage, own.pool, file, source)
    return first if own.fallback_pool is None else [*first, *_carrying(stage, own.fallback_pool, file, source)]


def _carrying(stage: StageName, wanted: str | None, file: PoolFile, source: str) -> list[GpuPool]:
    there = sorted({pool.node_labels["pool"] for pool in file.pools if "pool" in pool.node_labels})
    if wanted is None:
        raise SiteError(f"{source}: stage {stage} names no pool; set stages.{stage}.pool to one of {', '.join(there)}.")
    found = [pool for pool in file.pools if pool.node_labels.get("pool") == wanted]
    if not found:
        raise SiteError(
            f"{source} puts stage {stage} on pool={wanted}, and the pools file has {', '.join(there) or 'none'}; "
            "change one of them, or let `python -m cluster plan --write` choose."
        )
    for pool in found:
        if stage not in pool.stages:
            takes = ", ".join(pool.stages)
            raise SiteError(f"{source} puts stage {stage} on pool={wanted}, and pool {pool.name} takes only {takes}.")
    return found


def _judge_growth(stage: StageName, need: StageArgs, groups: list[Group]) -> None:
    """Refuse replicas that could never be placed: they would wait for ever, and silently."""
    room = sum(_room(need, group) * group.nodes_max for group in groups)
    if room == 0:
        best = max(groups, key=lambda group: group.gpus)
        raise SiteError(
            f"A replica of stage {stage} takes {need.num_gpus:g} GPU and {need.num_cpus:g} CPU, and a node of pool "
            f"{best.name} has {best.gpus} and {best.cpus}; lower stages.{stage}.num_gpus or num_cpus."
        )
    if need.most_replicas > room:
        key = "replicas" if need.autoscaling is None else "autoscaling.max_replicas"
        raise SiteError(
            f"Stage {stage} may have {need.most_replicas} replicas, and all nodes of "
            f"{', '.join(group.name for group in groups)} hold {room}; lower stages.{stage}.{key}, or raise nodes.max "
            "in the pools file."
        )


def _room(need: StageArgs, group: Group) -> int:
    """Replicas on one node."""
    rooms = [group.gpus / need.num_gpus] if need.num_gpus else []
    if 0 < need.num_gpus < 1:  # of one GPU
        rooms = [group.gpus * int(1 / need.num_gpus + 1e-9)]
    rooms += [group.cpus / need.num_cpus] if need.num_cpus else []
    return int(min(rooms, default=10_000) + 1e-9)


def _judge_first(args: _Args, groups: list[Group]) -> None:
    offers = [
        NodeOffer(group.labels, {"GPU": group.gpus, "CPU": group.cpus})
        for group in groups
        for _ in range(group.nodes_max)
    ]
    needs = [
        StageNeed(
            *(name, {"pool": stage.pool or ""}, {"GPU": stage.num_gpus, "CPU": stage.num_cpus}, stage.least_replicas),
            fallbacks=stage.fallback_labels,
        )
        for name, stage in args.stages.items()
        if stage.lives_with is None
    ]
    for lack in find_lacks(needs, offers):
        raise SiteError(lack.sentence)


def _port(config: Mapping[str, Any], source: str) -> int:
    """Where every node with a replica listens: the Service sends requests to workers alone."""
    if (where := config.get("proxy_location", "EveryNode")) != "EveryNode":
        raise SiteError(f"{source}: proxy_location is {where!r}, and the head has no replica; make it EveryNode.")
    options = config.get("http_options") or {}
    if (host := options.get("host", "0.0.0.0")) in ("127.0.0.1", "localhost", "::1"):
        raise SiteError(f"{source}: http_options.host is {host!r}, where no other machine comes in; make it 0.0.0.0.")
    port = options.get("port", 8000)
    if not isinstance(port, int) or not 1 <= port <= 65535:
        raise SiteError(f"{source}: http_options.port is {port!r}; it must be between 1 and 65535.")
    return port


def _shared_folder(url: str, source: str) -> str | None:
    if "://" in url and not url.startswith("file://"):
        return None
    path = url.removeprefix("file://")
    if not path.startswith("/"):
        raise SiteError(
            f"{source}: storage.artifacts_url is {url!r}; nodes need a folder from the root, or an object store."
        )
    return path
