"""LightX2V's disaggregation (April 2026): Qwen-Image-2512 in 8 steps on 8 GPUs, encoder and decoder apart from the DiT.

The encoder takes .40 s, the DiT 15.04 s, the decoder .3 to 2.7 s (.3 here); 28 MB go to the DiT and .2 MB from it. A
closed loop keeps so many requests in flight. The paper's bound is that of the DiTs alone, n / 15.04. With as many
requests in flight as DiTs a request still has to be encoded and decoded while its DiT idles: no system can pass
n / 15.74 then, 95.6 % of the bound. So both loops are run: that one, and one with two requests more.

    sim_bound_share_min   over 4, 5, 6 and 7 DiTs, videos a second over the paper's bound, two requests more in flight
    sim_closed_share_min  the same with as many in flight as DiTs
    bound_share_min       the same on a real server with twice as many in flight as DiTs, all times divided by 4
                          (`--live`): what a request takes beside its stages is not divided
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.experiments.live import Bench
from cluster.experiments.runs import plan_runs
from cluster.experiments.spec import LiveSpec, LoadSpec, Spec, StageSpec
from cluster.traffic.measures import RequestRow
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.simulator import Pool, Scenario, StageTimes, simulate

ENCODE_S, DIT_S, DECODE_S = 0.40, 15.04, 0.30
BYTES_IN, BYTES_OUT = 28_000_000, 200_000
GPUS, MORE, SPEED = 8, 2, 4.0
PAPER: Mapping[int, float] = {0: 0.18, 4: 0.20, 5: 0.25, 6: 0.30, 7: 0.34}  # requests a second; 0: all on each
DITS = (4, 5, 6, 7)


@dataclass(frozen=True)
class Row:
    """One split of the GPUs, in requests a second."""

    dits: int
    bound: float
    closed: float
    more: float


def closed_loop(dits: int, in_flight: int, requests: int) -> float:
    """Requests a second in the simulator, between the first and the last quarter's ends."""
    apart = max(1, GPUS - dits)
    stages = {
        "encode": StageTimes(ENCODE_S, bytes_out=BYTES_IN),
        "dit": StageTimes(DIT_S, bytes_out=BYTES_OUT),
        "decode": StageTimes(DECODE_S),
    }
    pools = {"encode": Pool(apart), "dit": Pool(dits), "decode": Pool(apart)}
    trace = Trace("closed", (Arrival(0.0),) * requests, 0.0)
    scenario = Scenario(stages, pools, max_jobs=in_flight, bytes_per_s=1e9, control_s=1000.0, sample_s=1e6)
    return steady_rate(simulate(scenario, trace).rows)


def steady_rate(rows: tuple[RequestRow, ...]) -> float:
    """Ends a second, without what fills and drains the pipeline: from the end of the first quarter to the third's."""
    ends = sorted(row.ended_s for row in rows if row.outcome == "succeeded")
    first, last = len(ends) // 4, 3 * len(ends) // 4
    return (last - first) / (ends[last] - ends[first])


def monolith() -> float:
    """Requests a second of 8 GPUs that hold all weights, by arithmetic."""
    return GPUS / (ENCODE_S + DIT_S + DECODE_S)


def lightx2v(dits: tuple[int, ...] = DITS, *, live: bool = False) -> dict[str, float]:
    """The table, printed; gives the figures."""
    print("lightx2v, a second; DiTs : others, paper, its bound n / 15.04, simulated (as many in flight, two more)")
    print(f"  8:0 {PAPER[0]:>8.3f}        - {monolith():>8.3f} by arithmetic, where the weights fit on one GPU")
    figures: dict[str, float] = {}
    shares = []
    for count in dits:
        requests = 60 * count
        row = Row(count, count / DIT_S, closed_loop(count, count, requests), closed_loop(count, count + MORE, requests))
        print(f"  {count}:{GPUS - count} {PAPER[count]:>8.3f} {row.bound:>8.3f} {row.closed:>8.3f} {row.more:>8.3f}")
        shares.append((row.more / row.bound, row.closed / row.bound))
    figures |= {
        "sim_bound_share_min": min(more for more, _ in shares),
        "sim_closed_share_min": min(closed for _, closed in shares),
    }
    if live:
        figures["bound_share_min"] = min(live_share(count) for count in dits)
    return figures


def live_share(dits: int, *, requests: int | None = None) -> float:
    """Of the bound, on a real server: T2I plays the encoder, I2V the DiT, V2V and VFI the decoder and the mp4."""
    count = requests if requests is not None else 6 * dits
    apart = GPUS - dits
    spec = Spec(
        title=f"LightX2V {dits}:{apart}",
        stages={
            "t2i": StageSpec(mean_s=ENCODE_S, bytes_out=BYTES_IN, replicas=apart),
            "i2v": StageSpec(mean_s=DIT_S, bytes_out=BYTES_OUT, replicas=dits),
            "v2v": StageSpec(mean_s=DECODE_S / 2, windows=2, bytes_out=BYTES_OUT, replicas=apart),
            "vfi": StageSpec(mean_s=DECODE_S / 2, windows=2, bytes_out=BYTES_OUT, replicas=apart),
        },
        loads=(LoadSpec(kind="burst", name="closed", count=count, burst_s=0.01, span_s=1.0),),
        max_jobs=2 * dits,
        live=LiveSpec(seconds="2", deadline_s=900.0),
    ).sped(SPEED)
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder:
        (plan,) = plan_runs(spec, Path(folder))
        with Bench(spec, Path(folder)) as run:
            rate = steady_rate(run(plan, lambda done, total: None).rows) / SPEED
    share = rate * DIT_S / dits
    print(f"  {dits}:{apart} live: {rate:.3f} requests a second, {share:.1%} of the bound", flush=True)
    return share
