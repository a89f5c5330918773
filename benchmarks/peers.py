"""Ours beside other ways to run the same four stages: `python -m benchmarks.peers [--quick]`.

Every side gets `benchmarks.pipelining`'s stages: the same seconds (0.6, 1.4, 2.0, 0.6), the same bytes (3, 35, 105 MB),
replicas (1, 2, 2, 1), encoder and object store of 4 GB. A burst of 60 jobs, all there at once; on an already running
and touched system, from the first POST or call until the last video. The sides: our server; plain Serve deployments,
chained by `DeploymentResponse` or each value awaited and sent on, any number of jobs at once; Ray Data's actor pools;
Cosmos-Xenna in streaming mode, each in an environment of its own; and six data-parallel processes with all four models.
Ours alone answers HTTP, keeps a journal and writes checkpoints meanwhile. The others call V2V and VFI once a job.

    efficiency               shortest possible makespan of the pipeline (`benchmarks.tools.bound`) / ours
    chained_efficiency, await_efficiency, ray_data_efficiency, xenna_efficiency   the same of the pipelines beside us;
                             the last two are null where the system cannot be installed
    monolith_makespan_ratio  ours / that of six monoliths: above 1 the monoliths win. They have no slowest stage, and
                             nothing is charged here for four models on each device
    p50_ratio, p95_ratio     latency of ours under a Poisson stream at 70 % of the bound's throughput, sent openly, over
                             that of an ideal tandem of first-come queues (`benchmarks.tools.ideal`) with the same
                             arrivals

About twelve minutes; `--quick` about one, with bursts of 3 at a quarter of the seconds.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve

from benchmarks import pipelining
from benchmarks.peer.environment import Burst, Peer, PeerError, seconds_of
from benchmarks.peer.monolith import monolith_s
from benchmarks.peer.plain import PLAIN_NAME, PlainAwait, PlainChain, build_plain
from benchmarks.peer.ray_data import RAY_DATA
from benchmarks.peer.work import Work
from benchmarks.peer.xenna import XENNA
from benchmarks.pipelining import PRESET, RAY_CPUS, STORE_BYTES, TOUCHED_BYTES, WINDOWS
from benchmarks.tools import live
from benchmarks.tools.bound import burst_s
from benchmarks.tools.ideal import ends_s
from benchmarks.tools.processes import store_bytes
from benchmarks.tools.result import parser_of, result
from client import Client
from cluster.server_process import free_port
from cluster.traffic.measures import percentiles
from deployments.app import APP_NAME
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.server import LocalRay, Server, deploy, start_ray, stop
from stages.presets import get_preset, plan

LOAD = 0.7
MANY = 10_000
PEERS = (RAY_DATA, XENNA)
CHAINS: dict[str, type[PlainChain]] = {"chained": PlainChain, "await": PlainAwait}


@dataclass(frozen=True)
class Size:
    """How long a run is."""

    burst: int
    stream: int
    warm_up: int
    shorter: pipelining.Size  # whose loads are used


FULL = Size(burst=60, stream=100, warm_up=8, shorter=pipelining.FULL)
QUICK = Size(burst=3, stream=5, warm_up=1, shorter=pipelining.QUICK)


def work_of(size: Size, folder: Path) -> Work:
    """What the others get."""
    loads = size.shorter.loads
    return Work(
        PRESET,
        plan(get_preset(PRESET), live.PROMPT),
        {name: {"stage": name, **profile.options()} for name, profile in pipelining.profiles(loads).items()},
        {name: load.replicas for name, load in loads.items()},
        f"file://{folder}",
    )


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("peers", __doc__, quick=f"bursts of {QUICK.burst}, a short stream")
    parser.add_argument(
        "--without-installing", action="store_true", help="leave out the systems that need an environment of their own"
    )
    given = parser.parse_args(arguments)
    size = QUICK if given.quick else FULL
    figures: dict[str, float | None]
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as temporary:
        folder = Path(temporary)
        temp_dir = start_ray(LocalRay(RAY_CPUS, STORE_BYTES))
        try:
            pipelining.touch_store()
            figures, ours_s = measure_ours(folder / "ours", size)
            serve.delete(APP_NAME)
            for kind in CHAINS:
                figures[f"{kind}_efficiency"] = measure_plain(kind, work_of(size, folder / kind), size)
            serve.shutdown()
            alone_s = monolith_s(work_of(size, folder / "monolith"), size.burst)
            told("monoliths", alone_s, size)
            figures["monolith_makespan_ratio"] = ours_s / alone_s
        finally:
            stop(temp_dir)
        for peer in PEERS:
            name = f"{peer.name.replace('-', '_')}_efficiency"
            figures[name] = None if given.without_installing else measure_peer(peer, folder / peer.name, size)
    result("peers", figures)


def measure_ours(folder: Path, size: Size) -> tuple[dict[str, float | None], float]:
    """Our figures, and the seconds of the burst."""
    port = free_port()
    args = pipelining.app_args(folder, size.shorter.loads)
    deploy(args, host="127.0.0.1", port=port)
    url = Server("127.0.0.1", port, None).url
    with Client(url) as client:
        pipelining.burst(client, size.warm_up)
        took_s = pipelining.burst(client, size.burst)
    figures: dict[str, float | None] = {"efficiency": told("ours", took_s, size)}
    journal = Journal(Database(args.storage.database()))
    times = arrivals_s(size)
    sent = live.send_openly(url, times)
    latencies = percentiles([row.latency_s for row in live.rows_of(sent, live.ended(journal, sent))])
    journal.database.close()
    ends = ends_s(times, size.shorter.loads, WINDOWS)
    ideal = percentiles([end - time for end, time in zip(ends, times, strict=True)])
    for rank in ("p50", "p95"):
        figures[f"{rank}_ratio"] = latencies[rank] / ideal[rank]
        print(
            f"ours, {len(times)} requests at {LOAD:.0%} load: {rank} {latencies[rank]:.2f} s, ideal {ideal[rank]:.2f} s"
        )
    return figures, took_s


def arrivals_s(size: Size) -> list[float]:
    """A Poisson stream that asks for `LOAD` of what the slowest pool can do."""
    rate_per_s = LOAD * min(load.replicas / load.run_s for load in size.shorter.loads.values())
    gaps = np.random.default_rng(70).exponential(1 / rate_per_s, size.stream - 1)
    return [0.0, *np.cumsum(gaps).tolist()]


def measure_plain(kind: str, work: Work, size: Size) -> float:
    """Efficiency of plain Serve deployments."""
    app = build_plain(
        work.preset,
        work.steps,
        work.options,
        work.replicas,
        work.artifacts_url,
        orchestrator=CHAINS[kind],
        at_once=MANY,
    )
    handle: Any = serve.run(app, name=PLAIN_NAME, route_prefix=None)
    pipelining.plain_burst(handle, size.warm_up)
    took_s = pipelining.plain_burst(handle, size.burst)
    serve.delete(PLAIN_NAME)
    return told(f"Serve, {kind}", took_s, size)


def measure_peer(peer: Peer, folder: Path, size: Size) -> float | None:
    """Efficiency of a system in an environment of its own; None, and a sentence, where there is none."""
    try:
        took_s = seconds_of(peer, Burst(work_of(size, folder), size.burst, STORE_BYTES, TOUCHED_BYTES), folder)
    except PeerError as error:
        print(error, flush=True)
        return None
    bound_s = burst_s(size.shorter.loads, WINDOWS, size.burst)
    print(line(peer.name, took_s, bound_s, size), flush=True)
    return bound_s / took_s


def told(who: str, took_s: float, size: Size) -> float:
    """Print one burst; gives its efficiency."""
    bound_s = burst_s(size.shorter.loads, WINDOWS, size.burst)
    left_mb = pipelining.left_in_store_mb(since=0)
    spilled_mb = store_bytes().spilled / pipelining.MB
    print(f"{line(who, took_s, bound_s, size)}, spilled so far {spilled_mb:.0f} MB, left {left_mb:.0f} MB", flush=True)
    return bound_s / took_s


def line(who: str, took_s: float, bound_s: float, size: Size) -> str:
    return (
        f"{who:<15}{size.burst:>4} at once  {took_s:6.1f} s, bound {bound_s:5.1f} s, efficiency {bound_s / took_s:.3f}"
    )


if __name__ == "__main__":
    main()
