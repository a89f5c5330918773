"""How near serving comes to the bound of the slowest stage: `python -m benchmarks.pipelining [--quick]`.

The real application (ingress, pipeline, four stages; HTTP, journal, streams, encoder) with stages that take given
seconds and give the paper's bytes (3, 35, 105 MB), on an object store of 4 GB. A burst of requests, all in flight at
once, is timed from the first POST until the last video is seen completed. In the same run, on the same Ray, the same
work goes through plain chained deployments (`benchmarks.peer.plain`), and through the application scaled by its policy.

    efficiency             shortest possible makespan (`benchmarks.tools.bound`) / measured; the lower of both bursts
    efficiency_policy      the larger burst again with the look-ahead policy deciding replicas, within the same numbers,
                           and four replicas of the pipeline that share the bound on jobs in flight; stages twice as
                           slow, as these five more processes with work leave two cores less for the stages' bytes
    spilled_mb_policy      what Ray wrote to disk meanwhile
    plain_efficiency       the same of plain chained deployments
    spilled_mb             what Ray wrote to disk while the application ran, because the store was full
    store_mb_after         what is still in the object store afterwards, over what Serve keeps there since the start
    idle_overhead_ms       one request alone: POST until seen completed, minus its critical path as the replicas say
                           (run_s of T2I, I2V, V2V's windows over its replicas, and VFI's last window)
    router_mb_per_request  growth of the ingress' and the pipeline's memory (RSS) per request of the bursts

About nineteen minutes and 45 GB of disk, for the checkpoints of all jobs of a burst; `--quick` about one, with smaller
bursts, for a look at whether it works.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve

from benchmarks.peer.plain import PLAIN_NAME, build_plain
from benchmarks.tools.bound import Load, alone_s, burst_s
from benchmarks.tools.processes import replica_process, store_bytes
from benchmarks.tools.result import parser_of, result
from client import Client, Video
from cluster.server_process import free_port
from deployments.app import APP_NAME
from deployments.server import LocalRay, Server, deploy, start_ray, stop
from deployments.settings.application import AppArgs, AutoscalingArgs, ScalingArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from stages.model.sampling.windows import plan_windows
from stages.presets import get_preset, plan
from stages.replay import PAPER_PAYLOADS, ReplayProfile
from stages.types import STAGE_NAMES, StageName

PRESET = "paper"  # its numbers of frames; the stages are replayed
WINDOWS = len(plan_windows(plan(get_preset(PRESET), "x").i2v.frames, get_preset(PRESET).v2v_windows))
LOADS: Mapping[StageName, Load] = {
    "t2i": Load(run_s=0.6),
    "i2v": Load(run_s=1.4, replicas=2),
    "v2v": Load(run_s=2.0, replicas=2),  # the slowest pool: a job a second
    "vfi": Load(run_s=0.6),  # without the encoder, which is real
}
STORE_BYTES = 4_000_000_000
TOUCHED_BYTES = 3_200_000_000  # of the store, before anything is timed: the first touch of a page is slow
JOB_BYTES = 143_000_000  # of one job's values, all at once
MAX_JOBS = int(0.75 * STORE_BYTES / JOB_BYTES)  # admission, as serve_config.yaml says; Ray spills above 0.8 of a store
SLOWER = 2.0  # the stages beside the policy
DRIVERS = 4  # replicas of the pipeline beside the policy; `max_jobs` is of each, so each gets its share of MAX_JOBS
START_UP_S = 3.0  # of a replayed stage, until the policy has measured it
RAY_CPUS = 16  # what Ray may hand out: it only counts here, the stages wait more than they compute
PROMPT = "a fox in a snowy forest at dusk"
POLL_S, IDLE_POLL_S = 0.1, 0.01
DEADLINE_S = 600.0
SETTLE_S = 10.0  # how long what nobody refers to may take to leave the store
MB = 1e6


@dataclass(frozen=True)
class Size:
    """How long a run is."""

    warm_up: int
    idle: int
    bursts: tuple[int, int]
    loads: Mapping[StageName, Load]


FULL = Size(warm_up=12, idle=7, bursts=(60, 200), loads=LOADS)
QUICK = Size(1, 1, (3, 5), {name: Load(load.run_s / 4, load.replicas) for name, load in LOADS.items()})


def profiles(loads: Mapping[StageName, Load] = LOADS) -> dict[StageName, ReplayProfile]:
    """The paper's payloads with this benchmark's seconds. A call of VFI is one window, so it takes its share."""
    shares: dict[StageName, int] = {"t2i": 1, "i2v": 1, "v2v": 1, "vfi": WINDOWS}
    return {
        name: ReplayProfile(run_s=loads[name].run_s / shares[name], bytes_out=PAPER_PAYLOADS[name].bytes_out, steps=15)
        for name in STAGE_NAMES
    }


def app_args(folder: Path, loads: Mapping[StageName, Load] = LOADS) -> AppArgs:
    """The laptop's variant of serve_config.yaml with replayed stages and this benchmark's replicas."""
    args = rehearsal(laptop(load_config(), data_dir=folder, preset=PRESET), profiles(loads))
    stages = {name: args.stages[name].model_copy(update={"replicas": loads[name].replicas}) for name in STAGE_NAMES}
    pipeline = args.pipeline.model_copy(update={"max_jobs": MAX_JOBS})
    return args.model_copy(update={"stages": stages, "pipeline": pipeline})


def policy_args(folder: Path, loads: Mapping[StageName, Load] = LOADS) -> AppArgs:
    """The same with the look-ahead policy, which may let replicas go, and several replicas of the pipeline."""
    args = app_args(folder, loads)
    stages = {
        name: stage.model_copy(
            update={"autoscaling": AutoscalingArgs(min_replicas=1, max_replicas=loads[name].replicas)}
        )
        for name, stage in args.stages.items()
    }
    calls: dict[StageName, int] = {"t2i": 1, "i2v": 1, "v2v": WINDOWS, "vfi": WINDOWS}
    scaling = ScalingArgs(
        budget_gpus=sum(load.replicas for load in loads.values()),
        call_s={name: loads[name].run_s / calls[name] for name in STAGE_NAMES},
        start_up_s=dict.fromkeys(STAGE_NAMES, START_UP_S),
    )
    drivers = {"replicas": DRIVERS, "max_replicas": DRIVERS, "max_jobs": MAX_JOBS // DRIVERS}
    pipeline = args.pipeline.model_copy(update=drivers)
    return args.model_copy(update={"stages": stages, "scaling": scaling, "pipeline": pipeline})


def critical_path_s(video: Video) -> float:
    """Seconds that a finished job's stages computed one after the other, as its replicas measured them."""
    measured = {stage.name: stage.run_s for stage in video.stages}
    loads = {name: Load(measured[name] or 0.0, LOADS[name].replicas) for name in STAGE_NAMES}
    return alone_s(loads, WINDOWS)


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("pipelining", __doc__, quick=f"bursts of {QUICK.bursts} instead of {FULL.bursts}")
    size = QUICK if parser.parse_args(arguments).quick else FULL
    port = free_port()  # Serve keeps it for both applications
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder:
        temp_dir = start_ray(LocalRay(RAY_CPUS, STORE_BYTES))
        try:
            touch_store()
            ours = measure_ours(Path(folder), size, port)
            serve.delete(APP_NAME)
            shutil.rmtree(Path(folder) / "ours")  # every job's checkpoints: the policy's burst needs as much again
            ours |= measure_policy(Path(folder), size, port)
            serve.delete(APP_NAME)
            plain = measure_plain(Path(folder), size)
        finally:
            stop(temp_dir)
    efficiencies = {f"efficiency_{jobs}": ours[f"efficiency_{jobs}"] for jobs in size.bursts}
    result(
        "pipelining",
        {
            "efficiency": min(efficiencies.values()),
            **efficiencies,
            "plain_efficiency": min(plain.values()),
            **{name: value for name, value in ours.items() if name not in efficiencies},
        },
    )


