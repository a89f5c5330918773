"""How fast a pipeline of stages could be at best: arithmetic, nothing measured.

Takes seconds and replicas of each stage; gives the shortest makespan that any schedule of a burst of jobs can have, and
the length of one job alone. V2V and VFI are called once a window: a job's windows may be on several replicas at once,
and VFI computes each as soon as it is there, so only VFI's last window lies behind V2V.

Knows nothing of Ray, HTTP or bytes: moving data is free here, which is why no real run reaches the bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from stages.types import STAGE_NAMES, StageName


@dataclass(frozen=True)
class Load:
    """One stage: seconds of one job on one replica, all of its calls together, and how many replicas there are."""

    run_s: float
    replicas: int = 1


def alone_s(loads: Mapping[StageName, Load], windows: int) -> float:
    """Seconds of one job on an idle pipeline, at the least: no replica of V2V or VFI is late, none does more."""
    rounds = ceil(windows / loads["v2v"].replicas)
    window_s = {name: loads[name].run_s / windows for name in ("v2v", "vfi")}
    redrawn_s = rounds * window_s["v2v"] + window_s["vfi"]  # V2V to its last window, and that one through VFI
    interpolated_s = window_s["v2v"] + ceil(windows / loads["vfi"].replicas) * window_s["vfi"]
    return loads["t2i"].run_s + loads["i2v"].run_s + max(redrawn_s, interpolated_s)


def burst_s(loads: Mapping[StageName, Load], windows: int, jobs: int) -> float:
    """The shortest makespan of `jobs` jobs that are all there at once.

    Whatever the order, the replicas of a stage must do all of its work, cannot begin before the first job reached it,
    and behind the last call the rest of that job's way remains. The largest of these sums over the stages.
    """
    whole_s = {name: loads[name].run_s for name in STAGE_NAMES}
    window_s = {name: whole_s[name] / windows for name in ("v2v", "vfi")}
    head_s: dict[StageName, float] = {
        "t2i": 0.0,
        "i2v": whole_s["t2i"],
        "v2v": whole_s["t2i"] + whole_s["i2v"],
        "vfi": whole_s["t2i"] + whole_s["i2v"] + window_s["v2v"],
    }
    tail_s: dict[StageName, float] = {
        "t2i": alone_s(loads, windows) - whole_s["t2i"],
        "i2v": alone_s(loads, windows) - whole_s["t2i"] - whole_s["i2v"],
        "v2v": window_s["vfi"],
        "vfi": 0.0,
    }

    def through_s(name: StageName) -> float:
        calls = windows if name in window_s else 1
        rounds = ceil(jobs * calls / loads[name].replicas)
        return head_s[name] + rounds * whole_s[name] / calls + tail_s[name]

    return max(alone_s(loads, windows), *(through_s(name) for name in STAGE_NAMES))
