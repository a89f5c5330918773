"""The application for one machine, with GPUs or without, and with stand-in stages: all made of the production one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from deployments.errors import ConfigError
from deployments.settings.application import AppArgs, StageArgs, StorageArgs
from deployments.settings.placement import Place, Placement
from deployments.settings.reading import parse_args, with_environment
from stages.replay import ReplayProfile
from stages.speed import SpeedError
from stages.types import StageName

LOCAL_STORE_BYTES = 512 * 2**20  # of shared memory, on a machine without GPUs


def laptop(args: AppArgs, *, data_dir: Path, preset: str = "tiny", threads: int = 1) -> AppArgs:
    """The same application on one machine: no GPU, no pools, a sliver of CPU and one replica each.

    Slivers, because Ray's CPU counts only place replicas here; what a stage really uses is `threads`. V2V and VFI work
    at the same time, so each has half of them: threads of two processes that wait for each other spin in turn, and one
    video took 35 s on two cores in the place of 23.
    """
    shared = max(1, threads // 2)
    stages = {
        name: stage.model_copy(
            update={
                "pool": None,
                "fallback_pool": None,
                "replicas": 1,
                "autoscaling": None,
                "num_cpus": 0.1,
                "num_gpus": 0.0,
                "speed": {},  # of GPUs, and of the file's preset
                "threads": shared if name in ("v2v", "vfi") else threads,
                "graceful_shutdown_timeout_s": 5.0,
                "max_start_attempts": 1,
            }
        )
        for name, stage in args.stages.items()
    }
    changed = {
        "preset": preset,
        "control_pool": None,
        "stages": stages,
        "storage": StorageArgs(
            database_url=f"sqlite:///{data_dir.absolute()}/jobs.sqlite",
            artifacts_url=f"file://{data_dir.absolute()}/artifacts",
        ),
        "pipeline": args.pipeline.model_copy(
            update={"replicas": 1, "num_cpus": 0.1, "lease_s": min(10.0, args.pipeline.lease_s)}
        ),
        "keeper": args.keeper.model_copy(update={"replicas": 1, "num_cpus": 0.1, **_no_states(args, preset == "tiny")}),
        "ingress": args.ingress.model_copy(update={"replicas": 1, "num_cpus": 0.1, "poll_after_ms": 250}),
        "scaling": None,
        "missing_pool": "refuse",
        "pool_wait_s": 0.0,
        "graceful_shutdown_wait_loop_s": 0.1,
    }
    said = {
        **args.model_dump(),
        "limits": args.limits.model_dump(exclude_unset=True),
    }  # `limits_for` asks what was said
    made = parse_args({**said, **{k: _plain(v) for k, v in changed.items()}}, source="laptop variant")
    return with_environment(made)


def box(
    args: AppArgs, placement: Placement, *, data_dir: Path, preset: str, threads: int = 1, max_jobs: int = 8
) -> AppArgs:
    """The same application on one machine, its stages on the GPUs that `placement` gives them."""
    alone = laptop(args, data_dir=data_dir, preset=preset, threads=threads)

    def on_gpus(name: StageName, stage: StageArgs, place: Place) -> StageArgs:
        said = args.stages[name].speed if preset == args.preset else {}
        own = {knob: value for knob, value in said.items() if knob != "gpus"}  # a place is one of them
        return stage.model_copy(
            update={
                "num_gpus": placement.share,
                "gpu": None if place.chosen_by_ray else str(place.gpus[0]),
                "speed": {**own, "offload": place.offload},
                "lives_with": place.lives_with,
                "replicas": len(place.gpus),
                "surge_percent": 0,  # there is no room for a replica more
            }
        )

    changed = {
        "stages": {name: on_gpus(name, stage, placement.places[name]) for name, stage in alone.stages.items()},
        "pipeline": alone.pipeline.model_copy(update={"max_jobs": max_jobs}),
        "ingress": alone.ingress.model_copy(update={"poll_after_ms": args.ingress.poll_after_ms}),
    }
    made = alone.model_copy(update=changed)
    try:
        made.speeds  # noqa: B018 - it judges
    except SpeedError as error:
        raise ConfigError(str(error)) from error
    return made


def rehearsal(args: AppArgs, profiles: Mapping[StageName, ReplayProfile]) -> AppArgs:
    """The same application with stand-in stages of given seconds and bytes: for tests, measurements and planning."""
    stages = {
        name: stage.model_copy(
            update={
                "factory": "stages.replay:ReplayStage",
                "options": {"stage": name, **profiles.get(name, ReplayProfile()).options()},
            }
        )
        for name, stage in args.stages.items()
    }
    return args.model_copy(update={"stages": stages, "keeper": args.keeper.model_copy(update=_no_states(args))})


def _no_states(args: AppArgs, short: bool = True) -> dict[str, float]:
    """Calls that take a moment give no states, unless somebody says otherwise."""
    return {"state_every_s": 0.0} if short and "state_every_s" not in args.keeper.model_fields_set else {}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
