"""GF-DiT's workloads on the real server: eight replicas of one replayed stage that can stop, time divided by 60.

T2I stands for the denoising stage and is the only one that runs; its calls of 25, 50 and 100 steps take what S, M and L
do, and leave states of 1.4 MB. No job is refused there, so that the arrivals are the paper's. A class in time is what
the journal says: from a request's intended moment to the end of its job. Beside it stands the simulator, at that pace.
At twice the trident's rates jobs that cannot be in time are refused, and those that were accepted are looked at.

    attain_<s|m|l>_<workload>   share of that class that is done by its deadline
    live_yields                 calls that stopped for another
    sim_live_gap_points         the largest difference of a class between simulated and live, in points
    live_kept_doubled           at twice the trident's rates, with refusals: the share of accepted jobs that are in time
    live_accepted_doubled       the share that was accepted

Ten to sixty seconds a workload and a start; needs no GPU.
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import client
from benchmarks.papers.gfdit import DEVICES, DUE, SECONDS, STEPS, WORKLOADS, attained, doubled_trace, mixed, of_run, say
from benchmarks.tools.live import DEADLINE_S, PROMPT, wait_for_replicas
from client._core.job_options import CreateOptions
from cluster.policy.calls import Rules
from cluster.server_process import free_port
from cluster.traffic.traces import Trace
from cluster.twin.simulator import simulate
from deployments.app import APP_NAME
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.server import LocalRay, start, stop
from deployments.settings.application import AppArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from stages.replay import ReplayProfile

SPEED = 60.0
HAND_OFF_S = 3.0  # of the paper's time: 50 ms here
STATE_BYTES = 1_400_000
_STORE_BYTES = 512 * 2**20
_POLL_S = 0.25


def live(names: Sequence[str], speed: float = SPEED) -> dict[str, float]:
    """The live rows, printed; gives the figures."""
    figures: dict[str, float] = {}
    yields, gap = 0, 0.0
    rules = Rules(hand_off_s=HAND_OFF_S)
    for name in names:
        trace = WORKLOADS[name].trace(name)
        with tempfile.TemporaryDirectory(prefix="mvg-", ignore_cleanup_errors=True) as folder:
            rows, stopped = _served(trace, Path(folder), speed)
        found = attained([(row.kind, row.time_s, row.ended_s) for row in rows])
        expected = of_run(simulate(mixed(rules), trace))
        print(f"{name}, live, time divided by {speed:g}; in time, percent of S, M, L")
        say(f"our order, simulated, a hand-off of {HAND_OFF_S:g} s", expected)
        say(f"our order, live, {stopped} yields", found)
        figures |= {f"attain_{kind.lower()}_{name}": share for kind, share in found.items()}
        gap = max(gap, *(100 * abs(found[kind] - expected[kind]) for kind in expected))
        yields += stopped
    return {**figures, "live_yields": yields, "sim_live_gap_points": gap}


def promises(speed: float = SPEED) -> dict[str, float]:
    """What a promise is worth on the real server where there is far too much to do; printed, gives the figures."""
    trace = doubled_trace(WORKLOADS["trident"].seed)
    with tempfile.TemporaryDirectory(prefix="mvg-", ignore_cleanup_errors=True) as folder:
        rows, _ = _served(trace, Path(folder), speed, refuses=True)
    shares = attained([(row.kind, row.time_s, row.ended_s) for row in rows])
    kept = sum(row.ended_s - row.time_s <= DUE[row.kind] * SECONDS[row.kind] for row in rows) / len(rows)
    accepted = len(rows) / len(trace.arrivals)
    print(
        f"trident doubled, live, {accepted:.1%} of {len(trace.arrivals)} videos accepted: {kept:.1%} of those in time"
    )
    say("of the accepted in time, percent of S, M, L", shares)
    return {"live_kept_doubled": kept, "live_accepted_doubled": accepted}


@dataclass(frozen=True)
class _Row:
    """A job that was accepted, in the paper's seconds."""

    kind: str
    time_s: float
    ended_s: float


