"""From what a journal told back to the planner: a profile with the seconds that were seen, and the rates that came.

A stage's seconds in the profile, on every accelerator, are multiplied by what was seen over what the profile says of
the same videos where the stage is served. So one served accelerator corrects the others, too; it says so in the note.
Pure.
"""

import math
import statistics
from collections import Counter

from cluster.calibration.journal import Learnt
from cluster.calibration.what_if import Split, pool_of
from cluster.experiments.spec import ExperimentError
from cluster.planner.kinds import GoalError, Kind, loads_of, stay
from cluster.planner.profiles import AcceleratorProfile, Profile
from cluster.pools.file import PoolFile
from stages.types import STAGE_NAMES, StageName


def fitted_to(learnt: Learnt, base: Profile, split: Split, file: PoolFile | None) -> Profile:
    """The profile, corrected.

    Raises:
        ExperimentError: it is not known on which accelerators the stages are served.
    """
    homes = {stage: learnt.hosts.get(stage, stage) for stage in STAGE_NAMES}
    by = {
        name: _seen_over_said(name, learnt, base, _served_on(home, base, split, file)) for name, home in homes.items()
    }
    accelerators = {}
    for name, device in base.accelerators.items():
        stages = {
            stage: own
            if by[stage] is None
            else own.model_copy(
                update={
                    "fixed_s": round(own.fixed_s * float(by[stage] or 1), 6),
                    "step_s": round(own.step_s * float(by[stage] or 1), 6),
                    "batch_s": None if own.batch_s is None else round(own.batch_s * float(by[stage] or 1), 6),
                    "cv": round(learnt.stages[stage].cv, 4),
                }
            )
            for stage, own in device.stages.items()
        }
        accelerators[name] = AcceleratorProfile(gib=device.gib, stages=stages)
    seen = ", ".join(f"{stage} {factor:.2f}" for stage, factor in by.items() if factor is not None)
    note = f"Seconds times what a journal of {len(learnt.trace.arrivals)} videos showed: {seen}. {base.note}"
    return base.model_copy(update={"accelerators": accelerators, "note": note})


def rates_of(learnt: Learnt) -> list[str]:
    """What came, as `plan --rate` takes it; the most frequent kind first."""
    counts, hours = Counter(own.kind for own in learnt.trace.arrivals), max(learnt.trace.span_s, 1.0) / 3600
    found = []
    for kind, count in counts.most_common():
        size, seconds, *_ = kind.split()
        path = learnt.paths[kind]
        entering = f",from={path[0]}" if path[0] != STAGE_NAMES[0] else ""
        leaving = f",until={path[-1]}" if path[-1] != STAGE_NAMES[-1] else ""
        found.append(f"{count / hours:.3g}/h,size={size},seconds={seconds.removesuffix('s')}{entering}{leaving}")
    return found


def _served_on(stage: str, base: Profile, split: Split, file: PoolFile | None) -> str:
    if len(base.accelerators) == 1:
        return next(iter(base.accelerators))
    if file is None:
        raise ExperimentError(
            f"--fit needs --pools, to know on which of {', '.join(base.accelerators)} stage {stage} is served."
        )
    pools = split.get(stage, {})
    accelerator = pool_of(stage, max(pools, key=lambda name: pools[name]), file).accelerator
    base.on(accelerator)
    return accelerator


def _seen_over_said(stage: StageName, learnt: Learnt, base: Profile, accelerator: str) -> float | None:
    """None where no job passed the stage."""
    own, counts = base.on(accelerator).stages[stage], Counter(arrival.kind for arrival in learnt.trace.arrivals)
    ratios, weights = list[float](), list[float]()
    for kind, factors in learnt.factors.items():
        if stage not in factors or not counts[kind]:
            continue
        size, seconds, *_ = kind.split()
        try:
            loads = loads_of(base.preset, size, seconds.removesuffix("s"))
        except GoalError:
            continue  # a size that the preset had once
        said = stay(Kind(loads=loads), stage, own).job_s
        if said > 0:
            ratios.append(learnt.stages[stage].mean_s * factors[stage] / said)
            weights.append(counts[kind])
    if not ratios:
        return None
    found = statistics.fmean(ratios, weights)
    return found if 0 < found < math.inf else None