def touch_store() -> None:
    """Write most of the object store once, and leave it empty."""
    block = np.ones(TOUCHED_BYTES // 8, np.uint8)
    references = [ray.put(block) for _ in range(8)]
    del references
    left_in_store_mb(since=0)


def left_in_store_mb(since: int) -> float:
    """Megabytes over `since` bytes once there are none, or what is still there after `SETTLE_S`."""
    deadline = time.monotonic() + SETTLE_S
    while (left := store_bytes().used - since) > 0 and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return max(0, left) / MB


def measure_ours(folder: Path, size: Size, port: int) -> dict[str, float]:
    """The application's figures; prints a line for each."""
    deploy(app_args(folder / "ours", size.loads), host="127.0.0.1", port=port)
    before = store_bytes()  # Serve keeps the arguments of every replica there
    with Client(Server("127.0.0.1", port, None).url) as client:
        burst(client, size.warm_up)
        figures = {"idle_overhead_ms": idle_overhead_ms(client, size)}
        routers = [replica_process(APP_NAME, name) for name in ("ingress", "pipeline")]
        resident = sum(process.memory_info().rss for process in routers)
        for jobs in size.bursts:
            figures[f"efficiency_{jobs}"] = told("application", jobs, burst(client, jobs), size)
        grown = sum(process.memory_info().rss for process in routers) - resident
    figures["spilled_mb"] = (store_bytes().spilled - before.spilled) / MB
    figures["store_mb_after"] = left_in_store_mb(since=before.used)
    figures["router_mb_per_request"] = grown / MB / sum(size.bursts)
    return figures


def measure_policy(folder: Path, size: Size, port: int) -> dict[str, float]:
    """The larger burst with the policy running."""
    jobs = max(size.bursts)
    loads = {name: Load(SLOWER * load.run_s, load.replicas) for name, load in size.loads.items()}
    size = replace(size, loads=loads)
    deploy(policy_args(folder / "policy", size.loads), host="127.0.0.1", port=port)
    before = store_bytes()
    with Client(Server("127.0.0.1", port, None).url) as client:
        burst(client, size.warm_up)
        efficiency = told("with policy", jobs, burst(client, jobs), size)
    return {"efficiency_policy": efficiency, "spilled_mb_policy": (store_bytes().spilled - before.spilled) / MB}


def burst(client: Client, jobs: int) -> float:
    """Seconds from the first POST until every one of `jobs` videos is seen completed."""
    started = time.monotonic()
    ids = [client.videos.create(PROMPT, seed=seed).id for seed in range(jobs)]
    for video_id in ids:  # nearly in the order of their ends
        seen_completed(client, video_id, POLL_S)
    return time.monotonic() - started


def seen_completed(client: Client, video_id: str, poll_s: float) -> Video:
    deadline = time.monotonic() + DEADLINE_S
    while (video := client.videos.retrieve(video_id)).status != "completed":
        if video.status == "failed" or time.monotonic() > deadline:
            raise RuntimeError(f"{video_id} is {video.status} ({video.error}); a benchmark of failing jobs is none.")
        time.sleep(poll_s)
    return video


def idle_overhead_ms(client: Client, size: Size) -> float:
    """Median over single requests, each on an idle server."""
    overheads_ms = []
    for seed in range(size.idle):
        started = time.monotonic()
        video_id = client.videos.create(PROMPT, seed=seed).id
        time.sleep(alone_s(size.loads, WINDOWS))  # it cannot be ready earlier, and polls would disturb
        video = seen_completed(client, video_id, IDLE_POLL_S)
        overheads_ms.append(1000 * (time.monotonic() - started - critical_path_s(video)))
    print(
        "application   1 at a time  overhead " + " ".join(f"{value:.0f}" for value in overheads_ms) + " ms", flush=True
    )
    return statistics.median(overheads_ms)


def measure_plain(folder: Path, size: Size) -> dict[int, float]:
    """Efficiency of plain chained deployments for each burst; prints a line for each."""
    app = build_plain(
        PRESET,
        plan(get_preset(PRESET), PROMPT),
        {name: {"stage": name, **profile.options()} for name, profile in profiles(size.loads).items()},
        {name: load.replicas for name, load in size.loads.items()},
        f"file://{folder}/plain",
    )
    handle = serve.run(app, name=PLAIN_NAME, route_prefix=None)
    plain_burst(handle, size.warm_up)
    return {jobs: told("plain", jobs, plain_burst(handle, jobs), size) for jobs in size.bursts}


def plain_burst(handle: Any, jobs: int) -> float:
    started = time.monotonic()
    responses = [handle.remote(seed) for seed in range(jobs)]
    for response in responses:
        response.result(timeout_s=DEADLINE_S)
    return time.monotonic() - started


def told(who: str, jobs: int, seconds: float, size: Size) -> float:
    """Print one burst; gives its efficiency."""
    bound_s = burst_s(size.loads, WINDOWS, jobs)
    spilled = store_bytes().spilled / MB
    print(
        f"{who:<12}{jobs:>4} at once   {seconds:6.1f} s, bound {bound_s:5.1f} s, efficiency {bound_s / seconds:.3f}, "
        f"spilled so far {spilled:.0f} MB",
        flush=True,
    )
    return bound_s / seconds


if __name__ == "__main__":
    main()
