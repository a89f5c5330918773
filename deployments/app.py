"""The graph: which deployments there are and who calls whom. The only file that knows it.

    ingress ──nudge──► pipeline ──► t2i, i2v, v2v, vfi, keeper
       └──show──► keeper

`build` is what `import_path: deployments.app:build` names in serve_config.yaml; its `args` are those of
`deployments.settings.application.AppArgs`. The classes are plain and become deployments here.

A roll-out restarts what changed: each deployment's version is the digest of what its replicas are built of, and what
they can take over while they work is their `user_config`.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from cluster.pools.stage_args import labels_of
from deployments import __version__
from deployments.api.ingress import Ingress
from deployments.files.keeper import Keeper
from deployments.observe.logs import Format, Level
from deployments.on_ray.ray_internals import has_room, with_version
from deployments.on_ray.routing import IdleFirst
from deployments.pipeline.pipeline import Pipeline
from deployments.replicas.replica import Replica
from deployments.settings.application import AppArgs, ScalingArgs
from deployments.settings.reading import check_environment, parse_args, with_environment
from deployments.settings.rollout import built_of, live
from stages.types import STAGE_NAMES, StageName

APP_NAME = "magicvideo"
_MANY = 10_000  # callers of ingress and pipeline hold no device; Serve's default of 5 would starve them
_HEALTH_S = 2.0  # between two looks at a replica: a dead one is replaced only then, and Serve's default is 10
_ALL = 100  # per cent: the new replicas start before the old ones stop
_WORDS = 2  # places of a replica for words to it, beside its calls
_MP4 = "deployments.files.mp4:Mp4Finisher"


def build(args: Mapping[str, Any] | AppArgs) -> Application:
    """The application.

    Raises:
        ConfigError: one sentence on what cannot be served.
    """
    check_environment()
    typed = args if isinstance(args, AppArgs) else with_environment(parse_args(dict(args)))
    homes = {name: _stage(typed, name) for name in STAGE_NAMES if typed.home(name) == name}
    stages = {name: homes[typed.home(name)] for name in STAGE_NAMES}
    keeper = _keeper(typed)
    pipeline = serve.deployment(
        name="pipeline",
        **_drivers(typed),
        **_control(typed, typed.pipeline.num_cpus),
        max_ongoing_requests=_MANY,
    )(Pipeline)
    ingress = serve.deployment(
        name="ingress",
        num_replicas=typed.ingress.replicas,
        **_control(typed, typed.ingress.num_cpus),
        max_ongoing_requests=_MANY,
    )(serve.ingress()(Ingress))
    made_of, told = built_of(typed), live(typed)
    guests = {
        name: typed.home(name) for name in STAGE_NAMES if typed.home(name) != name
    }  # it holds others' handles then
    rolled = _rolled(pipeline, {**made_of, "guests": guests} if guests else made_of, told)
    driven = rolled.bind(typed, **stages, **keeper)
    return _rolled(ingress, made_of, told).bind(typed, driven, **keeper)


def _rolled(deployment: serve.Deployment, made_of: Any, told: Mapping[str, Any]) -> serve.Deployment:
    """The deployment whose replicas are replaced when `made_of` changes, and hear of `told` while they work."""
    digest = hashlib.sha256(json.dumps([__version__, made_of], sort_keys=True).encode()).hexdigest()
    return with_version(deployment.options(user_config=dict(told)), digest[:16])


def _control(args: AppArgs, num_cpus: float) -> dict[str, Any]:
    """What ingress, pipeline and keeper have in common."""
    placed = _placed(num_cpus, labels_of(args.control_pool))
    return {
        "ray_actor_options": placed,
        "max_surge_percent": _surge(_ALL, placed),
        "graceful_shutdown_wait_loop_s": args.graceful_shutdown_wait_loop_s,
        "health_check_period_s": _HEALTH_S,
    }


def _surge(percent: int, placed: Mapping[str, Any]) -> int:
    """How many more replicas than wanted a roll-out may have; in a full pool none, as it would wait for ever."""
    resources = {"CPU": placed["num_cpus"], "GPU": placed.get("num_gpus", 0.0)}
    return percent if has_room(placed.get("label_selector", {}), resources) else 0


def _placed(num_cpus: float, labels: Mapping[str, str]) -> dict[str, Any]:
    """Where a replica may run, and what it takes there."""
    return {"num_cpus": num_cpus, **({"label_selector": dict(labels)} if labels else {})}


def _drivers(args: AppArgs) -> dict[str, Any]:
    """How many replicas the pipeline has. Serve's policies see, and hear from, autoscaled deployments alone."""
    pipeline = args.pipeline
    if args.scaling is None:
        return {"num_replicas": pipeline.replicas}
    most = max(pipeline.replicas, pipeline.max_replicas or 0)
    return {"autoscaling_config": {"min_replicas": pipeline.replicas, "max_replicas": most, **_at_once(args.scaling)}}