def _args(folder: Path, speed: float, *, refuses: bool) -> AppArgs:
    seconds = {STEPS[kind]: SECONDS[kind] / speed for kind in SECONDS}
    profile = ReplayProfile(run_s=0.1, bytes_out=30_000, state_bytes=STATE_BYTES, by_steps=seconds)
    args = rehearsal(laptop(load_config(), data_dir=folder), {"t2i": profile})
    stages = {**args.stages, "t2i": args.stages["t2i"].model_copy(update={"replicas": DEVICES})}
    order = {
        "refuses": refuses,
        "hand_off_s": HAND_OFF_S / speed,
        "ahead_s": 0.1,
        "age_s": Rules().age_s / speed,
    }
    return args.model_copy(
        update={
            "stages": stages,
            "order": args.order.model_copy(update=order),
            "pipeline": args.pipeline.model_copy(update={"max_jobs": 500}),
        }
    )


def _served(trace: Trace, folder: Path, speed: float, *, refuses: bool = False) -> tuple[list[_Row], int]:
    """A workload through a server of its own: what was accepted, and how many calls yielded."""
    args = _args(folder, speed, refuses=refuses)
    ray = LocalRay(num_cpus=16, object_store_bytes=_STORE_BYTES)
    server = start(args, host="127.0.0.1", port=free_port(), where=ray)
    journal = Journal(Database(args.storage.database()))
    try:
        wait_for_replicas(APP_NAME, {"t2i": DEVICES, "i2v": 1, "v2v": 1, "vfi": 1})
        kinds = list(SECONDS)
        _send(server.url, [0.0] * len(kinds), [{"steps": STEPS[kind]} for kind in kinds])  # how long each takes
        _all_ended(journal)
        asked: list[CreateOptions] = [
            {"steps": STEPS[one.kind], "deadline_s": DUE[one.kind] * SECONDS[one.kind] / speed}
            for one in trace.arrivals
        ]
        started = time.time() + 0.5
        ids = _send(server.url, [one.time_s / speed for one in trace.arrivals], asked, started)
        _all_ended(journal)
        rows, stopped = [], 0
        for one, job_id in zip(trace.arrivals, ids, strict=True):
            if job_id is None and not refuses:
                raise RuntimeError(f"The {one.kind} of {one.time_s:g} s was not accepted.")
            if job_id is None:
                continue
            job = journal.get(job_id)
            ended_s = (job.finished_at or float("inf")) - started if job.state == "succeeded" else float("inf")
            rows.append(_Row(one.kind, one.time_s, ended_s * speed))
            stopped += sum(event.kind == "stage_yielded" for event in journal.events(job_id))
        return rows, stopped
    finally:
        journal.database.close()
        stop(server.temp_dir)


def _send(
    url: str, times_s: Sequence[float], asked: Sequence[CreateOptions], start_s: float | None = None
) -> list[str | None]:
    """The jobs' ids; None where one was refused."""

    def options(number: int) -> CreateOptions:
        return {"until": "t2i", "seed": number, **asked[number - 1]}

    begin = time.time() + 0.2 if start_s is None else start_s
    shots = asyncio.run(client.send_openly(url, times_s, PROMPT, options, start=begin))
    if lost := [shot for shot in shots if shot.id is None and "429" not in str(shot.outcome)]:
        raise RuntimeError(f"Request {lost[0].number} was not accepted: {lost[0].outcome}.")
    return [shot.id for shot in shots]


def _all_ended(journal: Journal) -> None:
    end = time.monotonic() + DEADLINE_S
    while set(journal.counts()) - {"succeeded", "failed", "cancelled"}:
        if time.monotonic() > end:
            raise RuntimeError(f"After {DEADLINE_S:g} s the jobs are {journal.counts()}.")
        time.sleep(_POLL_S)
