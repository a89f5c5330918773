"""GF-DiT's table (arXiv 2606.13501; code SJTU-Liquid/GF-DiT at 442531e4): 8 GPUs, one denoising stage, three workloads.

Videos S, M and L take 39.85, 504 and 1002 s in 25, 50 and 100 steps, and are due 1.5, 2 and 6 times as long after their
arrival. The arrivals follow from Python's `random.Random(seed)`. Printed are the paper's own rows, an ideal (earliest
deadline first, stopped at any step for nothing), and the simulator with the order of `cluster.policy.order`.

    sim_attain_<s|m|l>_<inflight|foreground|trident>   share of that class that is done by its deadline
    sim_yields_<workload>  calls that yielded there
    sim_kept_doubled       at twice the trident's rates, with seconds spread by a tenth and refusals: the share of
                           accepted jobs that are in time
    sim_accepted_doubled   the share that was accepted
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.tools.edf import Task, ends
from cluster.policy.calls import Rules
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.simulator import JobClass, Pool, Run, Scenario, StageTimes, simulate

DEVICES = 8
_SEEDS = (0, 1, 2)
SECONDS = {"S": 39.85, "M": 504.0, "L": 1002.0}
STEPS = {"S": 25, "M": 50, "L": 100}
DUE = {"S": 1.5, "M": 2.0, "L": 6.0}
HAND_OFFS_S = (1.0, 3.0, 5.0)  # of a state of 1.4 MB: seconds of a GPU that nobody computes; the first is the headline
Shares = Mapping[str, float]


@dataclass(frozen=True)
class Phase:
    """A Poisson stream, and the shares of S, M and L in it."""

    start_s: float
    end_s: float
    per_minute: float
    shares: tuple[float, float, float]


@dataclass(frozen=True)
class Workload:
    """One of the paper's, with its rows: attainment of S, M and L in percent, None where it gives none."""

    seed: int
    phases: tuple[Phase, ...]
    counts: Mapping[str, int]
    published: Mapping[str, tuple[float | None, float | None, float | None]]

    def trace(self, name: str, seed: int | None = None) -> Trace:
        """The paper's arrivals; with another seed, others of the same phases."""
        chance, arrivals = random.Random(self.seed if seed is None else seed), list[Arrival]()
        for phase in self.phases:
            time_s = phase.start_s
            while (time_s := time_s - math.log(chance.random()) / phase.per_minute * 60) < phase.end_s:
                drawn, below = chance.random(), 0.0
                for kind, share in zip(SECONDS, phase.shares, strict=True):
                    below += share
                    if drawn < below:
                        arrivals.append(Arrival(time_s, kind))
                        break
        return Trace(name, tuple(arrivals), self.phases[-1].end_s)


WORKLOADS = {
    "inflight": Workload(
        0,
        (Phase(0, 300, 0.6, (0, 0, 1)), Phase(600, 780, 4, (1, 0, 0))),
        {"S": 15, "M": 0, "L": 6},
        {
            "best at request level": (40, None, 100),
            "steps, paused": (100, None, 100),
            "steps, demoted": (33.3, None, 100),
        },
    ),
    "foreground": Workload(
        1,
        (
            Phase(0, 180, 0.5, (0, 0.4, 0.6)),
            Phase(180, 360, 3, (0.85, 0.1, 0.05)),
            Phase(360, 900, 0.8, (0.3, 0.3, 0.4)),
            Phase(900, 1080, 3, (0.85, 0.1, 0.05)),
            Phase(1080, 1800, 0.5, (0.4, 0.3, 0.3)),
        ),
        {"S": 14, "M": 7, "L": 5},
        {
            "static, one GPU each": (78.6, 100, 100),
            "steps, paused": (100, 100, 100),
            "steps, demoted": (100, 100, 100),
        },
    ),
    "trident": Workload(
        1,
        (
            Phase(0, 600, 0.8, (0.5, 0.35, 0.15)),
            Phase(600, 1500, 1.4, (0.35, 0.4, 0.25)),
            Phase(1500, 2400, 2.4, (0.5, 0.3, 0.2)),
            Phase(2400, 3000, 1.2, (0.2, 0.35, 0.45)),
            Phase(3000, 3600, 0.6, (0.55, 0.35, 0.1)),
        ),
        {"S": 39, "M": 25, "L": 16},
        {
            "static, one GPU each": (35.9, 36.0, 100),
            "best at request level": (30.8, 44, 100),
            "steps, paused": (92.3, 84, 0),
            "steps, demoted": (76.9, 60, 100),
        },
    ),
}


