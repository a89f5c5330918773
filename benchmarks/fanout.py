"""How much sooner one request ends when V2V and VFI have more replicas: `python -m benchmarks.fanout [--quick]`.

The ready experiment `fanout` on a real server, and the same with a longer clip: replayed stages with the paper's
payloads, one request at a time, so nothing waits for other jobs. V2V takes 6 s for a whole clip, VFI 0.4 s a window and
its encoding. The clip of 4 s has two windows, the one of 8 s has five, which is where a third replica finds work. What
is compared is the part that can spread: latency from the intended send until the job's last event, less what T2I and
I2V took. All overhead is in it, also that of the first two.

    latency_ratio_2        median with two replicas of V2V and of VFI / median with one; 4 s
    latency_ratio_3        with three; two windows leave the third one idle
    latency_ratio_2_long   the same of 8 s: five windows on two replicas are three rounds
    latency_ratio_3_long   on three replicas two rounds
    bound_ratio_...        what the shortest possible schedule would give (`benchmarks.tools.bound`), encoding left out

About eight minutes; `--quick` two, with a quarter of the seconds and one request each.
"""

import statistics
import tempfile
from pathlib import Path

from benchmarks.tools.bound import Load, alone_s
from benchmarks.tools.result import parser_of, result
from cluster.experiments.live import Bench, check_live
from cluster.experiments.runs import plan_runs
from cluster.experiments.spec import Spec, load_spec
from cluster.traffic.measures import RequestRow
from stages.model.sampling.windows import plan_windows
from stages.presets import get_preset, plan
from stages.types import StageName

LENGTHS = {"": "4", "_long": "8"}


def of_length(spec: Spec, seconds: str) -> Spec:
    """The same with clips so long: V2V takes as many seconds for more windows, VFI as many for each."""
    preset = get_preset(spec.live.preset)
    windows = len(plan_windows(plan(preset, "x", seconds=seconds).i2v.frames, preset.v2v_windows))
    v2v, vfi = spec.stages["v2v"], spec.stages["vfi"]
    longer = {
        "v2v": v2v.model_copy(update={"windows": windows}),
        "vfi": vfi.model_copy(update={"windows": windows, "mean_s": vfi.mean_s / vfi.windows * windows}),
    }
    live = spec.live.model_copy(update={"seconds": seconds})
    return spec.model_copy(update={"stages": {**spec.stages, **longer}, "live": live})


def bound_s(spec: Spec, replicas: int) -> float:
    """The least that V2V and VFI can take of one request."""
    spread: dict[StageName, Load] = {name: Load(spec.stages[name].mean_s, replicas) for name in ("v2v", "vfi")}
    return alone_s({"t2i": Load(0.0), "i2v": Load(0.0), **spread}, spec.stages["v2v"].windows)


def spread_part_s(row: RequestRow) -> float:
    """Latency of a lone request, less the seconds of T2I and I2V."""
    return row.latency_s - sum(row.spans[name].end_s - row.spans[name].start_s for name in ("t2i", "i2v"))


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("fanout", __doc__, quick="one short request each")
    spec, folder = load_spec("fanout", quick=parser.parse_args(arguments).quick)
    figures = {}
    for kind, seconds in LENGTHS.items():
        about = of_length(spec, seconds).sped(spec.live.speed)
        check_live(about)
        measured = measure(about, folder)
        for replicas in sorted(measured)[1:]:
            figures[f"latency_ratio_{replicas}{kind}"] = measured[replicas] / measured[1]
            figures[f"bound_ratio_{replicas}{kind}"] = bound_s(about, replicas) / bound_s(about, 1)
    result("fanout", figures)


def measure(spec: Spec, folder: Path) -> dict[int, float]:
    """Median seconds by replicas; prints a line for each."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as out, Bench(spec, Path(out)) as run:
        for one in plan_runs(spec, folder):
            replicas = one.replicas["v2v"]
            found[replicas] = statistics.median(spread_part_s(row) for row in run(one, lambda *_: None).rows)
            print(
                f"{replicas} replicas, {spec.live.seconds} s of video in {spec.stages['v2v'].windows} windows: V2V and "
                f"VFI take {found[replicas]:.2f} s, at least {bound_s(spec, replicas):.2f} s",
                flush=True,
            )
    return found


if __name__ == "__main__":
    main()
