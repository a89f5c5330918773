"""How much sooner one request ends when V2V and VFI have more replicas: `python -m benchmarks.fanout [--quick]`.

The real application with replayed stages and the paper's payloads; one request at a time, so nothing waits for other
jobs. V2V takes 6 s for a whole clip, VFI 0.4 s a window and its encoding. The clip of 4 s has two windows, the one of
8 s has five, which is where a third replica finds work. What is compared is the part that can spread: latency from the
POST until the journal has the end, less what T2I and I2V computed. All overhead is in it, also that of the first two.

    latency_ratio_2        median with two replicas of V2V and of VFI / median with one; 4 s
    latency_ratio_3        with three; two windows leave the third one idle
    latency_ratio_2_long   the same of 8 s: five windows on two replicas are three rounds
    latency_ratio_3_long   on three replicas two rounds
    bound_ratio_...        what the shortest possible schedule would give (`benchmarks.bound`), encoding left out

About five minutes; `--quick` under one, with a quarter of the seconds and one request each.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ray import serve

from benchmarks import live
from benchmarks.bound import Load, alone_s
from benchmarks.pipelining import PRESET, RAY_CPUS, STORE_BYTES, touch_store
from benchmarks.processes import free_port
from benchmarks.result import result
from cluster.replay import PAPER_PAYLOADS, ReplayProfile
from deployments.app import APP_NAME, build
from deployments.config import AppArgs, laptop, load_config, rehearsal
from deployments.database import Database
from deployments.jobs import Journal
from deployments.server import LocalRay, Server, deploy, start_ray, stop
from stages.model.windows import plan_windows
from stages.presets import get_preset, plan
from stages.types import STAGE_NAMES, StageName

RUN_S: Mapping[StageName, float] = {"t2i": 0.2, "i2v": 0.4, "v2v": 6.0, "vfi": 0.4}  # VFI's is that of one window
LENGTHS = {"": "4", "_long": "8"}
REPLICAS = (1, 2, 3)


@dataclass(frozen=True)
class Size:
    """How long a run is."""

    requests: int
    pace: float  # of RUN_S


FULL, QUICK = Size(requests=5, pace=1.0), Size(requests=1, pace=0.25)


def windows_of(seconds: str) -> int:
    """Calls of V2V, and of VFI, in a video."""
    preset = get_preset(PRESET)
    return len(plan_windows(plan(preset, live.PROMPT, seconds=seconds).i2v.frames, preset.v2v_windows))


def pools(replicas: int) -> dict[StageName, int]:
    return {name: replicas if name in ("v2v", "vfi") else 1 for name in STAGE_NAMES}


def app_args(folder: Path, size: Size) -> AppArgs:
    """The laptop's variant of serve_config.yaml with replayed stages."""
    profiles = {
        name: ReplayProfile(RUN_S[name] * size.pace, PAPER_PAYLOADS[name].bytes_out, steps=15) for name in STAGE_NAMES
    }
    return rehearsal(laptop(load_config(), data_dir=folder, preset=PRESET), profiles)


def bound_s(replicas: int, seconds: str) -> float:
    """The least that V2V and VFI can take of one request."""
    windows = windows_of(seconds)
    spent = {**RUN_S, "t2i": 0.0, "i2v": 0.0, "vfi": RUN_S["vfi"] * windows}
    return alone_s({name: Load(spent[name], count) for name, count in pools(replicas).items()}, windows)


def spread_part_s(url: str, journal: Journal, seconds: str, requests: int) -> float:
    """Median latency of lone requests, less the seconds of T2I and I2V."""
    found = []
    for seed in range(requests + 1):
        job, latency_s = live.alone(url, journal, seconds=seconds, seed=seed)
        spent = live.run_s(job)
        found.append(latency_s - spent["t2i"] - spent["i2v"])
    return statistics.median(found[1:])  # the first one warms up what has just started


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short request each")
    size = QUICK if parser.parse_args(arguments).quick else FULL
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder:
        temp_dir = start_ray(LocalRay(RAY_CPUS, STORE_BYTES))
        try:
            touch_store()
            measured = measure(Path(folder), size)
        finally:
            stop(temp_dir)
    figures = {}
    for kind, seconds in LENGTHS.items():
        for replicas in REPLICAS[1:]:
            figures[f"latency_ratio_{replicas}{kind}"] = measured[seconds, replicas] / measured[seconds, 1]
            figures[f"bound_ratio_{replicas}{kind}"] = bound_s(replicas, seconds) / bound_s(1, seconds)
    result("fanout", figures)


def measure(folder: Path, size: Size) -> dict[tuple[str, int], float]:
    """Seconds by length and replicas; prints a line for each."""
    args, port = app_args(folder, size), free_port()
    url = Server("127.0.0.1", port, None).url
    deploy(args, host="127.0.0.1", port=port)
    journal = Journal(Database(args.storage.database_url))
    found = {}
    for replicas in REPLICAS:
        serve.run(build(live.with_replicas(args, pools(replicas))), name=APP_NAME, route_prefix="/")
        live.wait_for_replicas(APP_NAME, pools(replicas))
        for seconds in LENGTHS.values():
            found[seconds, replicas] = spread_part_s(url, journal, seconds, size.requests)
            print(
                f"{replicas} replicas, {seconds} s of video in {windows_of(seconds)} windows: V2V and VFI take "
                f"{found[seconds, replicas]:.2f} s, at least {size.pace * bound_s(replicas, seconds):.2f} s",
                flush=True,
            )
    journal.database.close()
    return found


if __name__ == "__main__":
    main()