def mixed(order: Rules | None, *, max_ongoing: int = 1, refuses: bool = False) -> Scenario:
    """GF-DiT's eight GPUs."""
    classes = {kind: JobClass(deadline_s=DUE[kind] * SECONDS[kind], steps={"denoise": STEPS[kind]}) for kind in SECONDS}
    return Scenario(
        {"denoise": StageTimes(1.0)},
        {"denoise": Pool(DEVICES, max_ongoing=max_ongoing)},
        control_s=1000.0,
        sample_s=1e6,
        kinds={kind: {"denoise": seconds} for kind, seconds in SECONDS.items()},
        order=order,
        classes=classes if order is not None else {},
        refuses=refuses,
    )


def attained(ended: Sequence[tuple[str, float, float]]) -> Shares:
    """Of each class the share in time, from (class, arrival, end); a class that has none is missing."""
    found: dict[str, list[bool]] = {}
    for kind, arrived_s, ended_s in ended:
        found.setdefault(kind, []).append(ended_s - arrived_s <= DUE[kind] * SECONDS[kind] + 1e-6)
    return {kind: sum(hits) / len(hits) for kind, hits in found.items()}


def of_run(run: Run) -> Shares:
    return attained([(row.kind, row.arrived_s, row.ended_s) for row in run.rows if row.outcome == "succeeded"])


def ideal(trace: Trace, stopped: str) -> Shares:
    """Earliest deadline first, where videos of the classes in `stopped` may be stopped at any step."""
    tasks = [
        Task(a.time_s, SECONDS[a.kind], STEPS[a.kind], a.time_s + DUE[a.kind] * SECONDS[a.kind], a.kind in stopped)
        for a in trace.arrivals
    ]
    done = ends(tasks, DEVICES)
    return attained([(a.kind, a.time_s, end_s) for a, end_s in zip(trace.arrivals, done, strict=True)])


def gfdit(names: Sequence[str]) -> dict[str, float]:
    """The table, printed; gives the headline's figures."""
    figures: dict[str, float] = {}
    for name in names:
        workload = WORKLOADS[name]
        trace = workload.trace(name)
        counts = {kind: sum(arrival.kind == kind for arrival in trace.arrivals) for kind in SECONDS}
        if counts != workload.counts:
            raise ValueError(f"Workload {name} has {counts} videos where the paper has {dict(workload.counts)}.")
        print(f"{name}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}; in time, percent of S, M, L")
        for row, percent in workload.published.items():
            say(f"paper: {row}", dict(zip(SECONDS, (None if x is None else x / 100 for x in percent), strict=True)))
        say("ideal, L stops", ideal(trace, "L"))
        say("ideal, M and L stop", ideal(trace, "ML"))
        say("first come, bound behind running ones", of_run(simulate(mixed(None, max_ongoing=2), trace)))
        say("first come, bound late", of_run(simulate(mixed(None), trace)))
        say("our order, nobody yields", of_run(simulate(mixed(Rules(max_yields=0)), trace)))
        for hand_off_s in HAND_OFFS_S:
            run = simulate(mixed(Rules(hand_off_s=hand_off_s)), trace)
            shares = of_run(run)
            say(f"our order, a hand-off of {hand_off_s:g} s, {sum(run.yields)} yields", shares)
            if hand_off_s == HAND_OFFS_S[0]:
                figures |= {f"sim_attain_{kind.lower()}_{name}": share for kind, share in shares.items()}
                figures[f"sim_yields_{name}"] = sum(run.yields)
    return figures


def doubled_trace(seed: int) -> Trace:
    """The trident's phases at twice their rates: far more than eight GPUs can do."""
    known = WORKLOADS["trident"]
    phases = tuple(replace(phase, per_minute=2 * phase.per_minute) for phase in known.phases)
    return replace(known, phases=phases).trace("doubled", seed)


def doubled() -> dict[str, float]:
    """What a promise is worth where there is far too much to do."""
    traces = [doubled_trace(seed) for seed in _SEEDS]
    for refuses in (False, True):
        scenario = replace(mixed(Rules(), refuses=refuses), stages={"denoise": StageTimes(1.0, cv=0.1)})
        rows = [row for trace in traces for row in simulate(scenario, trace).rows]
        accepted = [row for row in rows if row.outcome != "refused"]
        kept = sum(row.latency_s <= DUE[row.kind] * SECONDS[row.kind] for row in accepted) / len(accepted)
        share = len(accepted) / len(rows)
        print(f"trident doubled, {share:.1%} of {len(rows)} videos accepted: {kept:.1%} of those in time", flush=True)
    return {"sim_kept_doubled": kept, "sim_accepted_doubled": share}


def say(row: str, shares: Mapping[str, float | None]) -> None:
    cells = ("-" if (share := shares.get(kind)) is None else f"{100 * share:.1f}" for kind in SECONDS)
    print(f"  {row:<44}" + "".join(f"{cell:>7}" for cell in cells), flush=True)
