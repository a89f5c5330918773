"""An accelerator that no profile has, by three numbers of its data sheet: an estimate from one that the profile has.

    B200=2250,8000,180      NAME=TFLOP/s (dense BF16), GB/s of its memory, GiB

Seconds are those of a known GPU times the larger of both ratios, for either may be what holds it up. Pure.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from cluster.planner.kinds import GoalError
from cluster.planner.profile_command import GPUS
from cluster.planner.profiles import AcceleratorProfile, Profile

_GB_S = {"H100": 3350.0, "A100": 2039.0, "H200": 4800.0, "L40S": 864.0, "A10G": 600.0}  # of the makers' data sheets
_FORM = "write it like B200=2250,8000,180: its name, dense BF16 TFLOP/s, GB/s of its memory, GiB"


def parse_gpu(text: str) -> tuple[str, tuple[float, float, float]]:
    """Name, TFLOP/s, GB/s and GiB.

    Raises:
        GoalError: another form, or numbers that no GPU has.
    """
    name, _, numbers = text.partition("=")
    try:
        tflops, gb_s, gib = (float(number) for number in numbers.split(","))
    except ValueError:
        raise GoalError(f"--gpu is {text!r}; {_FORM}.") from None
    if not name or not all(0 < number < math.inf for number in (tflops, gb_s, gib)):
        raise GoalError(f"--gpu is {text!r}; {_FORM}, each above 0 and finite.")
    return name, (tflops, gb_s, gib)


def judge_used(name: str, accelerators: Sequence[str], pools: Path) -> None:
    """Of the pools file.

    Raises:
        GoalError: no pool has it.
    """
    if name not in accelerators:
        found = ", ".join(sorted(set(accelerators)))
        raise GoalError(f"--gpu names {name}, but the pools of {pools} have {found}; add a pool, or leave it out.")


def with_gpu(profile: Profile, name: str, sheet: tuple[float, float, float]) -> Profile:
    """The same profile, with one accelerator more.

    Raises:
        GoalError: the profile has it already, or none that could be compared with it.
    """
    if name in profile.accelerators:
        raise GoalError(f"--gpu names {name}, which the profile of preset {profile.preset} has; leave it out.")
    known = [own for own in profile.accelerators if own in GPUS]
    if not known:
        raise GoalError(
            f"--gpu {name} cannot be compared: the profile of preset {profile.preset} has "
            f"{', '.join(profile.accelerators)}, and data sheets are known of {', '.join(GPUS)}; estimate one with "
            f"`python -m cluster profile --preset {profile.preset} --estimate`."
        )
    tflops, gb_s, gib = sheet
    nearest = min(known, key=lambda own: abs(math.log(GPUS[own].tflops / tflops)))
    slower = max(GPUS[nearest].tflops / tflops, _GB_S[nearest] / gb_s)
    stages = {
        stage: own.model_copy(
            update={
                "fixed_s": own.fixed_s * slower,
                "step_s": own.step_s * slower,
                "batch_s": None if own.batch_s is None else own.batch_s * slower,
            }
        )
        for stage, own in profile.accelerators[nearest].stages.items()
    }
    note = f"{name}: {slower:.2f} times the seconds of {nearest}, by TFLOP/s and GB/s. {profile.note}"
    accelerators = {**profile.accelerators, name: AcceleratorProfile(gib=gib, stages=stages)}
    return profile.model_copy(update={"kind": "estimate", "accelerators": accelerators, "note": note})