def _at_once(scaling: ScalingArgs) -> dict[str, float]:
    """Serve does what the policy says when it says so, by fresh reports; delays are the policy's own."""
    delays = {"upscale_delay_s": 0.0, "downscale_delay_s": 0.0, "downscale_to_zero_delay_s": 0.0}
    return {**delays, "metrics_interval_s": scaling.report_s, "look_back_period_s": 2 * scaling.report_s}


def _keeper(args: AppArgs) -> dict[str, Application]:
    keeper = args.keeper
    if not keeper.enabled:
        return {}
    deployment = serve.deployment(
        name="keeper",
        num_replicas=keeper.replicas,
        **_control(args, keeper.num_cpus),
        max_ongoing_requests=keeper.max_ongoing_requests,
        request_router_config=RequestRouterConfig(request_router_class=IdleFirst, **args.router.model_dump()),
    )(Keeper)
    url, told = args.storage.artifacts_url, {"logs": _logs(args)}
    return {"keeper": _rolled(deployment, url, told).bind(url, **told)}


def _logs(args: AppArgs) -> tuple[Format, Level]:
    return args.observability.log_format, args.observability.log_level


def _stage(args: AppArgs, name: StageName) -> Application:
    stage = args.stages[name]
    guests = {other: args.factory(other) for other in STAGE_NAMES if other != name and args.home(other) == name}
    hosted = [stage, *(args.stages[other] for other in guests)]
    placed = {**_placed(stage.num_cpus, stage.labels), "num_gpus": stage.num_gpus}
    if stage.fallback_labels:
        placed["fallback_strategy"] = [{"label_selector": labels} for labels in stage.fallback_labels]
    words = _WORDS if name in args.ordered().values() else 0
    options: dict[str, Any] = {
        "name": name,
        "ray_actor_options": placed,
        "max_surge_percent": _surge(stage.surge_percent, placed),
        "max_ongoing_requests": stage.max_ongoing_calls + words,
        "graceful_shutdown_timeout_s": max(one.graceful_shutdown_timeout_s for one in hosted),
        "graceful_shutdown_wait_loop_s": args.graceful_shutdown_wait_loop_s,
        "health_check_period_s": _HEALTH_S,
        "max_constructor_retry_count": stage.max_start_attempts,
        "request_router_config": RequestRouterConfig(
            request_router_class=IdleFirst, request_router_kwargs={"spare": words}, **args.router.model_dump()
        ),
    }
    if stage.autoscaling is None:
        options["num_replicas"] = stage.replicas
    else:
        own = {} if args.scaling is None else _at_once(args.scaling)
        target = stage.autoscaling.target_ongoing_requests * stage.batch.size
        bounds = {**stage.autoscaling.model_dump(exclude_none=True), "target_ongoing_requests": target}
        options["autoscaling_config"] = {**bounds, **own}
    last = STAGE_NAMES[-1]
    finisher = {
        "finisher": _MP4,
        "finisher_options": {"artifacts_url": args.storage.artifacts_url},
        **({"finished": last} if name != last else {}),
    }
    speeds = {one: args.stages[one].speed for one in (name, *guests) if args.stages[one].speed}
    made_of = {
        "factory": args.factory(name),
        "preset": args.preset,
        "device": stage.device,
        "options": stage.options,
        "threads": stage.torch_threads,
        **({} if stage.gpu is None else {"gpu": stage.gpu}),
        **({"speeds": speeds} if speeds else {}),
        "guests": {other: (factory, args.stages[other].options) for other, factory in guests.items()},
        "batch": (stage.batch.size, stage.batch.wait_s),
        **(finisher if args.home(last) == name else {}),
    }
    told = {
        "stall_limit_s": max(one.stall_limit_s for one in hosted),
        "glimpse_every": args.previews.every_steps,
        "logs": _logs(args),
    }
    return _rolled(serve.deployment(**options)(Replica), made_of, told).bind(**made_of, **told)
